"""Rows that come late, rows without a cursor, and windows with an end."""

from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.feeds import (
    Feed,
    events,
    ids,
    keyed,
    minute,
    refusal,
    run,
)
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=10)


# --- lag ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])
def test_late_rows_within_the_lag_are_loaded_once(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    feed = Feed(api)
    connector = (keyed if merged else events)(api, initial_value=minute(0), lag=300)
    feed.rows = [{"id": number, "at": minute(number)} for number in range(1, 11)]
    run(connector, settings)
    feed.rows.append({"id": 11, "at": minute(6)})
    run(connector, settings)
    assert feed.asked_since[-1] == minute(5)
    assert ids(settings) == list(range(1, 12))
    feed.rows += [{"id": 12, "at": minute(20)}, {"id": 13, "at": minute(9)}]
    for _ in range(3):
        run(connector, settings)
    assert ids(settings) == list(range(1, 14))


def test_an_empty_response_within_the_lag_keeps_the_remembered_rows(
    api: ApiServer, settings: Settings
) -> None:
    feed, connector = Feed(api), events(api, initial_value=minute(0), lag=300)
    rows = [{"id": number, "at": minute(number)} for number in range(1, 6)]
    feed.rows = rows
    run(connector, settings)
    feed.rows = []
    run(connector, settings)
    feed.rows = rows
    run(connector, settings)
    assert ids(settings) == [1, 2, 3, 4, 5]


# --- cursors that are not there -----------------------------------------------------------------

GAPS: list[dict[str, Any]] = [{"id": 1, "at": 1}, {"id": 2, "at": None}, {"id": 3}]


def test_a_row_without_a_cursor_is_refused_by_name(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api)
    feed.rows = GAPS
    text = refusal(events(api), settings)
    assert "resource events, page 1, row 2, field at: the record has no value there" in text


def test_rows_without_a_cursor_are_left_out_and_reported(
    api: ApiServer, settings: Settings
) -> None:
    feed, notes = Feed(api), Notes()
    feed.rows = GAPS
    run(events(api, on_cursor_value_missing="exclude"), settings, notes)
    assert ids(settings) == [1]
    assert (
        "events: left out 2 rows without at (on_cursor_value_missing is exclude)" in notes.messages
    )


@pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])
def test_rows_without_a_cursor_are_loaded_once(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    feed = Feed(api)
    connector = (keyed if merged else events)(api, on_cursor_value_missing="include")
    feed.rows = GAPS
    run(connector, settings)
    feed.rows = [*GAPS, {"id": 4, "at": 2}, {"id": 5}]
    run(connector, settings)
    run(connector, settings)
    assert ids(settings) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("value", [{"a": 1}, [1], True])
def test_a_cursor_value_without_an_order_is_refused_by_name(
    api: ApiServer, settings: Settings, value: Any
) -> None:
    feed = Feed(api)
    feed.rows = [{"id": 1, "at": value}]
    assert "resource events, page 1, row 1, field at: " in refusal(events(api), settings)


def test_an_initial_value_of_another_kind_is_refused_by_name(
    api: ApiServer, settings: Settings
) -> None:
    feed = Feed(api)
    feed.rows = [{"id": 1, "at": 1_767_225_600}]
    text = refusal(events(api, filters=False, initial_value="1970-01-01"), settings)
    assert "row 1, field at: '1970-01-01' (text) and 1767225600 (number) can't be compared" in text


def test_a_window_with_an_end_moves_no_cursor(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api)
    feed.is_old = lambda value, since: value < int(since)
    feed.rows = [{"id": number, "at": number} for number in range(10)]
    run(keyed(api, initial_value=6), settings)
    run(keyed(api, initial_value=2, end_value=4), settings)
    feed.rows.append({"id": 10, "at": 10})
    run(keyed(api, initial_value=6), settings)
    assert feed.asked_since[-1] == "9"
    assert ids(settings) == [2, 3, 6, 7, 8, 9, 10]


def test_a_window_with_an_end_is_appended_once(api: ApiServer, settings: Settings) -> None:
    feed, notes = Feed(api), Notes()
    feed.is_old = lambda value, since: value < int(since)
    feed.rows = [{"id": number, "at": number} for number in range(10)]
    run(events(api, initial_value=2, end_value=5), settings)
    run(events(api, initial_value=2, end_value=5), settings, notes)
    assert ids(settings) == [2, 3, 4]
    assert any("2 to 5 was appended before" in line for line in notes.messages)
    overlapping = refusal(events(api, initial_value=4, end_value=8), settings)
    assert "the rows from 2 to 5 were appended before, and 4 to 8 overlaps them" in overlapping
    run(events(api, initial_value=5, end_value=8), settings)
    assert ids(settings) == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("never", "is_told"), [("9999-12-31T00:00:00Z", True), (10**9, False)])
def test_a_cursor_far_in_the_future_is_told_once(
    api: ApiServer, settings: Settings, never: str | int, is_told: bool
) -> None:
    feed, notes = Feed(api), Notes()
    first = minute(0) if is_told else 1
    feed.rows = [{"id": 1, "at": first}, {"id": 2, "at": never}, {"id": 3, "at": never}]
    run(events(api), settings, notes)
    told = [text for text in notes.messages if "more than a year ahead" in text]
    assert len(told) == is_told
    assert all(text.startswith(f"events: the cursor is at {never}") for text in told)
