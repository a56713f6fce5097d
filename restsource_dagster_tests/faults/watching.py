"""An observer that keeps what it is told."""

import threading

from restsource_dagster_tests.waiting import PATIENCE_SECONDS

__all__ = ["Notes"]


class Notes:
    """Messages, phases and pages in the order in which they came."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.phases: list[tuple[str, str]] = []
        self.checkpoints: list[tuple[str, int]] = []
        self._changed = threading.Condition()

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        pass

    def phase(self, family: str, phase: str) -> None:
        with self._changed:
            self.phases.append((family, phase))
            self._changed.notify_all()

    def checkpoint(self, resource: str, rows: int) -> None:
        self.checkpoints.append((resource, rows))

    def message(self, text: str) -> None:
        with self._changed:
            self.messages.append(text)
            self._changed.notify_all()

    def wait_for(self, words: str) -> str:
        """Wait for a message with these words in it, and return it. Raises `TimeoutError`."""
        with self._changed:
            self._changed.wait_for(lambda: self._with(words), PATIENCE_SECONDS)
            if found := self._with(words):
                return found[0]
            raise TimeoutError(f"no message has the words {words!r}, only {self.messages}")

    def _with(self, words: str) -> list[str]:
        return [message for message in self.messages if words in message]
