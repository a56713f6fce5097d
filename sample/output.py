"""Choose the lines of a service's output to show. The log file has all lines."""

import re
import time
from collections.abc import Callable

__all__ = ["NotableLines", "plain"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# 2026-11-24 05:48:24 +0000 - dagster.daemon - WARNING - text
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?: [+-]\d{4})? - ")
_RECORD = re.compile(rf"{_STAMP.pattern}.*? - (DEBUG|INFO|WARNING|ERROR|CRITICAL) - ")
_NOTABLE_LEVELS = {"WARNING", "ERROR", "CRITICAL"}
_TRACEBACK = "Traceback (most recent call last):"
# Lines around the messages of a chain of exceptions.
_FRAMES = re.compile(
    r'\s*$|Stack Trace:|  File "|    |The above exception |During handling of the above exception'
)
_SILENCE_SECONDS = 600.0


def plain(line: str) -> str:
    """Return the line without its line break and colours."""
    return _COLOUR.sub("", line.rstrip())


class NotableLines:
    """Picks warnings and errors from a log, each cut after `longest` lines.

    Of a traceback it shows the messages only; the log has the places in the code. A message is not
    shown again for ten minutes, because some are logged often: a broken file, for example, every
    minute.
    """

    def __init__(self, longest: int = 12, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._clock = clock
        self._shown = 0
        self._notable = False
        self._said: dict[str, float] = {}

    def shown(self, line: str) -> str | None:
        """Return the text to show for the next (plain) line of the log, or None."""
        if record := _RECORD.match(line):
            self._begin(notable=record[1] in _NOTABLE_LEVELS)
        elif line == _TRACEBACK:
            if not self._notable:
                self._begin(notable=True)
            return None
        if not self._notable or _FRAMES.match(line) or not self._is_news(line):
            return None
        self._shown += 1
        if self._shown <= self._longest:
            return line
        return "... (the rest is in the log)" if self._shown == self._longest + 1 else None

    def _begin(self, *, notable: bool) -> None:
        self._notable = notable
        self._shown = 0

    def _is_news(self, line: str) -> bool:
        text, now = _STAMP.sub("", line), self._clock()
        while self._said and now - next(iter(self._said.values())) >= _SILENCE_SECONDS:
            del self._said[next(iter(self._said))]
        if text in self._said:
            return False
        self._said[text] = now
        return True
