"""Backfill windows, loaded beside the live stream."""

import threading
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.errors import IngestError, UnknownResourceError
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.engine.windowed import (
    KEYED,
    Events,
    day,
    event,
    live_state,
    load_window,
    stored,
    window_of,
)
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, Background, wait_for


@pytest.mark.parametrize("more", [{}, KEYED], ids=["append", "merge"])
def test_a_window_requests_both_ends_and_loads_the_rows_between_them(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, *(event(n, day(n)) for n in range(1, 8)))
    connector = events.connector(**more)
    load(connector, settings)
    outcome = load_window(connector, settings, window_of(day(2), day(4)))["events"]
    assert events.requested_ranges[-1] == (day(2), day(4))
    assert (outcome.failed, outcome.rows_loaded, outcome.records_received) == (False, 2, 3)
    assert (outcome.window, outcome.cursor) == ((day(2), day(4)), None)
    assert stored(settings) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("more", [{}, KEYED], ids=["append", "merge"])
def test_the_live_state_is_byte_for_byte_the_same_after_windows(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    events = Events(api, event(1, day(5)))
    connector = events.connector(**more)
    load(connector, settings)
    before = live_state(settings)
    events.rows = [event(2, day(3), extra="new column"), *events.rows]
    load_window(connector, settings, window_of(day(2), day(4)))
    events.failing = True
    assert load_window(connector, settings, window_of(day(2), day(4)))["events"].failed
    events.failing = False
    assert live_state(settings) == before
    outcome = load(connector, settings)["events"]
    assert outcome.cursor is not None
    assert outcome.cursor.start_value == day(5)
    assert stored(settings) == [1, 2]


def test_an_appended_window_is_replaced_by_the_rows_that_the_api_has_now(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(
        api,
        event(1, day(1), tags=["a"]),
        event(2, day(2), tags=["b", "c"]),
        event(3, day(3), tags=["d"]),
        event(4, day(9), tags=["e"]),
    )
    connector = events.connector()
    load(connector, settings)
    events.rows[1:3] = [event(3, day(3), tags=["D"]), event(5, day(2, 1), tags=["f"])]
    for _ in range(2):
        load_window(connector, settings, window_of(day(2), day(4)))
    assert stored(settings) == [1, 3, 4, 5]
    tags = (
        "SELECT e.id, t.value FROM shop.events__tags t "
        "LEFT JOIN shop.events e ON e._dlt_id = t._dlt_parent_id ORDER BY ALL"
    )
    assert query(settings, tags) == [(1, "a"), (3, "D"), (4, "e"), (5, "f")]


def test_an_appended_window_that_has_become_empty_is_emptied(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, day(1)), event(2, day(2), tags=["b"]), event(3, day(9)))
    connector = events.connector()
    load(connector, settings)
    del events.rows[1]
    assert load_window(connector, settings, window_of(day(2), day(4)))["events"].rows_loaded == 0
    assert stored(settings) == [1, 3]
    assert stored(settings, "value", "events__tags") == []


def test_a_window_that_fails_leaves_the_table_as_it_is(api: ApiServer, settings: Settings) -> None:
    events = Events(api, event(1, day(2)), event(2, day(9)))
    connector = events.connector()
    load(connector, settings)
    events.failing = True
    failure = load_window(connector, settings, window_of(day(1), day(4)))["events"].failure
    assert failure is not None
    assert "answered 400" in failure.message
    assert stored(settings) == [1, 2]


@pytest.mark.parametrize(
    ("cursor", "message_part"),
    [
        ({"end_param": None}, "names no param for the end of a window"),
        ({"start_param": None}, "names no param for the start of a window"),
        ({"start_param": None, "end_param": None}, "requests all rows"),
    ],
)
def test_an_end_that_the_api_does_not_filter_by_is_filtered_here_and_the_cost_reported(
    api: ApiServer, settings: Settings, cursor: dict[str, Any], message_part: str
) -> None:
    events = Events(api, *(event(n, day(n)) for n in range(1, 10)))
    notes = Notes()
    connector = events.connector(cursor=cursor, **KEYED)
    load_window(connector, settings, window_of(day(4), day(6)), observer=notes)
    assert stored(settings) == [4, 5]
    assert any(message_part in message for message in notes.messages)
    received = len([row for row in events.rows if row["id"] >= 4 or "start_param" in cursor])
    received = 6 if cursor == {"start_param": None} else received
    message_start = f"received {received} rows for the 2 rows of the window"
    assert any(message_start in message for message in notes.messages), notes.messages


def test_placeholders_get_the_ends_and_a_live_run_sends_no_end(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, day(2)))
    params = {"since": "{incremental.start_value}", "until": "{incremental.end_value}"}
    cursor = {"cursor_path": "at", "initial_value": day(1)}
    endpoint = {"path": "events", "params": params, "incremental": cursor}
    connector = make_connector(api.url, {"name": "events", "endpoint": endpoint, **KEYED})
    notes = Notes()
    load_window(connector, settings, window_of(day(2), day(4)), observer=notes)
    load(connector, settings)
    assert events.requested_ranges == [(day(2), day(4)), (day(1), None)]
    assert notes.messages == []


