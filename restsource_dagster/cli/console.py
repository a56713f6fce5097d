"""Printing with rich, for the commands that make tables. It takes its time to import."""

from typing import NoReturn

from rich.console import Console

__all__ = ["ResultConsole"]

_UNLIMITED_WIDTH = 10_000
"""Columns off a terminal, where nothing is to be wrapped or cut."""


class ResultConsole(Console):
    """A console for results: colours on a terminal only, lines as long as they are elsewhere."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True)
        if not self.is_terminal:
            self.width = _UNLIMITED_WIDTH

    def on_broken_pipe(self) -> NoReturn:
        """Leave the end to `main`, as for everything that isn't printed by rich."""
        raise BrokenPipeError
