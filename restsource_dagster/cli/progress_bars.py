"""The progress of a run on the terminal."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from restsource_dagster.cli.output import print_notice
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.engine.run_progress import Observer, SilentObserver

__all__ = ["show_progress", "terminal_bars"]


class _LineObserver(SilentObserver):
    """Without a terminal: prints messages only. The run's log in Dagster shows pages and phases."""

    def message(self, text: str) -> None:
        print_notice(printable(text))


class _BarObserver:
    """On a terminal: shows a bar per resource, with pages, rows and rows per second."""

    def __init__(self, progress: Progress, connector: Connector) -> None:
        self._progress = progress
        self._connector = connector
        self._tasks: dict[str, TaskID] = {}
        self._family: str | None = None

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        self._progress.update(
            self._task(resource),
            pages=f"{pages:,}",
            rows=f"{rows:,}",
            rate=f"{rows_per_second:,.0f}",
        )

    def phase(self, family: str, phase: str) -> None:
        if family != self._family:
            self.end_family()
            self._family = family
        # The root's bar appears with the phase, before its first page arrives.
        self._task(family)
        for member in self._connector.family_of(family).members:
            if member.name in self._tasks:
                self._progress.update(self._tasks[member.name], phase=phase)

    def checkpoint(self, resource: str, rows: int) -> None:
        # beside the phase, which is `extract` again at once
        self._progress.update(self._task(resource), stored=f"  {rows:,} stored")

    def message(self, text: str) -> None:
        self._progress.console.print(Text(printable(text)))

    def end_family(self) -> None:
        """Stop the bars of the family in progress."""
        if self._family is None:
            return
        for member in self._connector.family_of(self._family).members:
            if member.name in self._tasks:
                # A bar stops its clock when it has a total and reaches it; the number of pages is
                # never known before.
                self._progress.update(self._tasks[member.name], total=1, completed=1, phase="")

    def _task(self, resource: str) -> TaskID:
        if resource not in self._tasks:
            self._tasks[resource] = self._progress.add_task(
                printable(resource),
                total=None,
                pages="0",
                rows="0",
                rate="0",
                phase="extract",
                stored="",
            )
        return self._tasks[resource]


@contextmanager
def show_progress(connector: Connector, *, bars: bool) -> Iterator[Observer]:
    """Show a run's progress on standard error: bars on a terminal if `bars` is set, else lines."""
    if not (bars and Console(stderr=True).is_terminal):
        yield _LineObserver()
        return
    with terminal_bars(
        BarColumn(bar_width=20),
        TextColumn("{task.fields[pages]} pages  {task.fields[rows]} rows"),
        TextColumn("{task.fields[rate]} rows/s  {task.fields[phase]}{task.fields[stored]}"),
        TimeElapsedColumn(),
    ) as progress:
        observer = _BarObserver(progress, connector)
        yield observer
        observer.end_family()


@contextmanager
def terminal_bars(
    *columns: ProgressColumn, speed_estimate_seconds: float = 30.0
) -> Iterator[Progress]:
    """Show bars on the terminal, with these columns after the description.

    The remaining time is estimated from the steps of the last `speed_estimate_seconds`.
    """
    # Dagster redirects standard error to the run's log while an op runs
    with os.fdopen(os.dup(2), "w") as terminal:
        console = Console(file=terminal, force_terminal=True, highlight=False, markup=False)
        with Progress(
            TextColumn("{task.description}", markup=False),
            *columns,
            console=console,
            # rich would put its own file in place of `sys.stdout`, which is redirected already.
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=speed_estimate_seconds,
        ) as progress:
            yield progress
