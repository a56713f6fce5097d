"""The least and greatest of many cursor values at once are those of comparing one by one."""

from datetime import UTC
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.engine.incremental.ordering import CursorOrder, fast_min_max

TIMES = st.datetimes().map(lambda moment: moment.replace(microsecond=0))
SPELLINGS = st.sampled_from(
    [
        lambda moment: moment.isoformat() + "Z",
        lambda moment: moment.isoformat(" "),
        lambda moment: moment.date().isoformat(),
        lambda moment: moment.isoformat(timespec="milliseconds") + "Z",
        lambda moment: moment.replace(tzinfo=UTC).isoformat(),
    ]
)


@given(st.lists(TIMES, min_size=1), SPELLINGS)
def test_times_in_one_spelling_have_the_ends_that_their_order_has(moments, spell) -> None:  # type: ignore[no-untyped-def]
    values = [spell(moment) for moment in moments]
    order = CursorOrder()
    least = reduce(lambda one, other: other if order.is_before(other, one) else one, values)
    greatest = reduce(lambda one, other: other if order.is_after(other, one) else one, values)
    assert fast_min_max(values) in (None, (least, greatest))


@given(st.lists(st.integers(), min_size=1))
def test_whole_numbers_have_their_least_and_greatest_as_ends(values: list[int]) -> None:
    assert fast_min_max(values) == (min(values), max(values))


@given(
    st.lists(st.one_of(st.text(max_size=20), st.none(), st.floats(), TIMES.map(str)), min_size=1)
)
def test_other_values_have_ends_only_if_each_has_the_spelling_of_the_first(
    values: list[object],
) -> None:
    ends = fast_min_max(values)
    assert ends is None or len({len(str(value)) for value in values}) == 1


def test_times_in_two_spellings_have_no_ends_at_once() -> None:
    assert fast_min_max(["2026-01-01T00:00:00Z", "2026-01-01 00:00:00Z"]) is None
    assert fast_min_max(["2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00+02:00"]) is None
    assert fast_min_max(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]) is not None


def test_only_times_among_texts_have_ends_at_once() -> None:
    for text in ("2026-01", "2026-01-01T", "2026-01-01T00:00", "2026/01/01", "20260101", "a", ""):
        assert fast_min_max([text, text]) is None
    assert fast_min_max(["2026-01-01 00:00:00.5", "2026-01-01 00:00:00.4"]) == (
        "2026-01-01 00:00:00.4",
        "2026-01-01 00:00:00.5",
    )
