"""A thousand connectors on schedules, one daemon: is any slot lost or late?

`python -m benchmarks.startup.schedules [--quick] [--real]` prints one JSON object. 700 connectors are
due hourly, at offsets spread over the hour, and 300 every minute. With `--real` all are hourly.
Without `--real`, runs succeed at once without any work (`stub_launcher`), because two cores can't do
300 real runs a minute. Everything else is as shipped. With `--real`, runs load ten rows for each of
ten resources.

Lateness is the time from a slot to the creation of its run. A slot is lost if it has no run a minute
after it is due.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from benchmarks.startup.connectors import RESOURCES, write_connectors
from benchmarks.startup.live import ROOT, Live, dagster_dev
from benchmarks.startup.tiny_api import tiny_api

__all__ = ["main", "measure"]

CONNECTORS = 1000
EVERY_MINUTE = 300
_GRACE = timedelta(minutes=1)
_LAUNCHER = """run_launcher:
  module: benchmarks.startup.stub_launcher
  class: StubLauncher
"""


def measure(*, minutes: int, real: bool, connectors: int, every_minute: int) -> dict[str, Any]:
    """Return the figures of this number of whole minutes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        api = stack.enter_context(tiny_api())
        write_connectors(
            folder / "configs", connectors, base_url=api, every_minute=0 if real else every_minute
        )
        instance = stack.enter_context(_instance(folder, real=real))
        _materialize_all(instance, connectors)
        arguments = ["--workspace", "workspace.yaml"]
        live = stack.enter_context(dagster_dev(folder, arguments, {"API_TOKEN": "token"}))
        begin = _next_minute()
        _wait_until(begin)
        before = _cpu_by_process(live)
        end = begin + timedelta(minutes=minutes)
        _wait_until(end)
        used = _cpu_by_process(live)
        _wait_until(end + _GRACE)
        figures = _figures(instance, folder, begin, end)
        figures["cpu_by_process"] = {
            name: round(seconds - before.get(name, 0.0), 1) for name, seconds in used.items()
        }
    return {
        "case": "schedules",
        "real_runs": real,
        "minutes": minutes,
        "contestants": {"ours": figures},
    }


def _instance(folder: Path, *, real: bool) -> Any:
    home = folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "workspace.yaml", folder)
    shipped = (ROOT / ".dagster" / "dagster.yaml").read_text()
    if not real:
        lines = shipped.splitlines(keepends=True)
        start = lines.index("run_launcher:\n")
        shipped = "".join([*lines[:start], _LAUNCHER, *lines[start + 3 :]])
    (home / "dagster.yaml").write_text(shipped)
    return dg.DagsterInstance.from_config(str(home))


def _materialize_all(instance: dg.DagsterInstance, connectors: int) -> None:
    """Record a materialization of each asset. Without it, a first run of each connector is due."""
    for index in range(connectors):
        for number in range(RESOURCES):
            key = dg.AssetKey([f"api_{index:04d}", f"things_{number}"])
            instance.report_runless_asset_event(dg.AssetMaterialization(key))


def _next_minute() -> datetime:
    """Return the whole minute after the next one. By then the daemon has evaluated every schedule once."""
    now = datetime.now(UTC)
    return now.replace(second=0, microsecond=0) + timedelta(minutes=2)


def _wait_until(moment: datetime) -> None:
    while (left := (moment - datetime.now(UTC)).total_seconds()) > 0:
        print(f"{left:.0f} s until {moment:%H:%M:%S}", file=sys.stderr, flush=True)
        time.sleep(min(left, 60))  # it waits for the clock


def _cpu_by_process(live: Live) -> Mapping[str, float]:
    found: dict[str, float] = defaultdict(float)
    for process in live.processes():
        try:
            command = " ".join(process.cmdline())
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[_kind(command)] += (
            times.user + times.system + times.children_user + times.children_system
        )
    return found


def _kind(command: str) -> str:
    kinds = ("fork_server", "dagster._daemon", "dagster_webserver", "api grpc", "code-server")
    return next((kind for kind in kinds if kind in command), "other")


def _figures(
    instance: dg.DagsterInstance, folder: Path, begin: datetime, end: datetime
) -> dict[str, Any]:
    runs = _runs_by_slot(instance, begin)
    late: list[float] = []
    lost: list[str] = []
    for name, slot in _due(folder, begin, end):
        created = runs.get((name, slot))
        if created is None:
            lost.append(f"{name} {slot}")
        else:
            late.append(created - datetime.fromisoformat(slot).timestamp())
    late.sort()
    return {
        "slots": len(late) + len(lost),
        "lost": len(lost),
        "examples_lost": lost[:5],
        "late_over_60_s": sum(seconds > 60 for seconds in late),
        "late_median_s": round(late[len(late) // 2], 1) if late else None,
        "late_p99_s": round(late[int(len(late) * 0.99)], 1) if late else None,
        "late_max_s": round(late[-1], 1) if late else None,
        "runs": dict(_statuses(instance, begin)),
        "ticks": dict(_ticks(instance, begin, end)),
    }


def _due(folder: Path, begin: datetime, end: datetime) -> Iterator[tuple[str, str]]:
    """Return every slot from `begin` (inclusive) to `end` (exclusive), calculated from the files."""
    for path in sorted((folder / "configs").iterdir()):
        value = json.loads(path.read_text())
        moment = begin
        while moment < end:
            schedule = value["schedule"]
            if schedule["mode"] == "minutes" or moment.minute == schedule["offset"]:
                yield value["name"], moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            moment += timedelta(minutes=1)


def _runs_by_slot(instance: dg.DagsterInstance, begin: datetime) -> dict[tuple[str, str], float]:
    filters = dg.RunsFilter(created_after=begin - timedelta(minutes=1))
    return {
        (
            record.dagster_run.tags["restsource/connector"],
            record.dagster_run.tags["restsource/slot"],
        ): record.create_timestamp.replace(tzinfo=UTC).timestamp()
        for record in instance.get_run_records(filters)
        if "restsource/slot" in record.dagster_run.tags
    }


def _statuses(instance: dg.DagsterInstance, begin: datetime) -> Counter[str]:
    filters = dg.RunsFilter(created_after=begin)
    return Counter(run.status.value for run in instance.get_runs(filters))


def _ticks(instance: dg.DagsterInstance, begin: datetime, end: datetime) -> Counter[str]:
    found: Counter[str] = Counter()
    for state in instance.all_instigator_state():
        if state.instigator_name.endswith("_schedule"):
            for tick in instance.get_ticks(
                state.instigator_origin_id,
                state.selector_id,
                after=begin.timestamp() - 1,
                before=end.timestamp(),
            ):
                found[tick.status.value] += 1
                if tick.skip_reason:
                    found["skipped: " + _without_numbers(tick.skip_reason)] += 1
    return found


def _without_numbers(reason: str) -> str:
    return " ".join(word for word in reason.split() if not any(c.isdigit() for c in word))[:60]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes")
    parser.add_argument("--minutes", type=int, default=12)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--connectors", type=int, default=CONNECTORS)
    parser.add_argument("--every-minute", type=int, default=EVERY_MINUTE)
    given = parser.parse_args()
    figures = measure(
        minutes=2 if given.quick else given.minutes,
        real=given.real,
        connectors=given.connectors,
        every_minute=given.every_minute,
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
