"""Requests to keep and to compare, apart from the one that a paginator goes on changing."""

from copy import copy, deepcopy

import requests

__all__ = ["key_of", "twin_of"]


def twin_of(request: requests.Request) -> requests.Request:
    """A request of the same content, which stays as it is when the other one is changed."""
    twin = copy(request)
    twin.headers = dict(request.headers or {})
    twin.params = deepcopy(request.params)
    twin.json = deepcopy(request.json)
    twin.data = deepcopy(request.data)
    return twin


def key_of(request: requests.Request) -> str:
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
