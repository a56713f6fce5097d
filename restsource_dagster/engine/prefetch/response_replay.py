"""Answers that were taken and may be wanted once more, so that the API is not asked twice.

Requests to keep and to compare, apart from the one that a paginator goes on changing.
"""

from copy import copy, deepcopy

import requests

from restsource_dagster.engine.http.session import ApiResponse
from restsource_dagster.engine.paging.page_iterator import PageResponse

__all__ = ["ResponseReplay", "copy_request", "request_key"]


def copy_request(request: requests.Request) -> requests.Request:
    """A request of the same content, which stays as it is when the other one is changed."""
    twin = copy(request)
    twin.headers = dict(request.headers or {})
    twin.params = deepcopy(request.params)
    twin.json = deepcopy(request.json)
    twin.data = deepcopy(request.data)
    return twin


def request_key(request: requests.Request) -> str:
    """All that a request sends, but for credentials: requests of one resource with the same key are
    the same.

    `1`, `True` and `"1"` are told apart.
    """
    return repr(
        (
            request.method,
            request.url,
            request.params or {},
            request.json,
            request.data or {},
            request.headers or {},
        )
    )


class ResponseReplay:
    """The answers to calls that may be made again. Not for several threads at once.

    What was read of an answer is forgotten when the next one comes: whoever took it may have changed
    it, and it takes several times the room.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], PageResponse] = {}
        self._resources: set[str] = set()
        self._last: PageResponse | None = None

    def note(self, resource: str, key: str, answer: PageResponse) -> None:
        """The answer to a request, known by its key."""
        self._forget_last()
        self._answers[resource, key] = self._last = answer

    def start_again(self) -> None:
        """The same calls are made again."""
        self._forget_last()
        self._resources = {resource for resource, _ in self._answers}

    def is_replaying(self, resource: str) -> bool:
        """Whether calls of a resource are made again."""
        return resource in self._resources

    def take(self, resource: str, key: str) -> PageResponse | None:
        """The answer to a request that was sent before, once; None if it was not."""
        return self._answers.pop((resource, key), None)

    def _forget_last(self) -> None:
        if self._last is not None and isinstance(self._last.response, ApiResponse):
            self._last.response.discard_parsed()
        self._last = None
