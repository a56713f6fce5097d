"""Answers that were taken and may be wanted once more, so that the API is not asked twice."""

from restsource_dagster.engine.http.responses import ApiResponse
from restsource_dagster.engine.paging.course import Answer

__all__ = ["Kept"]


class Kept:
    """The answers to calls that may be made again. Not for several threads at once.

    What was read of an answer is forgotten when the next one comes: whoever took it may have changed
    it, and it takes several times the room.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], Answer] = {}
        self._resources: set[str] = set()
        self._last: Answer | None = None

    def note(self, resource: str, key: str, answer: Answer) -> None:
        """The answer to a request, known by its key."""
        self._forget_last()
        self._answers[resource, key] = self._last = answer

    def start_again(self) -> None:
        """The same calls are made again."""
        self._forget_last()
        self._resources = {resource for resource, _ in self._answers}

    def has_calls_of(self, resource: str) -> bool:
        """Whether calls of a resource are made again."""
        return resource in self._resources

    def take(self, resource: str, key: str) -> Answer | None:
        """The answer to a request that was sent before, once; None if it was not."""
        return self._answers.pop((resource, key), None)

    def _forget_last(self) -> None:
        if self._last is not None and isinstance(self._last.response, ApiResponse):
            self._last.response.forget_parsed()
        self._last = None
