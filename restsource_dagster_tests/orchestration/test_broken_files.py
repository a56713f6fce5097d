from pathlib import Path

import dagster as dg
import pytest

from restsource_dagster.connector.loader import LoadedFile, load_file
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster.orchestration.sensors.watch_files import (
    MAX_PROBLEMS_SHOWN,
    BrokenFilesError,
    build_broken_files_sensor,
)


def broken(path: Path, content: str) -> LoadedFile:
    path.write_text(content)
    loaded = load_file(path)
    assert loaded.connector is None
    return loaded


def test_the_tick_fails_with_every_problem_of_every_broken_file(tmp_path: Path) -> None:
    files = [
        broken(tmp_path / "shop.json", '{"schedule": {"mode": "hourly"}, "clients": {}}'),
        broken(tmp_path / "what is this?.json", "{"),
    ]

    with pytest.raises(BrokenFilesError) as error:
        build_broken_files_sensor(files).evaluate_tick(dg.build_sensor_context())

    told = str(error.value).splitlines()
    assert told[0] == (
        "2 connector files have errors and are not loaded. Other connectors are unaffected."
    )
    assert told[1:] == [problem.as_text() for file in files for problem in file.problems]


def test_without_broken_files_it_skips() -> None:
    data = build_broken_files_sensor([]).evaluate_tick(dg.build_sensor_context())

    assert data.skip_message == "No connector file has errors."


def test_thousands_of_problems_are_cut_short(tmp_path: Path) -> None:
    problems = tuple(
        Problem(tmp_path / "shop.json", line, 1, "", "wrong")
        for line in range(1, MAX_PROBLEMS_SHOWN + 5)
    )

    with pytest.raises(BrokenFilesError) as error:
        build_broken_files_sensor([LoadedFile(tmp_path, None, problems)])(dg.build_sensor_context())

    told = str(error.value).splitlines()
    assert len(told) == MAX_PROBLEMS_SHOWN + 2
    assert told[-1] == "... and 4 more: see `restsource check`"


def test_it_is_switched_on_has_the_fixed_name_and_does_not_fail_too_often() -> None:
    sensor = build_broken_files_sensor([])

    assert sensor.name == "restsource_broken_configs"
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert (sensor.minimum_interval_seconds or 0) >= 60
