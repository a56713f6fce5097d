"""What is printed where: results on standard output, everything else on standard error.

Colours for lines of text, without rich, which takes longer to import than a file takes to check.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it takes its time to import
    from rich.console import Console

__all__ = [
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_OUTPUT_CLOSED",
    "Painter",
    "choose_painter",
    "discard_stdout",
    "exit_on_failure",
    "print_json",
    "print_lines",
    "print_notice",
    "result_console",
    "stdout_to_stderr",
]

Painter = Callable[[str, str], str]
"""Of a text and a style (words such as `bold red`), the text as the terminal is to show it."""

_ANSI_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def choose_painter() -> Painter:
    """How to paint what is written to standard output: not at all, unless that is a terminal.

    `NO_COLOR` and `FORCE_COLOR` are heeded, as everywhere.
    """
    return _paint_ansi if _wants_colour() else _paint_nothing


def _wants_colour() -> bool:
    if "NO_COLOR" in os.environ:
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _paint_ansi(text: str, style: str) -> str:
    codes = ";".join(_ANSI_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def _paint_nothing(text: str, _style: str) -> str:
    return text


EXIT_FAILED = 1
"""Exit code: a problem in a file, or a failed resource."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""
EXIT_OUTPUT_CLOSED = 141
"""Exit code if the reader of the output went away (`restsource check | head -1`)."""


def result_console() -> "Console":
    """A console for results: colours on a terminal only, lines as long as they are elsewhere."""
    from restsource_dagster.cli.console import ResultConsole

    return ResultConsole()


def print_notice(message: str) -> None:
    """A line for the person at the terminal, never mixed up with results."""
    sys.stderr.write(f"{message}\n")


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output. Raises `BrokenPipeError` if nobody reads them any more."""
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    except BrokenPipeError as error:
        # one with the system's number, typer takes for its own and ends the process with 1
        raise BrokenPipeError from error


def print_json(document: Any) -> None:
    """One JSON document on standard output. Raises `BrokenPipeError` as `print_lines` does."""
    print_lines([json.dumps(document, indent=2)])


def exit_on_failure(*, interrupted: bool, failed: bool) -> None:
    """End the command with the exit code for what became of it; nothing if all is well."""
    import typer

    if interrupted or failed:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted else EXIT_FAILED)


def discard_stdout() -> None:
    """Nobody reads any more: keep Python from complaining when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends whatever anybody prints meanwhile to standard error: results come afterwards."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
