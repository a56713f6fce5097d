"""An observer that keeps what it is told."""

import threading

__all__ = ["Notes"]


class Notes:
    """Messages, phases and pages in the order in which they came."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.phases: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        pass

    def phase(self, family: str, phase: str) -> None:
        with self._changed:
            self.phases.append((family, phase))
            self._changed.notify_all()

    def message(self, text: str) -> None:
        with self._changed:
            self.messages.append(text)
            self._changed.notify_all()

    def wait_for(self, words: str, seconds: float = 20.0) -> bool:
        """Wait until a message has these words in it."""
        with self._changed:
            return self._changed.wait_for(
                lambda: any(words in message for message in self.messages), seconds
            )
