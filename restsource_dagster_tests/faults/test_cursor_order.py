"""Cursor values are ordered and shifted by their kind; a position accepts each row once."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.engine.incremental.ordering import (
    CursorOrder,
    IncomparableError,
    apply_cursor_lag,
)
from restsource_dagster.engine.incremental.position import CursorRules, Position

pytestmark = pytest.mark.faults(row=10)

moments = st.datetimes().map(lambda moment: moment.isoformat() + "Z")


@given(st.lists(st.integers() | st.floats(allow_nan=False), min_size=2, max_size=2))
def test_numbers_are_ordered_as_numbers(pair: list[float]) -> None:
    assert CursorOrder().is_after(*pair) == (pair[0] > pair[1])
    assert CursorOrder(descending=True).is_after(*pair) == (pair[0] < pair[1])


@given(st.datetimes(), st.datetimes())
def test_times_are_ordered_as_times(one: Any, other: Any) -> None:
    spellings = one.isoformat() + "Z", other.isoformat().replace("T", " ")
    assert CursorOrder().is_after(*spellings) == (one > other)
    assert CursorOrder().is_same(*spellings) == (one == other)


@pytest.mark.parametrize(("one", "other"), [("b", "a"), ("a", ""), ("01ARZ3NDEK", "01ARZ34DEK")])
def test_other_texts_are_ordered_as_texts(one: str, other: str) -> None:
    assert CursorOrder().is_after(one, other) == (one > other)
    assert CursorOrder().is_before(one, other) == (one < other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("v10", "v9"),
        ("1.10.1", "1.9.12"),
        ("2026/11/5", "2026/9/25"),
        ("2026-W05", "2025-W52"),
        ("/Date(1767225600000)/", "/Date(999999999999)/"),
    ],
)
def test_texts_that_differ_in_their_numbers_only_are_ordered_by_them(one: str, other: str) -> None:
    assert CursorOrder().is_after(one, other)
    assert CursorOrder().is_before(other, one)


HTTP_NOVEMBER, HTTP_DECEMBER = "Mon, 30 Nov 2026 23:00:00 GMT", "Tue, 01 Dec 2026 00:00:00 +0000"


def test_http_dates_are_ordered_as_times() -> None:
    assert CursorOrder().is_after(HTTP_DECEMBER, HTTP_NOVEMBER)
    assert CursorOrder().is_after(HTTP_DECEMBER, "2026-11-30T23:59:59Z")
    assert CursorOrder().is_same(HTTP_DECEMBER, "2026-12-01T01:00:00+01:00")
    assert apply_cursor_lag("Tue, 01 Dec 2026 00:00:00 GMT", 3600, None) == HTTP_NOVEMBER


@pytest.mark.parametrize(
    "text",
    [
        *("25/11/2026", "11-25-2026", "25.11.2026 10:00", "25/11/26", "25 Nov 2026"),
        *("Nov 25, 2026", "25-NOV-2026", "11/25/2026 10:00 PM", "2026-11-25 10:00:00 PM"),
        *("10004-01-01T00:00:00Z", "2026-11-25 10:00:00 EST", "2026-02-30T00:00:00Z"),
    ],
)
def test_a_date_in_a_form_without_an_order_is_refused(text: str) -> None:
    for other in (text, "2026-11-25T00:00:00Z", "a"):
        with pytest.raises(IncomparableError, match="no order"):
            CursorOrder().is_after(text, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        ("1704067200", "2024-01-01T00:00:00Z"),
        ("9", "8x"),
        ("2026-02-30", "2026-02-28"),
        ("2026-W05", "2026-01-01"),
        # the unit changes
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000_000, 1_700_000_000.5),
        ("1700000000", "1700000000000"),
        (1_700_000_000_000, 1_700_000_000_000_000),
        (1_700_000_000, 1_700_000_000_000_000_000),
    ],
)
def test_values_of_different_kinds_have_no_order(one: Any, other: Any) -> None:
    for pair in ((one, other), (other, one)):
        with pytest.raises(IncomparableError, match="can't be compared"):
            CursorOrder().is_after(*pair)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (5, 5_000_000),
        (200_000_000, 5_000_000_000_000),
        (0, 1_700_000_000_000),
        (-1_700_000_000, 3),
        (1.5e300, 2.0e300),
        (2**70, 2**80),
    ],
)
def test_numbers_that_count_up_can_jump(one: float, other: float) -> None:
    assert CursorOrder().is_after(other, one) == (other > one)


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
def test_the_lag_is_subtracted_in_the_format_of_the_cursor(
    value: Any, lag: float, start: Any
) -> None:
    assert apply_cursor_lag(value, lag, None) == start
    assert apply_cursor_lag(value, lag, value) == value


rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=12)


@given(st.lists(rows, min_size=1, max_size=5), st.integers(0, 3))
def test_a_position_accepts_each_row_once_in_any_order(batches: list[Any], lag: int) -> None:
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
            if position.accept(at, {"at": at, "name": name}):
                taken[at, name] += 1
        position.save(state)
        assert taken == there
