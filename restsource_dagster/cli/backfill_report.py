"""What `restsource backfill` shows: the windows, and what became of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from restsource_dagster.cli.backfill_windows import AskedWindow
from restsource_dagster.cli.output import print_json, standard_output
from restsource_dagster.config.connector import Connector, Resource
from restsource_dagster.config.problems import printable
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # they bring Dagster
    from restsource_dagster.cli.backfill_runs import WindowReport
    from restsource_dagster.orchestration.history.plans import HistoryPlan

__all__ = ["BackfillOrder", "BackfillResult", "print_windows", "tell"]

_SHOWN = 40
"""Windows in the table; --json has all of them."""


@dataclass(frozen=True)
class BackfillOrder:
    """What is to be loaded, from where and into what."""

    connector: Connector
    resource: Resource
    plan: "HistoryPlan | None"
    windows: tuple[AskedWindow, ...]
    settings: Settings
    home: Path | None
    wait: bool


@dataclass(frozen=True)
class BackfillResult:
    """What became of it so far."""

    reports: "Sequence[WindowReport]" = ()
    queued: bool = False
    """Whether a daemon carries them out."""
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """Whether a window ended without being loaded."""
        return any(report.status in ("failed", "canceled") for report in self.reports)


def print_windows(console: Console, windows: Sequence[AskedWindow]) -> None:
    """A table of the windows."""
    table = Table("window", "from", "up to", "loaded as", box=box.SIMPLE_HEAD, show_edge=False)
    for window in windows[:_SHOWN]:
        kind = "a window of the history" if window.partition else "a run of its own"
        cells = (window.name, str(window.span.start), str(window.span.end), kind)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table, soft_wrap=False)
    if len(windows) > _SHOWN:
        console.print(f"... and {len(windows) - _SHOWN:,} more: --json shows all.")


def tell(order: BackfillOrder, result: BackfillResult, *, as_json: bool, dry_run: bool) -> None:
    """The result on standard output."""
    if as_json:
        print_json(_as_json(order, result, dry_run=dry_run))
        return
    console = standard_output()
    for report in result.reports:
        if report.failure:
            console.print(Text(printable(f"{report.window.name}: {report.failure}"), "red"))
    console.print(_summary(order, result, dry_run=dry_run))


def _summary(order: BackfillOrder, result: BackfillResult, *, dry_run: bool) -> Text:
    number = len(order.windows)
    windows = f"{number:,} window{'' if number == 1 else 's'}"
    if dry_run:
        return Text(f"{windows}. Nothing was asked for.", "bold")
    if result.queued and not order.wait:
        where = f"`restsource history {order.connector.name}` shows how far they are"
        return Text(f"{len(result.reports):,} of {windows} put into the queue; {where}.", "bold")
    counts = Counter(report.status for report in result.reports)
    parts = [f"{count:,} {status}" for status, count in counts.items()]
    rows = sum(report.rows_loaded or 0 for report in result.reports)
    style = "bold red" if result.failed else "bold green"
    return Text(f"{windows}: {', '.join(parts) or 'none asked for'}; {rows:,} rows", style)


def _as_json(order: BackfillOrder, result: BackfillResult, *, dry_run: bool) -> dict[str, Any]:
    reports = {report.window.name: report for report in result.reports}
    return {
        "connector": order.connector.name,
        "resource": order.resource.name,
        "dry_run": dry_run,
        "queued": result.queued,
        "windows": [_window_as_json(window, reports.get(window.name)) for window in order.windows],
    }


def _window_as_json(window: AskedWindow, report: "WindowReport | None") -> dict[str, Any]:
    return {
        "window": window.name,
        "from": window.span.start,
        "to": window.span.end,
        "partition": window.partition,
        "status": report.status if report else None,
        "run_id": report.run_id if report else None,
        "rows_loaded": report.rows_loaded if report else None,
        "failure": report.failure if report else None,
    }
