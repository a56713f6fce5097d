"""The state and the schema that count are the last ones written, whatever the clocks said."""

from typing import Any

import dlt
import pytest

from restsource_dagster.engine.destination.stored_state import check_clock
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query, writing
from restsource_dagster_tests.servers.api import ApiServer

A_DAY = 86_400
EVENTS = {
    "name": "events",
    "endpoint": {
        "data_selector": "$",
        "paginator": "single_page",
        "incremental": {"cursor_path": "n", "initial_value": 0},
    },
}


def run(api: ApiServer, settings: Settings, last: int, **hints: Any) -> Outcome:
    api.answers["/events"] = [{"n": n} for n in range(1, last + 1)]
    outcome = load(make_connector(api.url, {**EVENTS, **hints}), settings)["events"]
    assert outcome.failure is None, outcome.failure
    return outcome


def move_last_load(settings: Settings, seconds: int) -> None:
    """Make the last load one of a machine whose clock is ahead by so many seconds."""
    with writing(settings) as connection:
        [[last]] = connection.execute("SELECT max(load_id) FROM shop._dlt_loads").fetchall()
        other = str(float(last) + seconds)
        for table, column in (
            ("_dlt_loads", "load_id"),
            ("_dlt_pipeline_state", "_dlt_load_id"),
            ("events", "_dlt_load_id"),
        ):
            connection.execute(
                f"UPDATE shop.{table} SET {column} = ? WHERE {column} = ?", [other, last]
            )
        connection.execute(
            "UPDATE shop._dlt_version SET inserted_at = inserted_at + to_seconds(?) "
            "WHERE version = (SELECT max(version) FROM shop._dlt_version)",
            [seconds],
        )


@pytest.mark.parametrize("seconds", [300, A_DAY])
def test_rows_are_appended_once_after_a_run_whose_clock_was_ahead(
    api: ApiServer, settings: Settings, seconds: int
) -> None:
    run(api, settings, 2)
    move_last_load(settings, seconds)
    for last in (4, 4, 6):
        run(api, settings, last)
    rows = query(settings, "SELECT n FROM shop.events ORDER BY 1")
    assert rows == [(n,) for n in range(1, 7)]


def test_a_state_in_the_middle_that_looks_newest_does_not_count(
    api: ApiServer, settings: Settings
) -> None:
    for last in (1, 2):
        run(api, settings, last)
    move_last_load(settings, A_DAY)
    run(api, settings, 3)
    move_last_load(settings, 2 * A_DAY)  # dlt wrote it as the newest, a day before the other
    run(api, settings, 4)
    assert query(settings, "SELECT n FROM shop.events ORDER BY 1") == [(1,), (2,), (3,), (4,)]


def test_the_schema_that_was_written_last_counts(api: ApiServer, settings: Settings) -> None:
    run(api, settings, 1)
    move_last_load(settings, A_DAY)
    api.answers["/events"] = [{"n": 2, "x": 1}]
    load(make_connector(api.url, EVENTS), settings)
    # by the first schema `x` would be new, and a text
    api.answers["/events"] = [{"n": 3, "x": "a"}]
    outcome = load(make_connector(api.url, EVENTS), settings)["events"]
    assert outcome.failure is None
    assert outcome.schema_changes == (
        "column events.x__v_text (text) is new: values of x that are not bigint",
    )


def test_a_setting_that_comes_and_goes_is_told_once(api: ApiServer, settings: Settings) -> None:
    hint = {"columns": {"n": {"description": "a number"}}}
    told = [
        run(api, settings, last, **hints).schema_changes
        for last, hints in enumerate(({}, hint, {}, {}), 1)
    ]
    assert told[1:] == [
        (),
        ("description of events.n is no longer in the file, and no longer in force",),
        (),
    ]


def test_files_that_were_written_in_the_future_are_refused(settings: Settings) -> None:
    pipeline = dlt.pipeline(
        "shop",
        pipelines_dir=str(settings.state_dir / "dlt"),
        destination=dlt.destinations.filesystem((settings.data_dir / "bucket").as_uri()),
    )
    check_clock(pipeline)
    info = pipeline.run([{"n": 1}], table_name="events")
    written = float(info.loads_ids[0])
    check_clock(pipeline, written + 1)
    with pytest.raises(IngestError, match=r"later than the clock of this machine"):
        check_clock(pipeline, written - 1)
