"""Runs that start a live stream, set a cursor, or load all rows again."""

from collections.abc import Mapping
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.errors import IngestError, UnknownResourceError
from restsource_dagster.engine.incremental.cursor_overrides import parse_cursor_value
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
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer

PARTS: dict[str, Any] = {
    "name": "parts",
    "primary_key": ["_events_id", "n"],
    "include_from_parent": ["id"],
    "endpoint": "events/{resources.events.id}/parts",
}


def run(
    connector: Connector, settings: Settings, resources: list[str] | None = None, **overrides: Any
) -> Mapping[str, Outcome]:
    outcomes = ingest(
        connector, settings=settings, environment={}, resources=resources, **overrides
    )
    return {outcome.resource: outcome for outcome in outcomes}


both = pytest.mark.parametrize("more", [{}, KEYED], ids=["append", "merge"])


# --- where the live stream begins -----------------------------------------------------------------


@both
def test_the_live_stream_starts_at_live_from_and_continues_from_its_cursor(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, *map(event, range(1, 6)))
    connector = events.connector(**more)
    first = run(connector, settings, live_from={"events": day(3)})["events"]
    second = run(connector, settings, live_from={"events": day(2)})["events"]
    assert first.cursor is not None
    assert first.cursor.start_value == day(3)
    assert first.cursor_set is None
    assert second.cursor is not None
    assert second.cursor.start_value == day(5)
    assert [since for since, _ in events.requested_ranges] == [day(3), day(5)]
    assert stored(settings) == [3, 4, 5]


def test_a_lag_never_reads_rows_before_the_live_stream(api: ApiServer, settings: Settings) -> None:
    events = Events(api, *map(event, range(1, 5)))
    connector = events.connector(cursor={"lag": 10 * 86400})
    run(connector, settings, live_from={"events": day(3)})
    events.rows.append(event(5, day(3, 1)))
    run(connector, settings)
    assert [since for since, _ in events.requested_ranges] == [day(3), day(3)]
    assert stored(settings) == [3, 4, 5]


def test_a_live_stream_without_rows_yet_continues_from_its_start(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1))
    connector = events.connector(backfill={"start": "2024-01-01", "partition": "daily"})
    load_window(connector, settings, window_of(day(1), day(2)))
    run(connector, settings, live_from={"events": day(3)})
    events.rows.append(event(3))
    assert not run(connector, settings, live_from={"events": day(3)})["events"].failed
    assert stored(settings) == [1, 3]


# --- setting the cursor ---------------------------------------------------------------------------


@both
def test_a_cursor_that_is_set_back_loads_the_rows_from_there_again_once(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, *map(event, range(1, 6)))
    connector = events.connector(**more)
    load(connector, settings)
    events.rows += [event(6, day(3, 1)), event(7, day(1, 1))]
    outcome = run(connector, settings, set_cursor={"events": "2024-01-03"})["events"]
    assert outcome.cursor_set == (day(5), day(3))
    assert events.requested_ranges[-1] == (day(3), None)
    assert stored(settings) == [1, 2, 3, 4, 5, 6]
    load(connector, settings)
    assert events.requested_ranges[-1] == (day(5), None)
    assert stored(settings) == [1, 2, 3, 4, 5, 6]


@both
def test_a_cursor_that_is_set_forward_skips_what_lies_between(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, event(1))
    connector = events.connector(**more)
    load(connector, settings)
    events.rows += map(event, range(2, 6))
    run(connector, settings, set_cursor={"events": day(4)})
    load(connector, settings)
    assert stored(settings) == [1, 4, 5]


@both
def test_a_run_that_fails_sets_no_cursor(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, *map(event, range(1, 4)))
    connector = events.connector(**more)
    load(connector, settings)
    events.failing = True
    assert run(connector, settings, set_cursor={"events": day(1)})["events"].failed
    assert run(connector, settings, full_refresh=["events"])["events"].failed
    events.failing = False
    assert stored(settings) == [1, 2, 3]
    load(connector, settings)
    assert events.requested_ranges[-1] == (day(3), None)


@pytest.mark.parametrize(
    ("initial", "value", "found"),
    [
        (0, "17", 17),
        ("0", 17, "17"),
        (1704067200, "2024-01-02T00:00:00Z", 1704153600),
        ("2024-01-01", "2024-01-02T12:00:00Z", "2024-01-02"),
        ("2024-01-01T00:00:00.000+00:00", "2024-01-02", "2024-01-02T00:00:00.000+00:00"),
    ],
)
def test_a_cursor_is_set_in_the_format_of_the_api(initial: Any, value: Any, found: Any) -> None:
    assert parse_cursor_value("events", value, initial) == found
    assert type(parse_cursor_value("events", value, initial)) is type(found)


