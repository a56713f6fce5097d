"""`restsource backfill`: loads a range of a resource's incremental cursor in windows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from dotenv import load_dotenv
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from restsource_dagster.cli.backfill_windows import (
    RequestedWindow,
    WindowReport,
    show_window_progress,
    split_requested_range,
)
from restsource_dagster.cli.common import (
    find_connector,
    find_dagster_home,
    find_resources,
    open_instance,
    read_settings,
)
from restsource_dagster.cli.interrupts import Interrupts, watch_interrupts
from restsource_dagster.cli.options import (
    ConfigsOption,
    DryRunOption,
    FromOption,
    JsonOption,
    NameArgument,
    ToOption,
    WaitOption,
    WindowedResourceArgument,
    WindowOption,
)
from restsource_dagster.cli.output import (
    exit_on_failure,
    print_json,
    print_notice,
    result_console,
    stdout_to_stderr,
)
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # both import Dagster
    from restsource_dagster.cli.execution import WindowRuns
    from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan

__all__ = [
    "BackfillRequest",
    "BackfillResult",
    "backfill",
    "print_backfill_result",
    "print_windows",
]

_MAX_WINDOWS_SHOWN = 40
"""Windows in the table; --json prints all of them."""


@dataclass(frozen=True)
class BackfillRequest:
    """What to load, from where and into what."""

    connector: Connector
    resource: Resource
    plan: "BackfillPlan | None"
    windows: tuple[RequestedWindow, ...]
    settings: Settings
    wait: bool


@dataclass(frozen=True)
class BackfillResult:
    """The result of a backfill so far."""

    reports: Sequence[WindowReport] = ()
    queued: bool = False
    """True if a daemon loads the windows."""
    ended: bool = True
    """False if the command does not wait until the windows are loaded."""
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """True if a window is not loaded; while the daemon loads them, if one failed."""
        if self.ended:
            return any(report.status != "loaded" for report in self.reports)
        return any(report.status in ("failed", "canceled") for report in self.reports)


def print_windows(console: Console, windows: Sequence[RequestedWindow]) -> None:
    """Print the windows as a table."""
    table = Table("window", "from", "up to", "loaded as", box=box.SIMPLE_HEAD, show_edge=False)
    for window in windows[:_MAX_WINDOWS_SHOWN]:
        kind = "a partition of the backfill" if window.partition else "a run of its own"
        cells = (window.name, str(window.window.start), str(window.window.end), kind)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table, soft_wrap=False)
    if len(windows) > _MAX_WINDOWS_SHOWN:
        console.print(f"... and {len(windows) - _MAX_WINDOWS_SHOWN:,} more: --json shows all.")


def print_backfill_result(
    request: BackfillRequest, result: BackfillResult, *, as_json: bool, dry_run: bool
) -> None:
    """Print the result on standard output."""
    if as_json:
        print_json(_backfill_as_json(request, result, dry_run=dry_run))
        return
    console = result_console()
    for report in result.reports:
        if report.failure:
            console.print(Text(printable(f"{report.window.name}: {report.failure}"), "red"))
        elif result.ended and report.status in ("queued", "in progress"):
            console.print(
                Text(printable(f"{report.window.name}: {_unfinished_text(report)}"), "red")
            )
    console.print(_backfill_summary(request, result, dry_run=dry_run))


def _unfinished_text(report: WindowReport) -> str:
    return (
        f"not loaded by this command: run {report.run_id} has it and has not ended. Run the command "
        "again when it has, or terminate that run in the UI first"
    )


def _backfill_summary(request: BackfillRequest, result: BackfillResult, *, dry_run: bool) -> Text:
    number = len(request.windows)
    windows = f"{number:,} window{'' if number == 1 else 's'}"
    if dry_run:
        return Text(f"{windows}. Nothing was started.", "bold")
    if not result.ended:
        queued = sum(report.status == "queued" for report in result.reports)
        where = f"`restsource history {request.connector.name}` shows their progress"
        return Text(f"{queued:,} of {windows} put into the queue; {where}.", "bold")
    counts = Counter(report.status for report in result.reports)
    parts = [f"{count:,} {status}" for status, count in counts.items()]
    rows = sum(report.rows_loaded or 0 for report in result.reports)
    style = "bold red" if result.failed else "bold green"
    return Text(f"{windows}: {', '.join(parts) or 'none started'}; {rows:,} rows", style)


def _backfill_as_json(
    request: BackfillRequest, result: BackfillResult, *, dry_run: bool
) -> dict[str, Any]:
    reports = {report.window.name: report for report in result.reports}
    return {
        "connector": request.connector.name,
        "resource": request.resource.name,
        "dry_run": dry_run,
        "queued": result.queued,
        "windows": [
            _window_as_json(window, reports.get(window.name)) for window in request.windows
        ],
    }


def _window_as_json(window: RequestedWindow, report: WindowReport | None) -> dict[str, Any]:
    return {
        "window": window.name,
        "from": window.window.start,
        "to": window.window.end,
        "partition": window.partition,
        "status": report.status if report else None,
        "run_id": report.run_id if report else None,
        "rows_loaded": report.rows_loaded if report else None,
        "failure": report.failure if report else None,
    }


def backfill(
    name: NameArgument,
    resource: WindowedResourceArgument,
    from_: FromOption,
    to: ToOption,
    window: WindowOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = False,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load a range of a resource's incremental cursor in windows, newest first.

    Loads windows again that are loaded already, which leaves the same rows. The stored cursor stays.
    A window that equals a partition of the resource's backfill counts as that partition; others are
    runs of the connector's job.

    If a Dagster daemon is running, the windows go into its queue, and the command returns; with
    --wait it waits until they have ended. Without a daemon, the command loads them itself, one after
    the other.

    Exit code 1 if a window is not loaded when the command ends; the others are loaded.

    Example: restsource backfill shop orders --from 2024-01-01 --to 2024-07-01 --window 1mo
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    root = _find_backfill_root(connector, resource)
    plan = _read_backfill_plan(connector, root, settings)
    windows = _parse_windows(root, plan, from_, to, window)
    request = BackfillRequest(connector, root, plan, windows, settings, wait=wait)
    if not as_json:
        print_windows(result_console(), windows)
    result = BackfillResult() if dry_run else _execute_backfill(request)
    print_backfill_result(request, result, as_json=as_json, dry_run=dry_run)
    exit_on_failure(interrupted=result.interrupted, failed=result.failed)


def _find_backfill_root(connector: Connector, name: str) -> Resource:
    """Return the resource. Raises `typer.BadParameter` if it can't be loaded in windows."""
    from restsource_dagster.engine.errors import IngestError
    from restsource_dagster.engine.run.window_load import check_backfillable

    [found] = find_resources(connector, [name])
    try:
        check_backfillable(connector, found)
    except IngestError as error:
        raise typer.BadParameter(str(error), param_hint="RESOURCE") from error
    return connector.resource(found)