def test_rows_without_a_cursor_are_left_to_the_live_stream(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, day(2)), {"id": 2, "at": None})
    connector = events.connector(cursor={"on_cursor_value_missing": "include"})
    load(connector, settings)
    notes = Notes()
    load_window(connector, settings, window_of(day(1), day(2, 1)), observer=notes)
    assert stored(settings) == [1, 2]
    assert any("left out 1 rows without at" in message for message in notes.messages)


def test_a_cursor_that_cannot_be_compared_names_its_row(api: ApiServer, settings: Settings) -> None:
    api.answers["/events"] = [event(1, day(2)), event(2, "soon")]
    cursor = {"cursor_path": "at", "initial_value": day(1)}
    endpoint = {"path": "events", "incremental": cursor}
    made = make_connector(api.url, {"name": "events", "endpoint": endpoint, **KEYED})
    failure = load_window(made, settings, window_of(day(2), day(4)))["events"].failure
    assert failure is not None
    assert "page 1, row 2, field at" in failure.message


def test_an_appended_window_ends_where_the_live_stream_starts(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, day(2)), event(2, day(5)))
    connector = events.connector(cursor={"lag": 86400})
    load(connector, settings)
    events.rows += [event(3, day(3)), event(4, day(4)), event(5, day(5)), event(6, day(6))]
    notes = Notes()
    load_window(connector, settings, window_of(day(1), day(9)), observer=notes)
    assert stored(settings) == [1, 2, 3]
    assert any("left out 4 rows from" in message for message in notes.messages)
    load(connector, settings)
    assert stored(settings) == [1, 2, 3, 4, 5, 6]


def test_dependents_are_requested_for_the_rows_of_the_window(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, *(event(n, day(n)) for n in range(1, 7)))
    parts = {
        "name": "parts",
        "primary_key": ["_events_id", "n"],
        "include_from_parent": ["id"],
        "endpoint": {
            "path": "events/{resources.events.id}/parts",
            "incremental": {"cursor_path": "n", "initial_value": 0, "start_param": "after"},
        },
    }
    for number in range(1, 7):
        api.answers[f"/events/{number}/parts"] = [{"n": 1}, {"n": 2}]
    connector = events.connector(parts, **KEYED)
    load(connector, settings)
    before, requests_before = live_state(settings), len(api.seen)
    for number in range(1, 7):
        api.answers[f"/events/{number}/parts"] = [{"n": 1}, {"n": 2}, {"n": 3}]
    outcomes = load_window(connector, settings, window_of(day(2), day(4)))
    assert sorted((seen.path, seen.query.get("after")) for seen in api.seen[requests_before:]) == [
        ("/events", None),
        ("/events/2/parts", "0"),
        ("/events/3/parts", "0"),
    ]
    assert outcomes["parts"].rows_loaded == 6
    assert outcomes["parts"].row_count == 14
    assert live_state(settings) == before


