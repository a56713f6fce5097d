"""The benchmarks of what comes before the first row."""

import subprocess
import sys
from pathlib import Path

import pytest
import requests

from benchmarks.cases.startup import sample_of
from benchmarks.registry import all_cases
from benchmarks.startup.connectors import RESOURCES, write_connectors
from benchmarks.startup.tiny_api import tiny_api
from restsource_dagster.connector.loader import load_folder
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]


def listed(*arguments: str) -> tuple[int, list[str]]:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--list", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, [line.split()[0] for line in ended.stdout.splitlines()]


def test_the_name_of_a_group_asks_for_all_its_cases() -> None:
    assert listed("--only", "startup") == (
        0,
        ["startup_run", "startup_load", "startup_schedules"],
    )
    assert listed("--only", "startup_load", "modes") == (0, ["modes", "startup_load"])
    assert listed("--only", "start") == (2, [])


def test_the_process_that_measures_others_is_small() -> None:
    code = "import sys, benchmarks.__main__; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"dagster", "dlt", "pyarrow", "pydantic"} & set(ended.stdout.split())


def test_a_quick_look_leaves_out_what_takes_minutes_whatever_the_size() -> None:
    quick, full = ({case.name for case in all_cases(quick=quick)} for quick in (True, False))
    assert full - quick == {"startup_schedules"}


def test_the_connectors_are_sound_and_only_the_first_ones_are_due_every_minute(
    tmp_path: Path,
) -> None:
    write_connectors(tmp_path, 5, every_minute=2)
    loaded = load_folder(tmp_path)
    assert loaded.problems == ()
    assert [connector.schedule.mode for connector in loaded.connectors] == [
        *["minutes"] * 2,
        *["hours"] * 3,
    ]
    assert {len(connector.resources) for connector in loaded.connectors} == {RESOURCES}


@pytest.mark.parametrize("late", [{"late_median_s": 3.5, "late_max_s": 8.0}, None])
def test_cpu_is_told_for_each_slot_and_lateness_where_there_is_any(
    late: dict[str, float] | None,
) -> None:
    ours = {
        "slots": 100,
        "lost": 0 if late else 100,
        "cpu_by_process": {"dagster._daemon": 6.0, "api grpc": 2.0},
        "late_median_s": late and late["late_median_s"],
        "late_max_s": late and late["late_max_s"],
    }
    sample = sample_of({"contestants": {"ours": ours}})
    told = {"late_median": 3.5, "late_max": 8.0} if late else {}
    assert sample == {
        "slots": 100,
        "lost": ours["lost"],
        "daemon_cpu": 0.06,
        "slot_cpu": 0.08,
        **told,
    }


def test_the_tiny_api_answers_ten_rows_whatever_is_asked() -> None:
    with tiny_api() as address:
        assert (
            len(requests.get(f"{address}any/thing", timeout=PATIENCE_SECONDS).json()["data"]) == 10
        )
