"""Rules of what makes a run ask again and again from its cursor: what it could not honour is refused.

That are `window` and `retention` of a cursor, and `max_rows` of a paginator.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from restsource_dagster.connector.cursor_format import (
    HTTP_DATE,
    CursorFormat,
    EpochTime,
    IsoDate,
    detect_cursor_format,
    moment_of,
)
from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.model import Family, Incremental, Resource, families_of
from restsource_dagster.connector.models.connector_file import Client
from restsource_dagster.connector.models.incremental_cursor import CursorWindow
from restsource_dagster.connector.partitions import next_partition_start, partition_floor
from restsource_dagster.connector.time_formats import moved_by
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    json_pointer,
    quoted_name,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_max_rows", "check_windows"]

# its month has 31 days, so that a month is longer than 30 days
_ANY_START = datetime(2024, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class _WindowRefusal:
    field: str
    message: str
    fix: str
    found: str | None = None


def check_windows(
    merged_resources: Sequence[MergedResource],
    resources: Sequence[Resource],
    structural: Sequence[Finding],
) -> None:
    """Report each `window` and `retention` that a run could not honour, with the reason.

    A cursor with a finding in `structural` is not checked: part of it is left out here.
    """
    by_name = {merged.name: merged for merged in merged_resources}
    families = {family.root.name: family for family in families_of(resources)}
    for resource in resources:
        cursor, merged = resource.incremental, by_name[resource.name]
        if cursor is None or not (cursor.window or cursor.retention):
            continue
        place = json_pointer(merged.endpoint_location("incremental"))
        # with a slash at the end: `/incremental_x` is another field
        if any(f"{finding.pointer}/".startswith(f"{place}/") for finding in structural):
            continue
        for refusal in _refusals(resource, cursor, families.get(resource.name)):
            merged.report(
                (*merged.endpoint_location("incremental"), refusal.field),
                refusal.message,
                refusal.found,
                fix=refusal.fix,
                code=f"deliberate:{refusal.field}",
            )


def _refusals(
    resource: Resource, cursor: Incremental, family: Family | None
) -> Iterator[_WindowRefusal]:
    # one problem each: the next one may be gone with it
    if cursor.window:
        yield from _first(_window_refusals(resource, cursor, cursor.window))
    if cursor.retention:
        yield from _first(_retention_refusals(resource, cursor, family))


def _first(refusals: Iterator[_WindowRefusal]) -> Iterator[_WindowRefusal]:
    if refusal := next(refusals, None):
        yield refusal


def _window_refusals(
    resource: Resource, cursor: Incremental, window: CursorWindow
) -> Iterator[_WindowRefusal]:
    if not (window.size or window.delay):
        yield _WindowRefusal(
            "window",
            "`window` has neither `size` nor `delay`, so it does nothing",
            'Write "window": {"size": "30d"}, or leave it out',
        )
    yield from _range_refusals(resource, cursor, "window")
    if resource.disposition.value in ("replace", "skip"):
        yield _WindowRefusal(
            "window",
            f"With {resource.disposition.value} a window leaves no row of the others in the table",
            'Add "primary_key" and write "merge", or write "append"',
        )
    if cursor.range_start == "open":
        yield _WindowRefusal(
            "window",
            "Windows meet at times that no row may have, and `range_start`: `open` leaves out the row that "
            "has one",
            'Leave "range_start" out',
        )
    if window.size:
        yield from _size_refusals(resource, cursor, window.size)


def _range_refusals(
    resource: Resource, cursor: Incremental, field: str
) -> Iterator[_WindowRefusal]:
    """Yield what is missing for both fields. They need a root whose cursor is a growing time without an end."""
    if resource.parent is not None:
        yield _WindowRefusal(
            field,
            f"{quoted_name(resource.name)} is asked for below {quoted_name(resource.parent)}, with a cursor "
            "for each of its records",
            f"Move `{field}` to the resource without a parent",
        )
    if resource.endpoint.for_each and field == "retention":  # `check_for_each` refuses a window
        yield _WindowRefusal(
            field,
            f"{quoted_name(resource.name)} is asked for each value of `for_each`, with a cursor for each",
            f"Leave out `{field}`, or write a resource for each value",
        )
    if cursor.end_value is not None:
        yield _WindowRefusal(
            field,
            "`end_value` makes one fixed range, and no cursor is stored",
            f"Leave out `end_value` or `{field}`. To load a fixed range in windows, use "
            "`restsource backfill`",
        )
    if cursor.last_value_func == "min":
        yield _WindowRefusal(
            field,
            "The cursor is descending (`last_value_func` is `min`), and time ascends",
            f"Leave out `{field}`, or order the API by a cursor that grows",
        )
    if _form_of(cursor) is None:
        found = None if cursor.initial_value is None else describe_value(cursor.initial_value)
        yield _WindowRefusal(
            field,
            f"`{field}` is a length of time from the cursor on, and `initial_value` is no time that shows "
            "its form",
            'Write "initial_value" as rows spell the cursor: a time such as 2024-01-01T00:00:00Z, or a '
            "number of seconds or milliseconds since 1970 after 1973; with `cursor_format` for other forms",
            found,
        )


def _form_of(cursor: Incremental) -> CursorFormat | None:
    """Return the form of the cursor; None if it is no time, or not known from the file."""
    try:
        sample = cursor.sample
        if sample is None or find_references(sample) or HTTP_DATE.fullmatch(str(sample)):
            return None
        form = detect_cursor_format(sample)
    except ValueError:  # no cursor, or a relative time outside of all years
        return None
    return form if form.is_time else None


def _size_refusals(resource: Resource, cursor: Incremental, size: str) -> Iterator[_WindowRefusal]:
    endpoint, length = resource.endpoint, _length_of(size)
    if not endpoint.sends_end:
        yield _WindowRefusal(
            "window",
            "A window with a `size` has an end, and the request has no place for it",
            'Add "end_param" with the API\'s name for it, or write `{incremental.end_value}` in a param',
        )
    if not endpoint.sends_start:
        yield _WindowRefusal(
            "window",
            "Each window starts where the last one ended, and nothing sends the start",
            'Add "start_param" with the API\'s name for it, or write `{incremental.start_value}` in a param',
        )
    form = _form_of(cursor)
    # an end that is written like the start would ask for nothing
    least = _DAY if isinstance(form, IsoDate) else timedelta(seconds=1)
    if length < least:
        yield _WindowRefusal(
            "window",
            "The window is shorter than the smallest step of the cursor, so it would never end",
            'Write a longer "size", such as "30d"; whole days if `initial_value` is a date',
            size,
        )
    if cursor.lag and _lag_of(cursor.lag, form) >= length:
        yield _WindowRefusal(
            "window",
            "`lag` is as long as a window, so each one would end where it started",
            'Write a longer "size" or a shorter "lag"',
            size,
        )
    if resource.backfill and _is_longer(resource.backfill.partition, size):
        yield _WindowRefusal(
            "window",
            f"A {resource.backfill.partition} partition of the `backfill` is asked for at once, and it is "
            "longer than a window",
            'Write a shorter "partition", or a longer "size"; "1mo" is as long as a month',
            size,
        )


def _length_of(duration: str) -> timedelta:
    """Return the shortest that a length of time may be: a month has 28 days, a year 365."""
    # of a year that is no leap year: any other month, or year, is longer
    february = datetime(2023, 2, 1, tzinfo=UTC)
    return moved_by(february, duration) - february


def _lag_of(lag: float, form: CursorFormat | None) -> timedelta:
    # as dlt takes it: days for dates, the unit of an epoch, else seconds
    if isinstance(form, IsoDate):
        return timedelta(days=lag)
    per_second = form.units_per_second if isinstance(form, EpochTime) else 1
    return timedelta(seconds=lag / per_second)


def _is_longer(partition: Any, size: str) -> bool:
    start = partition_floor(partition, _ANY_START)
    return next_partition_start(partition, start) > moved_by(start, size)


def _retention_refusals(
    resource: Resource, cursor: Incremental, family: Family | None
) -> Iterator[_WindowRefusal]:
    yield from _range_refusals(resource, cursor, "retention")
    for member in family.members if family else (resource,):
        if member.disposition.value != "merge":
            yield _WindowRefusal(
                "retention",
                f"Rows that are read again from `initial_value` on would be stored twice: "
                f"{quoted_name(member.name)} is written with {member.disposition.value}",
                f'Add "primary_key" to {quoted_name(member.name)}, so that its rows are merged',
            )
    initial = moment_of(cursor.sample)
    oldest = moved_by(_ANY_START, cursor.retention or "", -1)
    starts_within = cursor.initial_value != cursor.sample and initial is not None
    if cursor.window and cursor.window.size:
        sample_start = detect_cursor_format(cursor.sample).parse(cursor.sample)
        if not starts_within or sample_start < oldest:
            yield _WindowRefusal(
                "retention",
                "Windows from an `initial_value` that the API keeps no changes of would start again and again",
                f'Write a start within the retention, such as "initial_value": "{{now-{cursor.retention}}}"',
                describe_value(cursor.initial_value),
            )


def check_max_rows(
    merged_resources: Sequence[MergedResource],
    resources: Sequence[Resource],
    client: Client | None,
    findings: list[Finding],
) -> None:
    """Report each `max_rows` where the paging can't start anew from the last row, with the reason."""
    by_name = {merged.name: merged for merged in merged_resources}
    families = {family.root.name: family for family in families_of(resources)}
    if client and getattr(client.paginator, "max_rows", None) is not None:
        findings.append(
            Finding(
                json_pointer(("client", "paginator", "max_rows")),
                "`max_rows` starts the paging anew from the cursor of a resource, and this paginator is for all",
                fix="Move it to the `paginator` of each endpoint that needs it",
                code="deliberate:max-rows",
            )
        )
    for resource in resources:
        most = getattr(resource.endpoint.paginator, "max_rows", None)
        if most is None:
            continue
        merged = by_name[resource.name]
        for message, fix in _max_rows_refusals(resource, families.get(resource.name), most):
            merged.report(
                (*merged.endpoint_location("paginator"), "max_rows"),
                f"With `max_rows` the paging starts anew from the last row, and {message}",
                fix=fix,
                code="deliberate:max-rows",
            )
            break


