"""Printing: results go to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:  # importing rich is slow
    from rich.console import Console

__all__ = [
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_OUTPUT_CLOSED",
    "Style",
    "choose_style",
    "discard_stdout",
    "exit_on_failure",
    "print_json",
    "print_lines",
    "print_notice",
    "result_console",
    "stdout_to_stderr",
]

Style = Callable[..., str]
"""`typer.style`, or a function that takes the same arguments and returns the text as it is."""


def choose_style() -> Style:
    """Return how to colour lines on standard output: not at all, unless it is a terminal.

    `NO_COLOR` and `FORCE_COLOR` are respected. rich would do this, too, but takes longer to import
    than a file takes to check.
    """
    return typer.style if _wants_colour() else _plain


def _wants_colour() -> bool:
    if "NO_COLOR" in os.environ:
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _plain(text: str, **_style: Any) -> str:
    return text


_UNLIMITED_WIDTH = 10_000
"""Columns without a terminal, so that no line is wrapped or cut."""
EXIT_FAILED = 1
"""Exit code: a problem in a file, or a failed resource."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells: 128 plus the number of the signal."""
EXIT_OUTPUT_CLOSED = 141
"""Exit code if the reader of the output closes it (`restsource check | head -1`)."""


def result_console() -> "Console":
    """Return a console for tables: colours on a terminal only; without one, no line is wrapped or cut."""
    from rich.console import Console  # slow to import, and `check` prints no tables

    class ResultConsole(Console):
        def on_broken_pipe(self) -> NoReturn:
            """Let `main` handle it, as for all other output."""
            raise BrokenPipeError

    console = ResultConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _UNLIMITED_WIDTH
    return console


def print_notice(message: str) -> None:
    """Print a line for the user on standard error, apart from results."""
    sys.stderr.write(f"{message}\n")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output. Raises `BrokenPipeError` if the reader closed it."""
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    except BrokenPipeError as error:
        # typer catches an error with the system's number and ends the process with 1
        raise BrokenPipeError from error


def print_json(document: Any) -> None:
    """Print one JSON document on standard output. Raises `BrokenPipeError` like `print_lines`."""
    print_lines([json.dumps(document, indent=2)])


def exit_on_failure(*, interrupted: bool, failed: bool) -> None:
    """Exit with the code for an interrupted or failed command; return if it is neither."""
    if interrupted or failed:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted else EXIT_FAILED)


def discard_stdout() -> None:
    """Redirect standard output to nowhere, so that Python's last flush raises no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send everything that is printed while this is open to standard error.

    Dagster and dlt print while a run is in progress; standard output is for results only.
    """
    sys.stdout.flush()
    # The descriptor, not only `sys.stdout`: child processes and C libraries write to number 1
    # directly.
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
