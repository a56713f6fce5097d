"""Printing with rich, for commands with tables. Separate, because importing rich is slow."""

from typing import NoReturn

from rich.console import Console

__all__ = ["ResultConsole"]

_UNLIMITED_WIDTH = 10_000
"""Columns without a terminal, so that no line is wrapped or cut."""


class ResultConsole(Console):
    """A console for results: colours on a terminal only; without one, lines keep their length."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True)
        if not self.is_terminal:
            self.width = _UNLIMITED_WIDTH

    def on_broken_pipe(self) -> NoReturn:
        """Let `main` handle it, as for all other output."""
        raise BrokenPipeError
