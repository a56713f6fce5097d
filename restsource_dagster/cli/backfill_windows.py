"""The windows that `restsource backfill` loads, and how many of them have ended."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from restsource_dagster.cli.output import print_notice
from restsource_dagster.cli.progress_bars import terminal_bars
from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    detect_cursor_format,
)
from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.backfill import Backfill
from restsource_dagster.connector.partitions import (
    PARTITION_KEY_FORMATS,
    Window,
    next_partition_start,
    partition_floor,
    split_into_windows,
)
from restsource_dagster.connector.validation.diagnostics import printable

__all__ = [
    "RequestedWindow",
    "WindowCounter",
    "WindowReport",
    "show_window_progress",
    "split_requested_range",
]

_LENGTH_BY_GRANULARITY = {"hourly": "1h", "daily": "1d", "weekly": "1w", "monthly": "1mo"}


@dataclass(frozen=True)
class RequestedWindow:
    """A window of the range that the user gave."""

    window: Window
    partition: str | None
    """The key of the backfill's partition that the window equals; None if it equals none."""

    @property
    def name(self) -> str:
        """The value of the tag `restsource/window`."""
        return self.partition or self.window.label

    @property
    def run_config(self) -> Mapping[str, Any]:
        """The run config of the connector's op that loads the window."""
        return {"window": {"from": self.window.start, "to": self.window.end}}


def split_requested_range(
    resource: Resource, from_: str, to: str, window: str | None, partition_keys: frozenset[str]
) -> tuple[RequestedWindow, ...]:
    """Split the range from `from_` to `to`, without `to`, into windows, newest first.

    `window` is their length, by default the length of the resource's partitions, or of its
    `incremental.window`; without either the range is one window. `partition_keys` are the partitions of the resource's backfill.
    Raises `ValueError`, with a sentence for the user, if the range can't be split like that.
    """
    backfill = resource.backfill
    length = window or (
        _LENGTH_BY_GRANULARITY[backfill.partition] if backfill else _length_of_windows(resource)
    )
    windows = split_into_windows(
        from_, to, length, cursor_format=_cursor_format_of_resource(resource)
    )
    return tuple(
        RequestedWindow(one, _matching_partition_key(one, backfill, partition_keys))
        # newest first: people look at recent rows, and an interrupted backfill leaves the oldest
        for one in reversed(windows)
    )


def _length_of_windows(resource: Resource) -> str | None:
    window = resource.incremental.window if resource.incremental else None
    size = window.size if window else None
    # minutes are `m` in the file, where months are not next to them
    return f"{size}in" if size and size.endswith("m") else size


def _matching_partition_key(
    window: Window, backfill: Backfill | None, partition_keys: frozenset[str]
) -> str | None:
    """Return the key of the partition that the window equals, None if it equals none."""
    if backfill is None or not window.cursor_format.is_time:
        return None
    start, end = window.cursor_format.parse(window.start), window.cursor_format.parse(window.end)
    # A run of a partition is shown there by Dagster, so its window must be exactly that.
    partition = backfill.partition
    if partition_floor(partition, start) != start or next_partition_start(partition, start) != end:
        return None
    key = str(start.strftime(PARTITION_KEY_FORMATS[partition]))
    # Dagster refuses a run with a partition key that its partitions don't have (yet).
    return key if key in partition_keys else None


def _cursor_format_of_resource(resource: Resource) -> CursorFormat | None:
    value = resource.incremental.sample if resource.incremental else None
    try:
        return None if value is None else detect_cursor_format(value)
    except CursorValueError:
        return None


@dataclass(frozen=True)
class WindowReport:
    """The result of a window."""

    window: RequestedWindow
    status: str
    """`loaded`, `failed` or `canceled`; `queued` or `in progress` before that."""
    run_id: str | None = None
    rows_loaded: int | None = None
    failure: str | None = None


_SPEED_ESTIMATE_SECONDS = 3600.0
"""The remaining time is estimated from the windows of this long: in rich's own period, 30 seconds, a long
window doesn't end."""


class WindowCounter:
    """Counts windows as they end, and shows a line for each, or a bar."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._failed = self._rows = 0

    def add(self, report: WindowReport) -> None:
        """Count a window that has ended."""
        self._failed += report.status != "loaded"
        self._rows += report.rows_loaded or 0
        if self._progress is None:
            rows = f", {report.rows_loaded:,} rows" if report.rows_loaded is not None else ""
            print_notice(printable(f"{report.window.name}: {report.status}{rows}"))
            return
        if report.failure:
            text = f"{report.window.name}: {report.failure.splitlines()[0]}"
            self._progress.console.print(Text(printable(text), "red"))
        self._progress.update(
            self._task, advance=1, failed=f"{self._failed:,}", rows=f"{self._rows:,}"
        )


@contextmanager
def show_window_progress(name: str, windows: int) -> Iterator[WindowCounter]:
    """Show on standard error how many windows have ended: a bar on a terminal, else lines."""
    if not Console(stderr=True).is_terminal:
        yield WindowCounter(None, TaskID(0))
        return
    with terminal_bars(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed  {task.fields[rows]} rows  time left"),
        TimeRemainingColumn(),
        speed_estimate_seconds=_SPEED_ESTIMATE_SECONDS,
    ) as progress:
        task = progress.add_task(printable(name), total=windows, failed="0", rows="0")
        yield WindowCounter(progress, task)