def _parse_windows(
    root: Resource, plan: "BackfillPlan | None", start: str, end: str, length: str | None
) -> tuple[RequestedWindow, ...]:
    """Return the windows of the range. Raises `typer.BadParameter` for invalid ends or lengths."""
    # A partition that has not ended has no key in Dagster yet, so its window is a run of its own.
    keys = frozenset(plan.due_keys()) if plan else frozenset[str]()
    try:
        return split_requested_range(root, start, end, length, keys)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from, --to, --window") from error


def _read_backfill_plan(
    connector: Connector, resource: Resource, settings: Settings
) -> "BackfillPlan | None":
    if resource.backfill is None:
        return None
    from restsource_dagster.orchestration.backfills.backfill_plan import read_backfill_plans

    return next(
        p for p in read_backfill_plans(connector, settings) if p.resource.name == resource.name
    )


def _execute_backfill(request: BackfillRequest) -> BackfillResult:
    home = find_dagster_home("Not recorded")
    # The file overrides the environment, as in `dagster dev`: both read the same secrets.
    load_dotenv(Path.cwd() / ".env", override=True)
    with ExitStack() as stack:
        interrupts = stack.enter_context(watch_interrupts())
        stack.enter_context(stdout_to_stderr())

        # Here, because importing Dagster takes a second and can print: the arguments are valid by
        # now, and standard output is redirected.
        from restsource_dagster.cli.execution import WindowRuns, is_daemon_running
        from restsource_dagster.orchestration.run_config import RunSettings

        instance = stack.enter_context(open_instance(home))
        runs = WindowRuns(
            request.connector,
            request.resource.name,
            request.plan,
            RunSettings(request.settings),
            instance,
        )
        # Before any run is created: two runs of one window would send its requests twice.
        in_progress = _windows_in_progress(runs, request.windows)
        known = {report.window for report in in_progress}
        windows = [window for window in request.windows if window not in known]
        if is_daemon_running(instance):
            return _enqueue_windows(runs, windows, in_progress, wait=request.wait)
        print_notice(
            "No Dagster daemon is running for this instance. Loading in this process, newest first."
        )
        result = _execute_windows(runs, windows, interrupts)
        # another command may have loaded them meanwhile
        others = [runs.report(report.window, str(report.run_id)) for report in in_progress]
        return replace(result, reports=[*result.reports, *others])


def _windows_in_progress(
    runs: "WindowRuns", windows: Iterable[RequestedWindow]
) -> list[WindowReport]:
    """Return reports of the windows that are queued or running, and print a line for each."""
    run_ids = runs.runs_in_progress()
    found = [
        WindowReport(window, "in progress", run_ids[window.name])
        for window in windows
        if window.name in run_ids
    ]
    for report in found:
        print_notice(
            printable(f"{report.window.name} is in progress already and is not started again.")
        )
    return found


def _enqueue_windows(
    runs: "WindowRuns",
    windows: Iterable[RequestedWindow],
    in_progress: Sequence[WindowReport],
    *,
    wait: bool,
) -> BackfillResult:
    """Put windows into the daemon's queue; with `wait`, follow them and those in progress."""
    queued = [*in_progress, *(runs.enqueue(window) for window in windows)]
    if not wait:
        return BackfillResult(queued, queued=True, ended=False)
    # A window keeps the report `queued` if Ctrl-C comes before its run ends.
    ended: dict[str | None, WindowReport] = {report.run_id: report for report in queued}
    interrupted = False
    with show_window_progress(f"{runs.connector.name}/{runs.resource}", len(queued)) as count:
        try:
            for report in runs.wait(queued):
                ended[report.run_id] = report
                count.add(report)
        except KeyboardInterrupt:
            interrupted = True
            print_notice("The remaining windows stay in the queue; the daemon loads them.")
    return BackfillResult(list(ended.values()), queued=True, interrupted=interrupted)


def _execute_windows(
    runs: "WindowRuns", windows: Sequence[RequestedWindow], interrupts: Interrupts
) -> BackfillResult:
    reports: list[WindowReport] = []
    with show_window_progress(f"{runs.connector.name}/{runs.resource}", len(windows)) as count:
        for window in windows:
            try:
                report = runs.execute(window, interrupts)
            except KeyboardInterrupt:
                break
            reports.append(report)
            count.add(report)
            # Ctrl-C ends the run in progress; the windows after it must not start.
            if interrupts.press_count:
                break
    return BackfillResult(reports, interrupted=interrupts.press_count > 0)
