"""The commands of `restsource` under one roof, and what becomes of the process at the end."""

import io
import sys
from collections.abc import Sequence

import typer

from restsource_dagster.cli import backfill, check, history_command, listing, reset, running, schema
from restsource_dagster.cli.output import GONE, INTERRUPTED, close_standard_output, say

__all__ = ["app", "main"]

app = typer.Typer(
    name="restsource",
    help="Ingest REST APIs, each described by one file.\n\n"
    "Exit codes: 0 fine, 1 a problem in a file or a failed resource, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("check")(check.check)
app.command("list")(listing.list_connectors)
app.command("run")(running.run)
app.command("backfill")(backfill.backfill)
app.command("history")(history_command.history)
app.command("reset")(reset.reset)
app.command("schema")(schema.schema)


@app.callback()
def _restsource() -> None:
    """Makes `restsource` a group of commands even if it had only one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `restsource` with these arguments, the process's own by default.

    Returns the exit code: 0 fine, 1 a problem in a file or a failed resource, 2 wrong usage; as
    shells have it, 130 after Ctrl-C and 141 if the reader of the output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file may hold what the terminal's code lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        close_standard_output()
        return GONE
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(None if arguments is None else list(arguments), prog_name="restsource")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if code == INTERRUPTED:
            say("Interrupted.")
        return code
    return 0