def test_dependents_continue_from_the_cursor_that_is_set(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, *map(event, range(1, 5)))
    for number in range(1, 5):
        api.answers[f"/events/{number}/parts"] = [{"n": 1}]
    connector = events.connector(PARTS, **KEYED)
    load(connector, settings)
    requests_before = len(api.seen)
    run(connector, settings, set_cursor={"events": day(3)})
    assert sorted(seen.path for seen in api.seen[requests_before:]) == [
        "/events",
        "/events/3/parts",
        "/events/4/parts",
    ]


# --- full refresh ---------------------------------------------------------------------------------


@both
def test_a_full_refresh_replaces_the_table_and_resets_a_cursor_that_was_set(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, *(event(n, tags=[n]) for n in range(1, 5)))
    connector = events.connector(**more)
    load(connector, settings)
    run(connector, settings, set_cursor={"events": day(3)})
    events.rows = [event(1, tags=["one"]), event(7)]
    outcome = run(connector, settings, full_refresh=["events"])["events"]
    assert outcome.cursor_set == (day(4), day(1))
    assert events.requested_ranges[-1] == (day(1), None)
    assert stored(settings) == [1, 7]
    assert query(settings, "SELECT value__v_text FROM shop.events__tags") == [("one",)]
    assert not any("is loaded by" in change for change in outcome.schema_changes)
    load(connector, settings)
    assert stored(settings) == [1, 7]


@both
def test_a_full_refresh_without_rows_empties_the_table(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, event(1, tags=[1]))
    connector = events.connector(**more)
    load(connector, settings)
    events.rows = []
    assert not run(connector, settings, full_refresh=["events"])["events"].failed
    assert stored(settings) == stored(settings, "value", "events__tags") == []


@both
def test_a_full_refresh_keeps_the_rows_of_the_backfill(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, *map(event, range(1, 6)))
    connector = events.connector(**more)
    run(connector, settings, live_from={"events": day(4)})
    load_window(connector, settings, window_of(day(1), day(4)))
    events.rows = [event(n) for n in (1, 4, 6)]
    outcome = run(connector, settings, full_refresh=["events"])["events"]
    assert outcome.cursor_set == (day(5), day(4))
    assert events.requested_ranges[-1] == (day(4), None)
    assert stored(settings) == [1, 2, 3, 4, 6]


def test_a_family_is_refreshed_together(api: ApiServer, settings: Settings) -> None:
    events = Events(api, event(1), event(2))
    api.answers |= {"/events/1/parts": [{"n": 1}], "/events/2/parts": [{"n": 1}, {"n": 2}]}
    connector = events.connector(PARTS)
    load(connector, settings)
    api.answers["/events/2/parts"] = [{"n": 2}]
    failure = run(connector, settings, full_refresh=["parts"])["parts"].failure
    assert failure is not None
    assert "Refresh events, too" in failure.message
    run(connector, settings, full_refresh=["events", "parts"])
    assert stored(settings) == [1, 2]
    assert stored(settings, "n", "parts") == [1, 2]
    api.answers["/events/1/parts"] = []
    run(connector, settings, resources=["parts"], full_refresh=["parts"])
    assert stored(settings, "n", "parts") == [2]


# --- what can't work --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message_part"),
    [
        ({"set_cursor": {"countries": 1}}, "has no cursor"),
        ({"set_cursor": {"parts": 1}}, "a cursor for each events"),
        ({"set_cursor": {"events": "soon"}}, "its cursor, which is a time, for example"),
        ({"set_cursor": {"events": day(1)}, "full_refresh": ["events"]}, "contradict"),
        ({"full_refresh": ["events"], "resources": ["countries"]}, "is not loaded in this run"),
        ({"live_from": {"events": "soon"}}, "its cursor, which is a time, for example"),
    ],
)
def test_an_override_that_cannot_work_is_refused_before_the_first_request(
    api: ApiServer, settings: Settings, overrides: dict[str, Any], message_part: str
) -> None:
    parts = {**PARTS, "endpoint": {"path": PARTS["endpoint"]}}
    parts["endpoint"]["incremental"] = {"cursor_path": "n", "initial_value": 0}
    connector = Events(api).connector("countries", parts, **KEYED)
    with pytest.raises(IngestError, match=message_part):
        run(connector, settings, **overrides)
    assert api.seen == []


def test_an_override_of_an_unknown_resource_names_it(api: ApiServer, settings: Settings) -> None:
    api.answers["/countries"] = Answer([])
    connector = make_connector(api.url, "countries")
    with pytest.raises(UnknownResourceError, match="no resource towns"):
        run(connector, settings, full_refresh=["towns"])
