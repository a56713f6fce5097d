"""What is printed where: results on standard output, everything else on standard error."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it takes its time to import
    from rich.console import Console

__all__ = [
    "FAILED",
    "GONE",
    "INTERRUPTED",
    "close_standard_output",
    "leave",
    "print_json",
    "print_lines",
    "say",
    "standard_output",
    "standard_output_kept_clean",
]

FAILED = 1
"""Exit code: a problem in a file, or a failed resource."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""
GONE = 141
"""Exit code if the reader of the output went away (`restsource check | head -1`)."""


def standard_output() -> "Console":
    """A console for results: colours on a terminal only, lines as long as they are elsewhere."""
    from restsource_dagster.cli.console import ResultConsole

    return ResultConsole()


def say(message: str) -> None:
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


def leave(*, interrupted: bool, failed: bool) -> None:
    """End the command with the exit code for what became of it; nothing if all is well."""
    import typer

    if interrupted or failed:
        raise typer.Exit(INTERRUPTED if interrupted else FAILED)


def close_standard_output() -> None:
    """Nobody reads any more: keep Python from complaining when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def standard_output_kept_clean() -> Iterator[None]:
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
