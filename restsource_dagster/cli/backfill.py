"""`restsource backfill`: load a range of a resource's cursor in windows."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from dotenv import load_dotenv

from restsource_dagster.cli.backfill_progress import show_count
from restsource_dagster.cli.backfill_report import (
    BackfillOrder,
    BackfillResult,
    print_windows,
    tell,
)
from restsource_dagster.cli.backfill_windows import AskedWindow, asked_windows
from restsource_dagster.cli.connectors import find_connector, find_resources
from restsource_dagster.cli.instance import PROJECT_HOME, find_home, open_instance
from restsource_dagster.cli.interrupts import Interrupts, watch_interrupts
from restsource_dagster.cli.options import Configs, Json, Name, read_settings
from restsource_dagster.cli.output import (
    leave,
    say,
    standard_output,
    standard_output_kept_clean,
)
from restsource_dagster.config.connector import Connector, Resource
from restsource_dagster.config.problems import printable
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # they bring Dagster
    from restsource_dagster.cli.backfill_runs import WindowReport, WindowRuns
    from restsource_dagster.orchestration.history.plans import HistoryPlan

__all__ = ["backfill"]


def backfill(
    name: Name,
    resource: Annotated[
        str,
        typer.Argument(
            metavar="RESOURCE",
            help="A resource with an incremental cursor. What depends on it is loaded with it.",
        ),
    ],
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="X",
            help="Where the range starts: a time, a date or a number, as the cursor is.",
            show_default=False,
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="Y",
            help="Where it ends. Y itself is not part of the range.",
            show_default=False,
        ),
    ],
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="LENGTH",
            help="How long a window is: 30s, 15min, 12h, 7d, 2w, 1mo, 1y; for numbers a number. By "
            "default as the `backfill` block says, else one window for all.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show the windows.", show_default=False),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Wait until all windows have ended, with a progress bar on a terminal.",
            show_default=False,
        ),
    ] = False,
    configs: Configs = None,
    as_json: Json = False,
) -> None:
    """Load a range of a resource's cursor in windows, newest first, whatever is loaded already.

    The stored cursor stays where it is, and loading a window again leaves the same rows. A window
    that is one of the resource's history counts as such; others are runs of the connector's job.

    If a Dagster daemon is running, the windows are put into its queue, and the command returns; with
    --wait it stays until they have ended. Without a daemon they are loaded here, one after the other,
    and the command waits in any case.

    Exit code 1 if a window failed; the others are loaded all the same.

    Example: restsource backfill shop orders --from 2024-01-01 --to 2024-07-01 --window 1mo
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    root = _root(connector, resource)
    plan = _plan(connector, root, settings)
    windows = _windows(root, plan, from_, to, window)
    order = BackfillOrder(connector, root, plan, windows, settings, find_home(), wait=wait)
    if not as_json:
        print_windows(standard_output(), windows)
    result = BackfillResult() if dry_run else _carry_out(order)
    tell(order, result, as_json=as_json, dry_run=dry_run)
    leave(interrupted=result.interrupted, failed=result.failed)


def _root(connector: Connector, name: str) -> Resource:
    """The resource. Raises `typer.BadParameter` for one that can't be loaded in windows."""
    from restsource_dagster.engine.errors import IngestError
    from restsource_dagster.engine.history import check_windows

    [found] = find_resources(connector, [name])
    try:
        check_windows(connector, found)
    except IngestError as error:
        raise typer.BadParameter(str(error), param_hint="RESOURCE") from error
    return connector.resource(found)


def _windows(
    root: Resource, plan: "HistoryPlan | None", start: str, end: str, length: str | None
) -> tuple[AskedWindow, ...]:
    """The windows of the range. Raises `typer.BadParameter` for ends or a length that make none."""
    keys = frozenset(plan.due()) if plan else frozenset[str]()
    try:
        return asked_windows(root, start, end, length, keys)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from, --to, --window") from error


def _plan(connector: Connector, resource: Resource, settings: Settings) -> "HistoryPlan | None":
    if resource.backfill is None:
        return None
    from restsource_dagster.orchestration.history.plans import plans_of

    return next(p for p in plans_of(connector, settings) if p.resource.name == resource.name)


def _carry_out(order: BackfillOrder) -> BackfillResult:
    if order.home is None:
        say(f"Not recorded: DAGSTER_HOME is not set, and there is no {PROJECT_HOME}.")
    load_dotenv(Path.cwd() / ".env", override=True)
    with ExitStack() as stack:
        interrupts = stack.enter_context(watch_interrupts())
        stack.enter_context(standard_output_kept_clean())

        from restsource_dagster.cli.backfill_runs import WindowRuns, has_daemon
        from restsource_dagster.orchestration.run_settings import RunSettings

        instance = stack.enter_context(open_instance(order.home))
        runs = WindowRuns(
            order.connector, order.resource.name, order.plan, RunSettings(order.settings), instance
        )
        windows = _not_going_on(runs, order.windows)
        if has_daemon(instance):
            return _through_daemon(runs, windows, wait=order.wait)
        say("No Dagster daemon is running for this instance: loading here, newest first.")
        return _here(runs, windows, interrupts)


def _not_going_on(runs: "WindowRuns", windows: Iterable[AskedWindow]) -> list[AskedWindow]:
    """The windows without those that are queued or running, of which it is told."""
    going_on = runs.going_on()
    left = []
    for window in windows:
        if window.name in going_on:
            say(printable(f"{window.name} is going on already and is not asked for again."))
        else:
            left.append(window)
    return left


def _through_daemon(
    runs: "WindowRuns", windows: Iterable[AskedWindow], *, wait: bool
) -> BackfillResult:
    queued = [runs.enqueue(window) for window in windows]
    if not wait:
        return BackfillResult(queued, queued=True)
    ended: dict[str | None, WindowReport] = {report.run_id: report for report in queued}
    interrupted = False
    with show_count(f"{runs.connector.name}/{runs.resource}", len(queued)) as count:
        try:
            for report in runs.wait(queued):
                ended[report.run_id] = report
                count.ended(report)
        except KeyboardInterrupt:
            interrupted = True
            say("The windows that are left stay in the queue; the daemon goes on with them.")
    return BackfillResult(list(ended.values()), queued=True, interrupted=interrupted)


def _here(
    runs: "WindowRuns", windows: Sequence[AskedWindow], interrupts: Interrupts
) -> BackfillResult:
    reports: list[WindowReport] = []
    with show_count(f"{runs.connector.name}/{runs.resource}", len(windows)) as count:
        for window in windows:
            try:
                report = runs.execute(window, interrupts)
            except KeyboardInterrupt:
                break
            reports.append(report)
            count.ended(report)
            if interrupts.pressed:
                break
    return BackfillResult(reports, interrupted=interrupts.pressed > 0)
