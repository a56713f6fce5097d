"""Decide which lines of a service's output a person should see; all of them go to its log file."""

import re

__all__ = ["NotableLines", "plain"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# 2026-11-24 05:48:24 +0000 - dagster.daemon - WARNING - text
_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*? - (DEBUG|INFO|WARNING|ERROR|CRITICAL) - ")
_NOTABLE_LEVELS = {"WARNING", "ERROR", "CRITICAL"}
_TRACEBACK = "Traceback (most recent call last):"


def plain(line: str) -> str:
    """Return the line without its end and without colours."""
    return _COLOUR.sub("", line.rstrip())


class NotableLines:
    """Picks warnings, errors and tracebacks from a log, each cut after `longest` lines."""

    def __init__(self, longest: int = 12) -> None:
        self._longest = longest
        self._shown = 0
        self._notable = False

    def shown(self, line: str) -> str | None:
        """Return what to show for the next (plain) line of the log; None for nothing."""
        if record := _RECORD.match(line):
            self._begin(notable=record[1] in _NOTABLE_LEVELS)
        elif line == _TRACEBACK and not self._notable:
            self._begin(notable=True)
        if not self._notable:
            return None
        self._shown += 1
        if self._shown <= self._longest:
            return line
        return "... (the rest is in the log)" if self._shown == self._longest + 1 else None

    def _begin(self, *, notable: bool) -> None:
        self._notable = notable
        self._shown = 0
