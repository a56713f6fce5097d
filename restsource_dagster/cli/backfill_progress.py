"""How far a backfill is, for the person at the terminal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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

from restsource_dagster.cli.output import say
from restsource_dagster.config.problems import printable

if TYPE_CHECKING:  # it brings Dagster
    from restsource_dagster.cli.backfill_runs import WindowReport

__all__ = ["Count", "show_count"]

_SPEED_SECONDS = 3600.0
"""The time left is worked out from the windows of so long."""


class Count:
    """Counts windows as they end: a line each, or a bar."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._failed = self._rows = 0

    def ended(self, report: "WindowReport") -> None:
        """A window has ended."""
        self._failed += report.status != "loaded"
        self._rows += report.rows_loaded or 0
        if self._progress is None:
            rows = f", {report.rows_loaded:,} rows" if report.rows_loaded is not None else ""
            say(printable(f"{report.window.name}: {report.status}{rows}"))
            return
        if report.failure:
            text = f"{report.window.name}: {report.failure.splitlines()[0]}"
            self._progress.console.print(Text(printable(text), "red"))
        self._progress.update(
            self._task, advance=1, failed=f"{self._failed:,}", rows=f"{self._rows:,}"
        )


@contextmanager
def show_count(name: str, windows: int) -> Iterator[Count]:
    """Shows on standard error how many windows have ended: a bar on a terminal, else lines."""
    if not Console(stderr=True).is_terminal:
        yield Count(None, TaskID(0))
        return
    # Dagster takes standard error away while an op runs, to keep it as the run's log.
    with os.fdopen(os.dup(2), "w") as terminal:
        console = Console(file=terminal, force_terminal=True, highlight=False, markup=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed  {task.fields[rows]} rows  time left"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns,
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=_SPEED_SECONDS,
        ) as progress:
            task = progress.add_task(printable(name), total=windows, failed="0", rows="0")
            yield Count(progress, task)
