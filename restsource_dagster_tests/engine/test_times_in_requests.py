"""How a cursor is sent otherwise than rows spell it, and times relative to the start of a run."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.engine.windowed import (
    KEYED,
    Events,
    day,
    event,
    load_window,
    stored,
    window_of,
)
from restsource_dagster_tests.making import load, make_connector
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.servers.faults import FaultServer

START = datetime(2026, 11, 27, 10, 0, 30, tzinfo=UTC)
SECONDS = {day(n): str(1704067200 + (n - 1) * 86400) for n in range(1, 10)}


def run(connector: Connector, settings: Settings) -> dict[str, Outcome]:
    outcomes = ingest(connector, settings=settings, environment={}, started=START)
    return {outcome.resource: outcome for outcome in outcomes}


@pytest.mark.parametrize("mode", ["rows", "auto"])
def test_rows_in_iso_and_an_api_in_epoch_seconds(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    events = Events(api, event(1, day(1)), event(2, day(2)))
    connector = events.connector(cursor={"convert": "epoch_seconds"}, mode=mode, **KEYED)
    load(connector, settings)
    events.rows.append(event(3, day(3)))
    outcome = load(connector, settings)["events"]
    assert events.requested_ranges == [(SECONDS[day(1)], None), (SECONDS[day(2)], None)]
    assert outcome.cursor is not None
    assert (outcome.cursor.start_value, outcome.cursor.last_value) == (day(2), day(3))
    assert outcome.cursor.lag_seconds is not None
    assert stored(settings) == [1, 2, 3]


def test_a_lag_is_taken_off_before_the_cursor_is_converted(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(3, day(3)))
    cursor = {"convert": "epoch_seconds", "lag": 86400}
    connector = events.connector(cursor=cursor, **KEYED)
    load(connector, settings)
    load(connector, settings)
    assert events.requested_ranges[-1] == (SECONDS[day(2)], None)


@pytest.mark.parametrize("more", [{}, KEYED], ids=["append", "merge"])
def test_a_window_sends_both_ends_converted_and_loads_the_rows_between_them(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, *(event(n, day(n)) for n in range(1, 6)))
    connector = events.connector(cursor={"convert": "epoch_seconds"}, **more)
    load(connector, settings)
    outcome = load_window(connector, settings, window_of(day(2), day(4)))["events"]
    assert events.requested_ranges[-1] == (SECONDS[day(2)], SECONDS[day(4)])
    assert (outcome.failure, outcome.rows_loaded) == (None, 2)
    assert stored(settings) == [1, 2, 3, 4, 5]


def test_the_end_of_a_window_is_rounded_up_so_that_no_row_is_missed(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, day(2, 3)), event(2, day(3, 5)), event(3, day(3, 7)))
    connector = events.connector(cursor={"convert": "date"}, **KEYED)
    load_window(connector, settings, window_of(day(2, 1), day(3, 6)))
    assert events.requested_ranges == [("2024-01-02", "2024-01-04")]
    assert stored(settings) == [1, 2]


def test_a_placeholder_writes_the_cursor_in_one_place_only(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/issues"] = [{"id": 1, "updated": "2026-11-27T10:30:00.000+0100"}]
    jql = 'updated >= "{incremental.start_value:%Y-%m-%d %H:%M}" ORDER BY updated'
    incremental = {
        "cursor_path": "updated",
        "initial_value": "2020-01-01T00:00:00Z",
        "timezone": "Europe/Berlin",
        "start_param": "since",
    }
    endpoint = {"params": {"jql": jql}, "incremental": incremental}
    connector = make_connector(api.url, {"name": "issues", "endpoint": endpoint, **KEYED})
    load(connector, settings)
    load(connector, settings)
    assert [(seen.query["jql"], seen.query["since"]) for seen in api.seen] == [
        ('updated >= "2020-01-01 01:00" ORDER BY updated', "2020-01-01T00:00:00Z"),
        ('updated >= "2026-11-27 10:30" ORDER BY updated', "2026-11-27T10:30:00.000+0100"),
    ]


def test_a_cursor_that_is_no_time_can_not_be_converted(api: ApiServer, settings: Settings) -> None:
    events = Events(api, event(1, "first"))
    connector = events.connector(cursor={"convert": "date", "initial_value": None}, **KEYED)
    load(connector, settings)
    failure = load(connector, settings)["events"].failure
    assert failure is not None
    assert '"first" is no time, so it can\'t be written as `date`' in failure.message


def test_relative_times_are_those_of_the_start_of_the_run_in_each_place(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/at/2026-11-27T10:00:30Z"] = [{"id": 1}]
    endpoint = {
        "path": "at/{now}",
        "method": "POST",
        "params": {"from": "{now-30d:epoch_seconds}", "day": "{today-1mo:%d.%m.%Y}"},
        "headers": {"X-Until": "until {today}"},
        "json": {"from": "{now:epoch_milliseconds}", "text": "{now-1h}"},
    }
    connector = make_connector(api.url, {"name": "items", "endpoint": endpoint})
    outcome = run(connector, settings)["items"]
    [seen] = api.seen
    assert (outcome.failure, outcome.now) == (None, START)
    assert seen.query == {"from": "1793181630", "day": "27.10.2026"}
    assert seen.headers["x-until"] == "until 2026-11-27"
    assert json.loads(seen.body) == {"from": 1795773630000, "text": "2026-11-27T09:00:30Z"}


def test_all_pages_and_families_of_a_run_have_the_same_now(
    api: ApiServer, settings: Settings
) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.query["page"])
        return [{"id": number}] if number < 4 else []

    names = ("a", "b", "c")
    api.answers.update({f"/{name}": answer for name in names})
    paginator = {"type": "page_number", "total_path": None}
    endpoint = {"params": {"at": "{now:%H:%M:%S.%f}"}, "paginator": paginator}
    resources = [{"name": name, "endpoint": {**endpoint, "path": name}} for name in names]
    outcomes = load(make_connector(api.url, *resources), settings)
    assert {outcome.rows_loaded for outcome in outcomes.values()} == {4}
    assert len({seen.query["at"] for seen in api.seen}) == 1


def test_a_relative_start_and_end_make_a_window_that_moves_with_each_run(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, "2026-11-25T00:00:00Z"), event(2, "2026-11-27T00:00:00Z"))
    cursor = {"initial_value": "{today-7d}", "end_value": "{today}"}
    outcome = run(events.connector(cursor=cursor, **KEYED), settings)["events"]
    assert outcome.failure is None
    assert events.requested_ranges == [("2026-11-20", "2026-11-27")]
    assert stored(settings) == [1]


@pytest.mark.parametrize(
    ("style", "query"),
    [
        ({}, "id=1&id=2&id=2026-11-27&one=3"),
        ({"params_style": "repeat"}, "id=1&id=2&id=2026-11-27&one=3"),
        ({"params_style": "brackets"}, "id[]=1&id[]=2&id[]=2026-11-27&one=3"),
        ({"params_style": "comma"}, "id=1,2,2026-11-27&one=3"),
    ],
)
def test_a_param_that_is_a_list_is_sent_in_the_style_of_the_api(
    settings: Settings, style: dict[str, str], query: str
) -> None:
    with FaultServer(plan={"/items": [{"id": 1}]}) as server:
        endpoint = {"params": {"id": [1, 2, "{today}"], "one": 3}, **style}
        connector = make_connector(server.url, {"name": "items", "endpoint": endpoint})
        assert run(connector, settings)["items"].failure is None
        assert [unquote(seen.target) for seen in server.arrivals] == [f"/items?{query}"]


def test_a_relative_initial_value_counts_until_a_cursor_is_stored(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, "2026-11-25T00:00:00Z"))
    connector = events.connector(cursor={"initial_value": "{now-30d}"}, **KEYED)
    run(connector, settings)
    run(connector, settings)
    assert events.requested_ranges == [
        ("2026-10-28T10:00:30Z", None),
        ("2026-11-25T00:00:00Z", None),
    ]
