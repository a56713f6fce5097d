"""Finds the command that was called, runs it and returns the exit code."""

import gc
import importlib
import io
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import typer

from restsource_dagster.cli.output import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OUTPUT_CLOSED,
    discard_stdout,
    print_notice,
)
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.state.state_errors import StateError

if TYPE_CHECKING:
    app: typer.Typer

__all__ = ["app", "main"]

_COMMANDS = {
    "check": ("check_command", "check"),
    "new": ("new_command", "new"),
    "preview": ("preview_command", "preview_command"),
    "forecast": ("forecast_command", "forecast_command"),
    "grade": ("grade_command", "grade_command"),
    "mcp": ("mcp_command", "mcp"),
    "import": ("import_command", "import_connector"),
    "build": ("build_command", "build"),
    "templates": ("templates_command", "templates"),
    "list": ("list_command", "list_connectors"),
    "login": ("login_command", "login"),
    "run": ("run_command", "run"),
    "verify": ("verify_command", "verify"),
    "backfill": ("backfill_command", "backfill"),
    "history": ("history_command", "history"),
    "reset": ("reset_command", "reset"),
    "schema": ("schema_command", "schema"),
}
"""The module and the function of each command, in the order in which `--help` lists them."""

_COLLECT_AFTER = 50_000
"""New objects after which Python looks for garbage. Imports make 200,000 objects that stay. With Python's
default (700 to 2,000), looking through them takes a good part of a start."""


def __getattr__(name: str) -> Any:
    """Build `app` with all commands on first use, for the reference and the tests."""
    if name == "app":
        return _build_application(_COMMANDS)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _build_application(names: Collection[str]) -> typer.Typer:
    """Return `restsource` with these commands. Modules of other commands are not imported."""
    made = typer.Typer(
        name="restsource",
        help="Ingest REST APIs, each described by one file.\n\n"
        "Exit codes: 0 fine, 1 a problem in a file or a failed resource, 2 wrong usage.",
        no_args_is_help=True,
        # typer's completion adds two options that edit the start-up files of the user's shell.
        add_completion=False,
        rich_markup_mode=None,
        # typer's tracebacks print local variables, and those can hold secrets.
        pretty_exceptions_enable=False,
    )
    made.callback()(_group_callback)
    for name in names:
        module, function = _COMMANDS[name]
        command = getattr(importlib.import_module(f"restsource_dagster.cli.{module}"), function)
        made.command(name)(command)
    return made


def _group_callback() -> None:
    """Make `restsource` a group of commands, even with a single command in it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `restsource` with these arguments, by default those of the process.

    Returns the exit code: 0 fine, 1 a problem in a file or a failed resource, 2 wrong usage; and as
    in shells 130 after Ctrl-C, 141 if the reader of the output closed it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal may not know a character of a file
            stream.reconfigure(errors="backslashreplace")
    if arguments is None:  # the process is this command's own
        gc.set_threshold(_COLLECT_AFTER)
    try:
        code = _run_application(arguments)
        # Here rather than at the end of the process: there a closed pipe is a traceback, here an
        # exit code.
        sys.stdout.flush()
    except StateError as error:
        print_notice(printable(str(error)))
        return EXIT_FAILED
    except BrokenPipeError:
        discard_stdout()
        return EXIT_OUTPUT_CLOSED
    return code


def _run_application(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    # With all commands built, `check` would wait a second for the import of Dagster.
    wanted = given[:1] if given and given[0] in _COMMANDS else _COMMANDS
    try:
        _build_application(wanted)(given, prog_name="restsource")
    # click ends every command with `sys.exit`, also one that succeeds.
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if code == EXIT_INTERRUPTED:
            print_notice("Interrupted.")
        return code
    return 0
