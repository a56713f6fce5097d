"""Colours for lines of text, without rich, which takes longer to import than a file takes to check."""

import os
import sys
from collections.abc import Callable

__all__ = ["Paint", "painter"]

Paint = Callable[[str, str], str]
"""Of a text and a style (words such as `bold red`), the text as the terminal is to show it."""

_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def painter() -> Paint:
    """How to paint what is written to standard output: not at all, unless that is a terminal.

    `NO_COLOR` and `FORCE_COLOR` are heeded, as everywhere.
    """
    return _painted if _is_colourful() else _plain


def _is_colourful() -> bool:
    if "NO_COLOR" in os.environ:
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _painted(text: str, style: str) -> str:
    codes = ";".join(_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def _plain(text: str, _style: str) -> str:
    return text
