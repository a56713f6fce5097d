"""What is printed where: results on standard output, everything else on standard error."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

__all__ = [
    "FAILED",
    "GONE",
    "INTERRUPTED",
    "close_standard_output",
    "print_json",
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
_ENDLESS = 10_000
"""Columns off a terminal, where nothing is to be wrapped or cut."""


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave the end to `main`, as for everything that isn't printed by rich."""
        raise BrokenPipeError


def standard_output() -> Console:
    """A console for results: colours on a terminal only, lines as long as they are elsewhere."""
    console = _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _ENDLESS
    return console


def say(message: str) -> None:
    """A line for the person at the terminal, never mixed up with results."""
    console = _Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.print(Text(message))


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


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
