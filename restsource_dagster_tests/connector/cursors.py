"""Cursor formats and moments for property tests."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from restsource_dagster.connector.cursor_format import detect_cursor_format

SAMPLES: list[Any] = [
    "2024-01-31T13:45:30Z",
    "2024-01-31T13:45:30z",
    "2024-01-31T13:45:30+00:00",
    "2024-01-31T13:45:30",
    "2024-01-31T13:45:30.123Z",
    "2024-01-31T13:45:30.123456+00:00",
    "2024-01-31T13:45:30.123456789Z",
    "2024-01-31T13:45:30,5",
    "2024-01-31T13:45Z",
    "2024-01-31 13:45:30",
    "2024-01-31 13:45:30.5+0530",
    "2024-01-31T13:45:30-03",
    "2024-01-31",
    1704067200,
    1704067200.25,
    1704067200123,
    1704067200123.5,
    "1704067200",
    "1704067200.250",
    "1704067200123",
]
"""One value of each format in which an API may write a time."""
CURSOR_FORMATS = [detect_cursor_format(sample) for sample in SAMPLES]
FINE_CURSOR_FORMATS = [one for one in CURSOR_FORMATS if one != detect_cursor_format("2024-01-31")]
"""The formats that can express every hour."""

cursor_formats = st.sampled_from(CURSOR_FORMATS)


def moments_between(first_year: int, last_year: int) -> st.SearchStrategy[datetime]:
    """Moments in UTC, to the microsecond."""
    first, last = (datetime(year, 1, 1) for year in (first_year, last_year))  # noqa: DTZ001 - the zone is added
    return st.datetimes(first, last, timezones=st.just(UTC))


moments = moments_between(1902, 2200)