def test_a_skipped_parent_is_reported_and_not_requested_by_the_next_window(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, day(2)), event(2, day(2)))
    parts = {
        "name": "parts",
        "primary_key": "id",
        "endpoint": {"path": "events/{resources.events.id}/parts"},
    }
    api.answers["/events/1/parts"] = [{"id": 7}]
    made = events.connector(parts, **KEYED)
    source = rest_api_config(made)
    connector = make_connector(
        api.url, *source["resources"], http={"on_child_error": {"skip_up_to": 1}}
    )
    outcomes = load_window(connector, settings, window_of(day(1), day(4)), resource="events")
    assert outcomes["parts"].skipped == ("events/2/parts",)
    load_window(connector, settings, window_of(day(5), day(6)))
    assert len(api.asked("/events/2/parts")) == 1


def test_windows_and_the_live_stream_meet_with_an_open_start_and_a_lag(
    api: ApiServer, settings: Settings
) -> None:
    rows = [event(n, day(1 + n // 3, 8 * (n % 3))) for n in range(18)]
    events = Events(api, *rows)
    connector = events.connector(cursor={"range_start": "open", "lag": 86400})
    _first_live_run(connector, settings, day(5))
    assert events.requested_ranges == [(day(5), None)]
    for start in (3, 1):
        load_window(connector, settings, window_of(day(start), day(start + 2)))
    events.rows.append(event(18, day(7)))
    load(connector, settings)
    load_window(connector, settings, window_of(day(3), day(5)))
    assert stored(settings) == list(range(19))


def _first_live_run(connector: Connector, settings: Settings, start: str) -> None:
    outcomes = list(
        ingest(connector, settings=settings, environment={}, live_from={"events": start})
    )
    assert not outcomes[0].failed, outcomes[0].failure


def test_windows_may_be_loaded_before_the_live_stream_starts(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, *(event(n, day(n)) for n in range(1, 9)))
    backfill = {"start": "2024-01-01", "partition": "daily"}
    connector = events.connector(backfill=backfill)
    load_window(connector, settings, window_of(day(3), day(5)))
    load_window(connector, settings, window_of(day(6), day(8)))  # beyond where live will start
    _first_live_run(connector, settings, day(5))
    load_window(connector, settings, window_of(day(1), day(3)))
    load(connector, settings)
    assert stored(settings) == list(range(1, 9))


def test_a_window_waits_for_a_live_run_and_changes_nothing_of_it(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, *(event(n, day(n)) for n in range(1, 9)))
    connector = events.connector()
    load(connector, settings)
    events.rows.append(event(9, day(9)))
    requested, free = threading.Event(), threading.Event()

    def slow(seen: Seen) -> Any:
        if seen.query.get("until") is None:
            requested.set()
            free.wait(PATIENCE_SECONDS)
        return events.answer(seen)

    api.answers["/events"] = slow
    notes = Notes()
    live = Background(load, connector, settings)
    wait_for(requested, "the live run's request")
    window = Background(load_window, connector, settings, window_of(day(2), day(5)), observer=notes)
    notes.wait_for("another run of shop is in progress")
    free.set()
    assert not live.result()["events"].failed
    assert not window.result()["events"].failed
    assert stored(settings) == list(range(1, 10))
    assert load(connector, settings)["events"].rows_loaded == 0


CURSOR = {"cursor_path": "at", "initial_value": day(1)}


@pytest.mark.parametrize(
    ("resource", "message_part"),
    [
        ({"name": "events"}, "it has no cursor"),
        (
            {"endpoint": {"incremental": CURSOR}, "write_disposition": "replace"},
            "with replace each window removes",
        ),
        (
            {"endpoint": {"incremental": {**CURSOR, "end_value": day(9)}}},
            "`end_value` makes one fixed window",
        ),
        (
            {"endpoint": {"incremental": {**CURSOR, "cursor_path": "meta.at"}}},
            "meta.at is not the name of a column",
        ),
        (
            {
                "endpoint": {"incremental": CURSOR},
                "write_disposition": {"disposition": "merge", "strategy": "scd2"},
            },
            "in the order of time",
        ),
    ],
)
def test_a_resource_whose_windows_cannot_be_loaded_again_is_refused(
    api: ApiServer, settings: Settings, resource: dict[str, Any], message_part: str
) -> None:
    connector = make_connector(api.url, {"name": "events", **resource})
    with pytest.raises(IngestError, match=message_part):
        load_window(connector, settings, window_of(day(1), day(2)))
    assert api.seen == []


def test_the_cursors_column_may_have_another_name_than_the_field(
    api: ApiServer, settings: Settings
) -> None:
    cursor = {"cursor_path": "updatedAt", "initial_value": day(1)}
    connector = make_connector(
        api.url, {"name": "events", "endpoint": {"path": "events", "incremental": cursor}}
    )
    api.answers["/events"] = [{"id": n, "updatedAt": day(n)} for n in range(1, 5)]
    load(connector, settings)
    load_window(connector, settings, window_of(day(2), day(4)))
    assert stored(settings) == [1, 2, 3, 4]


def test_a_column_that_is_coarser_than_the_cursor_loses_and_doubles_no_row(
    api: ApiServer, settings: Settings
) -> None:
    column = {"data_type": "timestamp", "timezone": False, "precision": 0}
    last = "2024-01-03T23:59:59.9999996Z"
    events = Events(api, event(1, day(2)), event(2, last), event(3, day(4)), event(4, day(9)))
    connector = events.connector(columns={"at": column})
    load(connector, settings)
    for start in (2, 4, 2):
        load_window(connector, settings, window_of(day(start), day(start + 2)))
    assert stored(settings) == [1, 2, 3, 4]


def test_a_destination_without_transactions_is_refused_where_rows_would_be_replaced(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = (settings.data_dir / "bucket").absolute().as_uri()
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", bucket)
    files = settings.model_copy(update={"destination": "filesystem"})
    events = Events(api, event(1, day(1)), event(2, day(2)), event(3, day(9)))
    connector = events.connector()
    load(connector, files)
    failure = load_window(connector, files, window_of(day(1), day(3)))["events"].failure
    assert failure is not None
    assert "filesystem has none" in failure.message
    merged = events.connector(**KEYED, table_name="merged")
    failure = load_window(merged, files, window_of(day(1), day(3)))["events"].failure
    assert failure is not None
    assert "filesystem can't merge" in failure.message


def test_an_unknown_resource_is_refused(api: ApiServer, settings: Settings) -> None:
    with pytest.raises(UnknownResourceError, match="events"):
        load_window(Events(api).connector(), settings, window_of(day(1), day(2)), resource="event")


def test_a_window_of_an_appended_resource_without_a_live_stream_is_refused(
    api: ApiServer, settings: Settings
) -> None:
    connector = Events(api).connector()
    failure = load_window(connector, settings, window_of(day(1), day(2)))["events"].failure
    assert failure is not None
    assert "Run it once" in failure.message
    assert api.seen == []


@pytest.mark.parametrize("more", [KEYED, {}], ids=["merged", "appended"])
@pytest.mark.parametrize("order", ["windows first", "live first"])
def test_the_live_stream_starts_no_later_than_its_backfill_ends(
    api: ApiServer, settings: Settings, more: dict[str, Any], order: str
) -> None:
    """A live run on another disk takes a later day for the first one: the days between belong to nobody."""
    events = Events(api, *(event(n, day(n)) for n in range(1, 9)))
    backfill = {"start": "2024-01-01", "partition": "daily"}
    connector = events.connector(backfill=backfill, **more)
    if order == "live first":
        _first_live_run(connector, settings, day(7))
    for start in (3, 2, 1):
        window = window_of(day(start), day(start + 1))
        load_window(connector, settings, window, live_from=day(4))
    events.rows.append(event(9, day(9)))
    _first_live_run(connector, settings, day(7))
    assert stored(settings) == list(range(1, 10))
    asked = len(events.requested_ranges)
    _first_live_run(connector, settings, day(7))
    assert events.requested_ranges[asked:] == [(day(9), None)]
    assert stored(settings) == list(range(1, 10))


def test_a_full_refresh_goes_back_to_where_the_backfill_ends(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, *(event(n, day(n)) for n in range(1, 9)))
    connector = events.connector(backfill={"start": "2024-01-01", "partition": "daily"}, **KEYED)
    _first_live_run(connector, settings, day(7))
    load_window(connector, settings, window_of(day(1), day(4)), live_from=day(4))
    outcomes = ingest(
        connector,
        settings=settings,
        environment={},
        live_from={"events": day(7)},
        full_refresh=["events"],
    )
    assert not [one.failure for one in outcomes if one.failed]
    assert stored(settings) == list(range(1, 9))
