"""A preview for the terminal: requests, rows, columns and what they show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.engine.preview.previewed import (
    Preview,
    PreviewedRequest,
    PreviewedResource,
    PreviewedTable,
)

__all__ = ["print_preview"]

_MAX_CELL = 40
_COLUMN_WIDTH = 12
"""What a column needs at least on a terminal to be read."""
_SHOWN_REQUESTS = 10
_VERDICT_STYLES = {
    "proved": "green",
    "single page": "green",
    "not proved": "yellow",
    "failed": "red",
}


def print_preview(preview: Preview, console: Console) -> None:
    """Print a preview: each resource, then what is wrong, then a summary."""
    for resource in preview.resources:
        for part in _resource_parts(resource, console.width):
            console.print(part)
    for problem in preview.problems:
        console.print(Text(printable(problem), "red"))
    console.print(_summary(preview))


def _resource_parts(resource: PreviewedResource, width: int) -> Iterator[RenderableType]:
    below = f" (below {resource.parent})" if resource.parent else ""
    yield Text.assemble(
        (printable(resource.name), "bold"),
        f"{printable(below)}  {_count(resource.received, 'row')} received, {resource.write_disposition}",
    )
    for request in resource.requests[:_SHOWN_REQUESTS]:
        yield _request_line(request)
    if len(resource.requests) > _SHOWN_REQUESTS:
        yield Text(f"  and {len(resource.requests) - _SHOWN_REQUESTS} more requests")
    paging = resource.paging
    yield Text.assemble(
        "  paging   ",
        (paging.verdict, _VERDICT_STYLES[paging.verdict]),
        f": {printable(paging.evidence)}",
    )
    yield from map(Text, _facts(resource))
    if resource.table is not None and resource.table.columns:
        yield from _table_parts(resource.table, width)
        for nested in resource.nested:
            yield Text(f"  nested   {_columns_line(nested)}")
    for note in resource.notes:
        yield Text(f"  note     {printable(note)}", "yellow")
    for problem in resource.problems:
        yield Text(f"  wrong    {printable(problem)}", "red")
    yield Text("")


def _request_line(request: PreviewedRequest) -> Text:
    is_ok = request.status is not None and request.status < 400
    retries = f", {_count(request.retries, 'retry', 'retries')}" if request.retries else ""
    return Text.assemble(
        f"  {request.method} {printable(request.url)}  ",
        (str(request.status or "no answer"), "green" if is_ok else "red"),
        f"  {request.milliseconds} ms, {request.bytes:,} bytes{retries}",
    )


def _facts(resource: PreviewedResource) -> Iterator[str]:
    key, cursor = resource.key, resource.cursor
    if key is not None:
        is_unique = "unique in" if key.is_unique else "NOT unique in"
        yield f"  key      {', '.join(key.columns)}: {is_unique} {_count(resource.rows_read, 'row')}"
    if cursor is not None:
        shown = (
            f"rows from {printable(str(cursor.lowest))} to {printable(str(cursor.highest))}"
            if cursor.lowest is not None
            else "no row with a value"
        )
        asked = f", asked from {printable(str(cursor.start))}" if cursor.start is not None else ""
        yield f"  cursor   {printable(cursor.path)}: {shown}{asked}"
    if resource.calls_left:
        yield f"  left     {_count(resource.calls_left, 'further call')} not made (--calls)"


def _table_parts(table: PreviewedTable, width: int) -> Iterator[RenderableType]:
    yield Text(f"  columns  {_columns_line(table)}")
    if not table.rows:
        return
    # a column that is never set would be empty
    used = [one.name for one in table.columns if any(one.name in row for row in table.rows)]
    names = used[: max(1, width // _COLUMN_WIDTH)]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        drawn.add_column(Text(printable(name)), no_wrap=True, overflow="ellipsis")
    for row in table.rows:
        drawn.add_row(*(Text(_cell(row, name)) for name in names))
    yield drawn
    if len(names) < len(used):
        yield Text(f"  and {len(used) - len(names)} more columns (--json has all)")


def _columns_line(table: PreviewedTable) -> str:
    columns = ", ".join(f"{one.name} {one.data_type}" for one in table.columns)
    return printable(f"{table.name} ({_count(table.rows_read, 'row')}): {columns}")


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    text = "" if value is None else printable(str(value))
    return text if len(text) <= _MAX_CELL else f"{text[: _MAX_CELL - 3]}..."


def _summary(preview: Preview) -> Text:
    found = [*preview.problems, *(text for one in preview.resources for text in one.problems)]
    requests: Sequence[PreviewedRequest] = [
        request for one in preview.resources for request in one.requests
    ]
    ended = f", ended early: {preview.ended}" if preview.ended else ""
    wrong = f"{_count(len(found), 'problem')}" if found else "fine"
    return Text(
        f"{wrong}: {_count(len(preview.resources), 'resource')}, {_count(len(requests), 'request')} in "
        f"{preview.seconds:.1f} s{ended}. Nothing was loaded.",
        "bold red" if found else "bold green",
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
