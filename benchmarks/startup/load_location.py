"""A thousand connectors of ten resources: the load of their code location, and `restsource check`.

`python -m benchmarks.startup.load_location [--quick]` prints one JSON object. This project is
compared with the same number of bare asset specs in the same number of multi-assets, with a job and
a schedule for each. Each measurement is a process of its own, from its start to the last definition.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.processes import clean_environment, run_measured
from benchmarks.startup.connectors import write_connectors
from benchmarks.startup.live import ROOT

__all__ = ["check_all", "check_one", "load_bare", "load_ours", "main", "measure"]

_LIMIT_SECONDS = 600
_OURS = """
from restsource_dagster.definitions import defs
repository = defs().get_repository_def()
repository.load_all_definitions()
assert len(repository.schedule_defs) == {number}
"""
_BARE = """
import dagster as dg

def make(name):
    keys = [dg.AssetKey([name, f"things_{{n}}"]) for n in range(10)]
    deps = {{4: [keys[3]], 9: [keys[8]]}}
    specs = [dg.AssetSpec(key, deps=deps.get(n, []), group_name=name) for n, key in enumerate(keys)]
    @dg.multi_asset(name=name, specs=specs, can_subset=True)
    def load(context): ...
    job = dg.define_asset_job(f"{{name}}_job", selection=dg.AssetSelection.assets(*keys))
    return load, job

made = [make(f"api_{{index:04d}}") for index in range({number})]
schedules = [
    dg.ScheduleDefinition(job=job, cron_schedule=f"{{index % 60}} * * * *")
    for index, (_, job) in enumerate(made)
]
definitions = dg.Definitions(
    assets=[assets for assets, _ in made],
    jobs=[job for _, job in made],
    schedules=schedules,
    executor=dg.in_process_executor,
)
definitions.get_repository_def().load_all_definitions()
"""
_CHECK = "from restsource_dagster.cli import main; assert main(['check', '-q', 'configs']) == 0"
_ONE = (
    "from restsource_dagster.cli import main; assert main(['check', 'configs/api_0000.json']) == 0"
)

Sample = Mapping[str, float]


def load_ours(folder: Path, number: int) -> Sample:
    """Load this number of connectors."""
    write_connectors(folder / "configs", number)
    return _python(folder, _OURS.format(number=number))


def load_bare(folder: Path, number: int) -> Sample:
    """Load the same number of bare asset specs."""
    return _python(folder, _BARE.format(number=number))


def check_all(folder: Path, number: int) -> Sample:
    """Check this number of files."""
    write_connectors(folder / "configs", number)
    return _python(folder, _CHECK)


def check_one(folder: Path) -> Sample:
    """Check one file. `beyond_python` is the time that it takes longer than an empty program."""
    write_connectors(folder / "configs", 1)
    empty, checked = _python(folder, "pass"), _python(folder, _ONE)
    return {**checked, "beyond_python": checked["wall"] - empty["wall"]}


def measure(*, rounds: int, number: int) -> dict[str, Any]:
    """Return the figures for this number of connectors."""
    samples: dict[str, list[Sample]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        write_connectors(folder / "configs", number)
        contestants: dict[str, Callable[[], Sample]] = {
            "ours": lambda: _python(folder, _OURS.format(number=number)),
            "bare asset specs": lambda: _python(folder, _BARE.format(number=number)),
            "restsource check of all": lambda: _python(folder, _CHECK),
            "restsource check of one": lambda: _python(folder, _ONE),
            "python -c pass": lambda: _python(folder, "pass"),
        }
        for run in contestants.values():  # compiles modules that aren't compiled yet
            run()
        for index in range(rounds):
            for contestant, run in contestants.items():
                sample = run()
                print(contestant, index, sample, file=sys.stderr, flush=True)
                samples.setdefault(contestant, []).append(sample)
    return {
        "case": "load_location",
        "connectors": number,
        "rounds": rounds,
        "contestants": {name: _spread(taken) for name, taken in samples.items()},
    }


def _python(folder: Path, code: str) -> Sample:
    environment = clean_environment({"PYTHONPATH": str(ROOT)})
    command = [sys.executable, "-c", code]
    ended = run_measured(command, folder=folder, environment=environment, limit=_LIMIT_SECONDS)
    if ended.code != 0:
        raise subprocess.CalledProcessError(ended.code, command, ended.output)
    return ended.cost


def _spread(taken: list[Sample]) -> dict[str, Any]:
    return {
        key: {
            "median": statistics.median(one[key] for one in taken),
            "min": min(one[key] for one in taken),
            "max": max(one[key] for one in taken),
        }
        for key in taken[0]
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connectors", type=int, default=1000)
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    print(json.dumps(measure(rounds=rounds, number=given.connectors), indent=2))


if __name__ == "__main__":
    main()
