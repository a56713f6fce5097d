"""Ten rows through the daemon, from the run's creation to its success: this and a stock project.

`python -m benchmarks.startup.small_run [--quick] [--launchers]` prints one JSON object. Each project
runs in a `dagster dev` of its own, and only the measured one is busy. Runs are launched in turns, as
the UI does it. The stock project has Dagster's defaults: an empty `dagster.yaml`, the multiprocess
executor. The first run of each is not counted.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.startup.live import ROOT, Live, dagster_dev
from benchmarks.startup.tiny_api import tiny_api

__all__ = ["main", "measure", "once"]

_LAUNCH = """
mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on PythonError { message }
} }
"""
_RUN = """
query($id: ID!) { runOrError(runId: $id) {
  ... on Run { status creationTime startTime endTime }
} }
"""
_PLACE = "{repositoriesOrError{... on RepositoryConnection{nodes{name location{name}}}}}"
_LOOK_AGAIN_SECONDS = 0.05
_OVER = ("SUCCESS", "FAILURE", "CANCELED")
_AT_REST_SECONDS = 2.0
"""Seconds between two runs, so that work left over from a run does not count for the next one."""

Sample = Mapping[str, float]


def measure(*, rounds: int, launchers: bool) -> dict[str, Any]:
    """Return the figures. `launchers` adds this project with Dagster's own launcher."""
    samples: dict[str, list[Sample]] = {}
    with ExitStack() as stack:
        api = stack.enter_context(tiny_api())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        lives = {"ours": stack.enter_context(_ours(folder / "ours", api))}
        if launchers:
            lives["ours, Dagster's launcher"] = stack.enter_context(
                _ours(folder / "cold", api, launcher=False)
            )
        lives["stock @dlt_assets"] = stack.enter_context(_stock(folder / "stock", api))
        for number in range(rounds + 1):
            for name, live in lives.items():
                time.sleep(_AT_REST_SECONDS)
                sample = _run(live)
                print(name, number, sample, file=sys.stderr, flush=True)
                if number:
                    samples.setdefault(name, []).append(sample)
    return {"case": "small_run", "rounds": rounds, "contestants": _summary(samples)}


def once(folder: Path, *, stock: bool) -> Sample:
    """Return the figures of a project's second run, in a `dagster dev` that does nothing else."""
    with tiny_api() as api:
        opened = _stock if stock else _ours
        with opened(folder / "project", api) as live:
            _run(live)
            time.sleep(_AT_REST_SECONDS)
            return _run(live)


def _ours(folder: Path, api: str, *, launcher: bool = True) -> Any:
    (folder / "configs").mkdir(parents=True)
    (folder / "home").mkdir()
    endpoint = {"path": "things", "data_selector": "data", "paginator": "single_page"}
    connector = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": api},
        "resources": [{"name": "things", "primary_key": "id", "endpoint": endpoint}],
    }
    (folder / "configs" / "shop.json").write_text(json.dumps(connector))
    shutil.copy(ROOT / "workspace.yaml", folder)
    shipped = (ROOT / ".dagster" / "dagster.yaml").read_text()
    if not launcher:
        shipped = shipped.replace("\nrun_launcher:", "\n_unused: &unused")
        shipped = _without_launcher(shipped)
    (folder / "home" / "dagster.yaml").write_text(shipped)
    return dagster_dev(folder, ["--workspace", "workspace.yaml"], {})


def _without_launcher(text: str) -> str:
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("_unused:"))
    end = next(n for n in range(start + 1, len(lines)) if not lines[n].startswith(" "))
    return "\n".join(lines[:start] + lines[end:]) + "\n"


def _stock(folder: Path, api: str) -> Any:
    (folder / "home").mkdir(parents=True)
    (folder / "home" / "dagster.yaml").touch()
    shutil.copy(Path(__file__).with_name("stock_project.py"), folder)
    variables = {"API": api, "DLT_DATA_DIR": str(folder / "dlt")}
    return dagster_dev(folder, ["-f", "stock_project.py"], variables)


def _run(live: Live) -> Sample:
    node = live.ask(_PLACE)["repositoriesOrError"]["nodes"][0]
    selector = {
        "repositoryName": node["name"],
        "repositoryLocationName": node["location"]["name"],
        "jobName": "shop_job",
    }
    before = live.cpu_seconds()
    told = live.ask(_LAUNCH, p={"selector": selector, "mode": "default"})["launchRun"]
    if "run" not in told:
        raise RuntimeError(f"the run was not launched: {told}")
    while True:
        run = live.ask(_RUN, id=told["run"]["runId"])["runOrError"]
        if run["status"] in _OVER:
            break
        time.sleep(_LOOK_AGAIN_SECONDS)  # GraphQL subscriptions need a client of their own
    if run["status"] != "SUCCESS":
        raise RuntimeError(f"the run ended as {run['status']}: see {live.folder}")
    return {
        "created_to_success": run["endTime"] - run["creationTime"],
        "created_to_start": run["startTime"] - run["creationTime"],
        "start_to_success": run["endTime"] - run["startTime"],
        "cpu": live.cpu_seconds() - before,
    }


def _summary(samples: Mapping[str, list[Sample]]) -> dict[str, Any]:
    return {
        name: {
            key: {
                "median": statistics.median(one[key] for one in taken),
                "min": min(one[key] for one in taken),
                "max": max(one[key] for one in taken),
            }
            for key in taken[0]
        }
        for name, taken in samples.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--launchers", action="store_true")
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    print(json.dumps(measure(rounds=rounds, launchers=given.launchers), indent=2))


if __name__ == "__main__":
    main()
