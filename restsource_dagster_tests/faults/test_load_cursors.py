"""Rows at the boundary, late rows, rows in any order, and cursors of every kind."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.config.connector import Connector
from restsource_dagster.engine.ingest import ingest
from restsource_dagster.engine.ordering import IncomparableError, Order, lagged
from restsource_dagster.engine.outcome import Outcome
from restsource_dagster.engine.positions import CursorRules, Position
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.feeds import Feed, both, events, keyed
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=10)


def run(connector: Connector, settings: Settings, notes: Notes | None = None) -> Outcome:
    outcome = load(connector, settings, observer=notes)["events"]
    assert outcome.failure is None, outcome.failure
    return outcome


def refusal(connector: Connector, settings: Settings) -> str:
    failure = load(connector, settings)["events"].failure
    assert failure is not None
    return failure.message


def ids(settings: Settings, table: str = "events") -> list[Any]:
    return [row[0] for row in query(settings, f"SELECT id FROM shop.{table} ORDER BY id")]


def minute(number: int) -> str:
    return f"2026-01-01T00:{number:02d}:00Z"


# --- a cursor of each kind: the old rows, the boundary, a new row -------------------------------

KINDS: dict[str, list[Any]] = {
    "time": [minute(1), minute(2), minute(3)],
    "time with fractions here and there": [
        "2026-01-01T00:00:01Z",
        "2026-01-01T00:00:02Z",
        "2026-01-01T00:00:02.5Z",
    ],
    "time to the nanosecond": [
        "2026-01-01T00:00:00.000000001Z",
        "2026-01-01T00:00:00.000000002Z",
        "2026-01-01T00:00:00.000000003Z",
    ],
    "time with a changing offset": [
        "2026-10-25T02:10:00+02:00",
        "2026-10-25T02:50:00+02:00",
        "2026-10-25T02:10:00+01:00",
    ],
    "time with a space": ["2026-01-01 00:00:01", "2026-01-01 00:00:02", "2026-01-01 00:00:03"],
    "date": ["2026-01-01", "2026-01-02", "2026-01-03"],
    "epoch": [1_767_225_600, 1_767_225_660, 1_767_225_720],
    "epoch with fractions": [1_767_225_600, 1_767_225_600.5, 1_767_225_601],
    "epoch as text": ["1767225600", "1767225660", "1767225720"],
    "number": [8, 9, 10],
    "number as text": ["8", "9", "10"],
    "big number": [2**63, 2**63 + 1, 2**64],
    "text": ["A", "B", "a"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_cursor_brings_each_row_once(
    api: ApiServer, settings: Settings, kind: str
) -> None:
    feed, (old, boundary, new) = Feed(api), KINDS[kind]
    connector = both(api)
    feed.rows = [{"id": 1, "at": boundary}, {"id": 2, "at": old}]
    load(connector, settings)
    feed.rows += [{"id": 3, "at": new}, {"id": 4, "at": boundary}]
    outcomes = load(connector, settings)
    for table in ("merged", "appended"):
        outcome = outcomes[table]
        assert outcome.failure is None
        assert ids(settings, table) == [1, 2, 3, 4]
        assert outcome.cursor is not None
        assert (outcome.cursor.start_value, outcome.cursor.last_value) == (boundary, new)


def test_the_smallest_value_may_be_the_newest(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api)
    connector = events(api, filters=False, last_value_func="min")
    feed.rows = [{"id": 1, "at": 10}, {"id": 2, "at": 9}]
    run(connector, settings)
    feed.rows += [{"id": 3, "at": 8}]
    run(connector, settings)
    assert ids(settings) == [1, 2, 3]


def test_a_cursor_below_the_top_level_is_found(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api)
    connector = events(api, filters=False, cursor_path="meta.changed[0]")
    feed.rows = [{"id": 1, "meta": {"changed": [1]}}, {"id": 2, "meta": {"changed": [2]}}]
    run(connector, settings)
    feed.rows.append({"id": 3, "meta": {"changed": [3]}})
    run(connector, settings)
    assert ids(settings) == [1, 2, 3]


# --- the boundary -------------------------------------------------------------------------------


def test_merge_takes_a_row_that_changed_and_kept_its_cursor(
    api: ApiServer, settings: Settings
) -> None:
    feed, connector = Feed(api), keyed(api)
    feed.rows = [{"id": 1, "at": minute(1), "total": 1}, {"id": 2, "at": minute(2), "total": 1}]
    run(connector, settings)
    feed.rows[1] = {"id": 2, "at": minute(2), "total": 2}
    run(connector, settings)
    assert query(settings, "SELECT id, total FROM shop.events ORDER BY id") == [(1, 1), (2, 2)]


def test_append_takes_late_rows_of_the_boundary_and_none_twice(
    api: ApiServer, settings: Settings
) -> None:
    feed, connector = Feed(api), events(api, initial_value=minute(0))
    for number in range(1, 5):
        feed.rows.append({"id": number, "at": minute(1)})
        feed.shuffle(number)
        run(connector, settings)
        assert ids(settings) == list(range(1, number + 1))


def test_append_counts_equal_rows(api: ApiServer, settings: Settings) -> None:
    feed, connector = Feed(api), events(api)
    feed.rows = [{"id": 1, "at": 5}, {"id": 1, "at": 5}]
    run(connector, settings)
    feed.rows.append({"id": 1, "at": 5})
    run(connector, settings)
    run(connector, settings)
    assert ids(settings) == [1, 1, 1]


def test_append_with_a_key_knows_rows_by_it(api: ApiServer, settings: Settings) -> None:
    feed, connector = Feed(api), events(api, primary_key="id")
    feed.rows = [{"id": 1, "at": 5, "n": 1}]
    run(connector, settings)
    feed.rows = [{"id": 1, "at": 5, "n": 2}, {"id": 2, "at": 5, "n": 1}]
    run(connector, settings)
    assert query(settings, "SELECT id, n FROM shop.events ORDER BY id") == [(1, 1), (2, 1)]


def test_what_is_remembered_does_not_grow_with_the_runs(api: ApiServer, settings: Settings) -> None:
    feed, connector = Feed(api), events(api, initial_value=0)
    feed.is_old = lambda value, since: value < int(since)
    sizes = []
    for number in range(1, 5):
        feed.rows.append({"id": number, "at": number})
        for outcome in ingest(connector, settings=settings, environment={}):
            assert outcome.load is not None
            state = outcome.load.pipeline.state["sources"]["shop"]["resources"]["events"]
            sizes.append(len(str(state)))
    assert ids(settings) == [1, 2, 3, 4]
    assert len(set(sizes[1:])) == 1


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])
@pytest.mark.parametrize("seed", range(2))
def test_no_order_of_rows_loses_or_doubles_one(
    api: ApiServer, settings: Settings, seed: int, merged: bool
) -> None:
    feed = Feed(api, page_size=3)
    connector = (keyed if merged else events)(api, initial_value=0)
    feed.is_old = lambda value, since: value < int(since)
    for start in (0, 10, 20):
        feed.rows += [{"id": number, "at": number // 3} for number in range(start, start + 10)]
        feed.shuffle(seed + start)
        run(connector, settings)
        assert ids(settings) == list(range(start + 10))


def test_descending_order_stops_early_and_takes_all_of_the_boundary(
    api: ApiServer, settings: Settings
) -> None:
    feed = Feed(api, page_size=3)
    connector = events(api, filters=False, row_order="desc")
    feed.rows = [{"id": number, "at": number} for number in range(30, 0, -1)]
    run(connector, settings)
    # rows that share the newest value; the one that was there stands first, a page ahead
    fresh = [{"id": number, "at": 30} for number in range(31, 38)]
    feed.rows = [feed.rows[0], *fresh, *feed.rows[1:]]
    before = len(api.asked("/events"))
    run(connector, settings)
    assert ids(settings) == list(range(1, 38))
    assert len(api.asked("/events")) - before == 3  # pages of 3 up to the first older row


def test_an_order_that_does_not_hold_is_not_believed(api: ApiServer, settings: Settings) -> None:
    feed, notes = Feed(api, page_size=3), Notes()
    connector = events(api, filters=False, row_order="desc")
    feed.rows = [{"id": number, "at": number} for number in range(6, 0, -1)]
    run(connector, settings)
    feed.rows = [
        *({"id": number, "at": at} for number, at in [(7, 7), (8, 1), (9, 8)]),
        *({"id": number, "at": 9} for number in (10, 11, 12)),
        *feed.rows,
    ]
    run(connector, settings, notes)
    assert ids(settings) == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    assert any("row_order says desc, but 8 comes after 1" in line for line in notes.messages)


def test_ascending_order_stops_at_the_end_value(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api, page_size=3)
    connector = keyed(api, filters=False, row_order="asc", initial_value=0, end_value=4)
    feed.rows = [{"id": number, "at": number} for number in range(20)]
    run(connector, settings)
    assert ids(settings) == [0, 1, 2, 3]
    assert len(api.asked("/events")) == 2


# --- lag ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])
def test_late_rows_within_the_lag_arrive_and_nothing_doubles(
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


def test_an_empty_answer_within_the_lag_forgets_nothing(api: ApiServer, settings: Settings) -> None:
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


def test_a_row_without_cursor_is_refused_by_name(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api)
    feed.rows = GAPS
    text = refusal(events(api), settings)
    assert "resource events, page 1, row 2, field at: the record has no value there" in text


def test_rows_without_cursor_are_left_out_and_told(api: ApiServer, settings: Settings) -> None:
    feed, notes = Feed(api), Notes()
    feed.rows = GAPS
    run(events(api, on_cursor_value_missing="exclude"), settings, notes)
    assert ids(settings) == [1]
    assert (
        "events: left out 2 rows without at (on_cursor_value_missing is exclude)" in notes.messages
    )


@pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])
def test_rows_without_cursor_are_taken_once(
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
def test_a_value_that_has_no_order_is_refused_by_name(
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


def test_a_window_that_is_appended_is_appended_once(api: ApiServer, settings: Settings) -> None:
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


# --- arithmetic ---------------------------------------------------------------------------------

moments = st.datetimes().map(lambda moment: moment.isoformat() + "Z")


@given(st.lists(st.integers() | st.floats(allow_nan=False), min_size=2, max_size=2))
def test_numbers_are_ordered_as_numbers(pair: list[float]) -> None:
    assert Order().is_after(*pair) == (pair[0] > pair[1])
    assert Order(falling=True).is_after(*pair) == (pair[0] < pair[1])


@given(st.datetimes(), st.datetimes())
def test_times_are_ordered_as_times(one: Any, other: Any) -> None:
    spelt = one.isoformat() + "Z", other.isoformat().replace("T", " ")
    assert Order().is_after(*spelt) == (one > other)
    assert Order().is_same(*spelt) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("2026-02-30", "2026-02-28"), ("v10", "v9"), ("9", "8x"), ("", "a")],
)
def test_other_texts_are_ordered_as_texts(one: str, other: str) -> None:
    assert Order().is_after(one, other) == (one > other)


def test_values_of_different_kinds_have_no_order() -> None:
    with pytest.raises(IncomparableError, match="can't be compared"):
        Order().is_after(1, "1")


@pytest.mark.parametrize(
    ("value", "lag", "start"),
    [
        ("2026-01-01T01:00:00Z", 3600, "2026-01-01T00:00:00Z"),
        ("2026-01-01T01:00:00.123456789Z", 3600, "2026-01-01T00:00:00.123456Z"),
        ("2026-01-01T01:00:00+02:00", 3600, "2026-01-01T00:00:00+02:00"),
        ("2026-01-01 01:00:00", 3600, "2026-01-01 00:00:00"),
        ("2026-01-03", 2, "2026-01-01"),
        ("20260103", 2, "20260101"),
        ("1767229200", 3600, "1767225600"),
        (1767229200, 3600, 1767225600),
        (2.5, 1, 1.5),
        (2**62 + 1, 1, 2**62),
        (Decimal(2**70), 1.5, Decimal(2**70) - Decimal("1.5")),
    ],
)
def test_the_lag_is_subtracted_in_the_form_of_the_cursor(
    value: Any, lag: float, start: Any
) -> None:
    assert lagged(value, lag, None) == start
    assert lagged(value, lag, value) == value


rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=12)


@given(st.lists(rows, min_size=1, max_size=5), st.integers(0, 3))
def test_each_row_is_taken_once_however_they_come(batches: list[Any], lag: int) -> None:
    """Every run sees all rows so far, as an API without a filter would send them."""
    rules = CursorRules("events", "at", None, None, lag, False, None, "raise", False, False)
    state: dict[str, Any] = {}
    there: Counter[Any] = Counter()
    taken: Counter[Any] = Counter()
    for batch in batches:
        position = Position(rules, state, remembers=True)
        # the API has no rows later than the lag allows
        there.update(row for row in batch if position.start is None or row[0] >= position.start)
        for at, name in there.elements():
            if position.takes(at, {"at": at, "name": name}):
                taken[at, name] += 1
        position.save(state)
        assert taken == there
