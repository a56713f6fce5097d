"""Responses, as they are read whole and parsed once."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import requests

from restsource_dagster.engine.http.leash import Abandoned, count_bytes
from restsource_dagster.engine.parsing import read_fast
from restsource_dagster.engine.values import json_object

__all__ = ["ApiResponse", "read_whole"]

_PIECE_BYTES = 256 * 1024  # requests' own pieces are so small that handling them takes longer


class ApiResponse(requests.Response):
    """A response whose JSON is parsed once, however many ask for it (paginators do)."""

    is_fast = False
    """Whether the JSON was read fast, and is still to be proved."""

    @cached_property
    def _parsed(self) -> Any:
        try:
            fast = read_fast(self.content, self.encoding)
        except ValueError:
            return super().json(object_pairs_hook=json_object)
        self.is_fast = True
        return fast

    def reread(self) -> Any:
        """The body as JSON, read slowly."""
        self.is_fast = False
        self._parsed = super().json(object_pairs_hook=json_object)
        return self._parsed

    def json(self, **kwargs: Any) -> Any:
        """The body as JSON. Raises `requests.exceptions.JSONDecodeError`."""
        return super().json(**kwargs) if kwargs else self._parsed

    def forget_parsed(self) -> None:
        """Parse anew when the JSON is asked for again: what is parsed takes several times the room."""
        self.__dict__.pop("_parsed", None)

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """The body in pieces. Raises `Abandoned` if it is read ahead and takes too much room."""
        size = chunk_size and max(chunk_size, _PIECE_BYTES)
        for piece in super().iter_content(size, decode_unicode):
            count_bytes(len(piece))
            yield piece


def read_whole(response: requests.Response) -> int:
    """Read the whole body; returns its size. Raises `Abandoned` if nobody wants it any more."""
    try:
        return len(response.content)
    except Abandoned:
        response.close()
        raise