def _max_rows_refusals(
    resource: Resource, family: Family | None, most: int
) -> Iterator[tuple[str, str]]:
    cursor, limit = resource.incremental, getattr(resource.endpoint.paginator, "limit", None)
    if resource.parent is not None:
        yield (
            f"{quoted_name(resource.name)} is asked for below {quoted_name(resource.parent)}, where it can't",
            "Leave it out, or ask for the rows without a parent",
        )
    if resource.endpoint.for_each:
        yield (
            f"{quoted_name(resource.name)} has a call for each value of `for_each`",
            "Leave it out, or write a resource for each value",
        )
    if cursor is None or not resource.endpoint.sends_start:
        yield (
            "nothing sends a cursor to start from",
            'Add "incremental": {"cursor_path": "updated_at", "start_param": "since", "row_order": "asc"}',
        )
    elif cursor.end_value is not None:
        yield "with `end_value` no cursor is stored", "Leave out `end_value`"
    elif cursor.row_order != "asc" or cursor.last_value_func == "min":
        yield (
            "that row must be the newest one",
            'Add "row_order": "asc" to the cursor, and a param that has the API sort by it, oldest first',
        )
    for member in family.members if family else (resource,):
        if member.disposition.value != "merge":
            yield (
                f"rows come again, which {quoted_name(member.name)} would {member.disposition.value} twice",
                f'Add "primary_key" to {quoted_name(member.name)}, so that its rows are merged',
            )
    # the first query would be cut off within its first page, which nothing shows
    if isinstance(limit, int) and limit > most:
        yield "one page has more rows than that already", f'Write a "limit" of {most} or less'
