"""Cursor values are read as moments, and moments written as the API spells them."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    EpochTime,
    IsoDate,
    IsoTime,
    PlainNumber,
    PlainText,
    detect_cursor_format,
)
from restsource_dagster_tests.connector.cursors import FORMS, SAMPLES, forms, moments

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sample", "form"),
    [
        ("2024-01-01T00:00:00Z", IsoTime()),
        ("2024-01-01T00:00:00+00:00", IsoTime(zone="+00:00")),
        ("2024-01-01T00:00:00", IsoTime(zone="")),
        ("2024-01-01T00:00:00.000Z", IsoTime(digits=3)),
        ("2024-01-01T00:00:00.000000", IsoTime(digits=6, zone="")),
        ("2024-01-01 00:00:00", IsoTime(separator=" ", zone="")),
        ("2024-01-01T00:00Z", IsoTime(seconds=False)),
        ("2024-01-01", IsoDate()),
        (1704067200, EpochTime(1)),
        (1704067200.0, EpochTime(1, "float", 6)),
        (1704067200000, EpochTime(1000)),
        ("1704067200", EpochTime(1, "text")),
        ("1704067200.500", EpochTime(1, "text", 3)),
        ("1704067200000", EpochTime(1000, "text")),
        (0, PlainNumber()),
        (99_999_999, PlainNumber()),
        (10_000_000_000, PlainNumber()),
        ("17", PlainNumber(as_text=True)),
        (1.5, PlainNumber()),
        ("2024-13-01", PlainText()),
        ("01HQ", PlainText()),
        ("", PlainText()),
        (date(2024, 1, 1), IsoDate()),
        (NEW_YEAR, IsoTime(zone="+00:00")),
    ],
)
def test_the_form_of_a_sample_is_found(sample: Any, form: CursorFormat) -> None:
    assert detect_cursor_format(sample) == form


@pytest.mark.parametrize("sample", [None, True, [], {}, float("nan"), float("inf")])
def test_what_cannot_be_a_cursor_has_no_form(sample: Any) -> None:
    with pytest.raises(CursorValueError):
        detect_cursor_format(sample)


@pytest.mark.parametrize("sample", SAMPLES, ids=repr)
def test_a_sample_is_written_again_as_it_was(sample: Any) -> None:
    form = detect_cursor_format(sample)

    again = form.render(form.parse(sample))

    expected = sample.replace("456789", "456000") if isinstance(sample, str) else sample
    assert (again, type(again)) == (expected, type(sample))


@given(forms, moments)
def test_a_moment_is_read_back_to_the_precision_of_its_form(form: Any, moment: datetime) -> None:
    value = form.render(moment)
    read = form.parse(value)

    assert read <= moment < read + form.precision
    assert form.parse(form.render(read)) == read
    assert form.render(read) == value


@given(forms, moments)
def test_a_form_is_found_again_in_what_it_wrote(form: Any, moment: datetime) -> None:
    if not isinstance(form, EpochTime) or datetime(1975, 1, 1, tzinfo=UTC) < moment:
        assert detect_cursor_format(form.render(moment)) == form


@given(forms, forms, moments, moments)
def test_values_of_any_two_forms_compare_as_moments(
    one: Any, other: Any, first: datetime, second: datetime
) -> None:
    if isinstance(one, EpochTime) or isinstance(other, EpochTime):
        first = first.replace(year=max(first.year, 1980))
        second = second.replace(year=max(second.year, 1980))
        if isinstance(one, EpochTime) and isinstance(other, EpochTime):
            other = one
    first, second = one.parse(one.render(first)), other.parse(other.render(second))
    keys = one.key(one.render(first)), one.key(other.render(second))

    assert (keys[0] < keys[1], keys[0] == keys[1]) == (first < second, first == second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000Z"),
        ("2024-01-01T00:00:00Z", "2024-01-01T02:00:00+02:00"),
        ("2024-01-01T00:00:00Z", "2023-12-31 19:00:00-0500"),
        ("2024-01-01T00:00:00Z", "2024-01-01"),
        ("2024-01-01T00:00:00Z", 1704067200),
        ("2024-01-01T00:00:00Z", 1704067200000.0),
        ("2024-01-01", datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (1704067200, "2024-01-01T00:00:00Z"),
        (1704067200, "1704067200.000"),
        (17, "17"),
        (17, 17.0),
        (17, Decimal("17.00")),
    ],
)
def test_one_moment_or_number_in_two_spellings_has_one_key(one: Any, other: Any) -> None:
    form = detect_cursor_format(one)

    assert form.key(one) == form.key(other)


def test_text_order_is_not_the_order_of_times() -> None:
    form = detect_cursor_format("2024-01-01T00:00:00Z")

    assert form.key("2024-01-01T00:00:00Z") < form.key("2024-01-01T00:00:00.5Z")
    assert form.key("2024-01-01T00:00:00.123456788Z") < form.key("2024-01-01T00:00:00.123456789Z")
    assert form.key("2024-01-01T01:00:00+02:00") < form.key("2024-01-01T00:00:00Z")


def test_numbers_count_in_the_unit_of_an_epoch_whatever_their_size() -> None:
    assert EpochTime(1).parse(5) == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert EpochTime(1000).parse("-1500") == datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("form", FORMS, ids=repr)
@pytest.mark.parametrize("value", [None, True, "soon", [], float("nan"), "2024-02-30"])
def test_what_is_no_time_is_told_apart(form: CursorFormat, value: Any) -> None:
    with pytest.raises(CursorValueError, match="no time"):
        form.key(value)


def test_numbers_too_large_for_a_time_are_told_apart() -> None:
    with pytest.raises(CursorValueError, match="beyond the year 9999"):
        EpochTime(1).parse(10**15)
    with pytest.raises(CursorValueError, match="more than 20 digits"):
        PlainText().key(10**6000)


@pytest.mark.parametrize("form", [PlainNumber(), PlainText()])
def test_other_forms_hold_no_moments(form: CursorFormat) -> None:
    with pytest.raises(CursorValueError):
        form.render(NEW_YEAR)


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_a_moment_without_a_zone_is_refused(form: CursorFormat) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        form.render(datetime(2024, 1, 1))  # noqa: DTZ001 - that is what is refused


@given(st.text(max_size=30) | st.integers() | st.floats() | st.booleans() | st.none())
def test_any_value_has_a_form_or_none_and_is_readable_in_it(value: Any) -> None:
    try:
        form = detect_cursor_format(value)
    except CursorValueError:
        return
    form.parse(value)
    assert form.key(value) == form.key(value)
