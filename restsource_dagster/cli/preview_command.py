"""`restsource preview`: look at the first pages of a connector without loading them."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from dotenv import load_dotenv

from restsource_dagster.cli.common import find_connector, find_resources, read_settings
from restsource_dagster.cli.options import (
    CallsOption,
    ConfigsOption,
    JsonOption,
    MaxMegabytesOption,
    MaxSecondsOption,
    NameOrFileArgument,
    PagesOption,
    PreviewFromOption,
    PreviewResourcesArgument,
    PreviewToOption,
    RowsOption,
)
from restsource_dagster.cli.output import (
    EXIT_FAILED,
    exit_on_failure,
    print_json,
    print_notice,
    result_console,
    stdout_to_stderr,
)
from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.settings import Settings, read_environment

if TYPE_CHECKING:  # importing dlt takes a second
    from restsource_dagster.engine.preview.preview_limits import PreviewEnd, PreviewLimits
    from restsource_dagster.engine.preview.preview_run import CursorBounds
    from restsource_dagster.engine.preview.previewed import Preview

__all__ = [
    "INTERRUPTED",
    "find_file_or_connector",
    "preview_command",
    "run_preview",
    "stopping_at_interrupt",
]

_FILE_SUFFIXES = (".json", ".yaml", ".yml")
INTERRUPTED = "stopped by Ctrl-C"


def preview_command(
    name: NameOrFileArgument,
    resources: PreviewResourcesArgument = None,
    pages: PagesOption = 2,
    rows: RowsOption = 10,
    from_: PreviewFromOption = None,
    to: PreviewToOption = None,
    calls: CallsOption = 3,
    max_mb: MaxMegabytesOption = 20.0,
    max_seconds: MaxSecondsOption = 60.0,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the first pages of a connector's resources, without loading them.

    The requests are those of a load: login, paging, steps and cursor. Nothing is written, neither to the
    database nor to the state, and cursors stay. Shows the requests, the rows, the columns with the types
    that a load would make, whether the key is unique, the range of the cursor, and whether a second page
    has other rows than the first. Cursors start at their initial value, or at --from.

    Ctrl-C ends it and shows what was read. Exit code 1 if anything is wrong.

    Example: restsource preview shop orders --pages 3
    """
    settings, connector = find_file_or_connector(name, configs)
    wanted = find_resources(connector, resources or [])
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    from restsource_dagster.engine.preview.preview_limits import PreviewLimits
    from restsource_dagster.engine.preview.preview_run import CursorBounds

    limits = PreviewLimits(pages, rows, calls, max_mb, max_seconds)
    found = run_preview(connector, settings, wanted, limits, CursorBounds(from_, to))
    if as_json:
        print_json(found.as_dict())
    else:
        from restsource_dagster.cli.preview_report import print_preview

        print_preview(found, result_console())
    exit_on_failure(interrupted=found.ended == INTERRUPTED, failed=not found.is_fine)


def run_preview(
    connector: Connector,
    settings: Settings,
    resources: tuple[str, ...],
    limits: "PreviewLimits",
    bounds: "CursorBounds | None" = None,
) -> "Preview":
    """Return the preview of a connector; Ctrl-C ends it early."""
    with stdout_to_stderr():
        # here, because dlt can print when it is imported
        from restsource_dagster.engine.preview.preview_limits import PreviewEnd
        from restsource_dagster.engine.preview.preview_run import preview

        end = PreviewEnd()
        with stopping_at_interrupt(end):
            return preview(
                connector,
                settings=settings,
                environment=read_environment(),
                resources=resources,
                limits=limits,
                bounds=bounds,
                end=end,
                # on a terminal, say why nothing happens during a wait; the report has all messages
                on_message=print_notice if sys.stderr.isatty() else None,
            )


@contextmanager
def stopping_at_interrupt(end: "PreviewEnd") -> Iterator[None]:
    """End the preview at the first Ctrl-C; the second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        # in a thread: the handler runs in the middle of a request, which may hold the lock that it needs
        threading.Thread(target=end.stop, args=[INTERRUPTED], daemon=True).start()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def find_file_or_connector(name: str, configs: Path | None) -> tuple[Settings, Connector]:
    """Return the settings and the connector of that name, or of a file anywhere.

    Prints the problems of a broken file and raises `typer.Exit`; raises `typer.BadParameter` for a name
    that is not known.
    """
    if not name.lower().endswith(_FILE_SUFFIXES):
        settings = read_settings(configs)
        return settings, find_connector(settings, name)
    loaded = load_file(Path(name))
    if loaded.connector is None:
        for problem in loaded.problems:
            print_notice(problem.as_text())
        raise typer.Exit(EXIT_FAILED)
    return Settings(), loaded.connector
