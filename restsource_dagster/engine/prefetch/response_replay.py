"""Keep responses so that the same calls can be made again without requests."""

from restsource_dagster.engine.http.session import ApiResponse
from restsource_dagster.engine.paging.page_iterator import PageResponse

__all__ = ["ResponseReplay"]


class ResponseReplay:
    """Records the responses of calls and returns them when the calls are made again.

    Single-threaded.
    """

    def __init__(self) -> None:
        self._responses: dict[tuple[str, str], PageResponse] = {}
        self._replayed: set[str] = set()
        self._taken: set[tuple[str, str]] = set()
        self._newest: PageResponse | None = None

    def record(self, resource: str, key: str, received: PageResponse) -> None:
        """Keep the response to the request with this key."""
        self._discard_newest_parsed()
        self._responses[resource, key] = self._newest = received

    def begin_replay(self) -> None:
        """Return recorded responses from now on: the same calls are made again.

        May be called again, if these calls are to be made once more.
        """
        self._discard_newest_parsed()
        self._taken.clear()
        self._replayed = {resource for resource, _ in self._responses}

    def is_replaying(self, resource: str) -> bool:
        """True if the calls of a resource are made again."""
        return resource in self._replayed

    def take(self, resource: str, key: str) -> PageResponse | None:
        """Return the response to the request with this key, once in each replay; else None."""
        received = self._responses.get((resource, key))
        if received is None or (resource, key) in self._taken:
            return None
        self._taken.add((resource, key))
        self._discard_newest_parsed()
        self._newest = received
        return received

    def _discard_newest_parsed(self) -> None:
        # The load may have changed the parsed records, and they take several times the memory of the
        # body. Not at once: the page of the newest response is still in use.
        if self._newest is not None and isinstance(self._newest.response, ApiResponse):
            self._newest.response.discard_parsed()
        self._newest = None
