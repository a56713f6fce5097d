"""What a GraphQL answer says of itself: its errors, and how long the API wants to be left alone.

Errors: https://spec.graphql.org/October2021/#sec-Errors. Costs: `extensions.cost` as Shopify has it,
https://shopify.dev/docs/api/usage/limits.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import requests

__all__ = ["QueryBudget", "is_throttled", "without_allowed_errors"]

_THROTTLED_CODES = frozenset({"THROTTLED", "RATELIMITED", "RATE_LIMITED"})
"""The codes of Shopify, Linear and GitHub."""


def _json_of(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        # a proxy's page, which the code that reads the records reports
        return None


def is_throttled(response: requests.Response) -> bool:
    """True if the API has refused the query because too many were sent."""
    body = _json_of(response)
    errors = body.get("errors") if isinstance(body, Mapping) else None
    return isinstance(errors, list) and any(_code(error) in _THROTTLED_CODES for error in errors)


def _code(error: Any) -> Any:
    if not isinstance(error, Mapping):
        return None
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, Mapping) else None
    return code if isinstance(code, str) else error.get("type")


class QueryBudget:
    """Tells how long a run's queries wait so that the API refuses none of them.

    What the next query costs is known only when it was sent. So the budget has to allow the dearest one
    so far, once for each request that may be under way at the same time.
    """

    def __init__(self, concurrency: Callable[[], int]) -> None:
        """`concurrency` returns how many queries may be under way at once now."""
        self._concurrency = concurrency
        self._dearest = 0.0
        self._lock = threading.Lock()

    def seconds_until_affordable(self, response: requests.Response) -> float | None:
        """Return how long it takes until the budget allows the next queries.

        None if it allows them now, or if the answer says nothing of its cost. A budget is never asked
        for more than it can hold.
        """
        cost = _object_at(_json_of(response), "extensions", "cost")
        status = _object_at(cost, "throttleStatus")
        requested, left, rate, most = (
            _number(cost, "requestedQueryCost"),
            _number(status, "currentlyAvailable"),
            _number(status, "restoreRate"),
            _number(status, "maximumAvailable"),
        )
        if requested is None or left is None or not rate or rate < 0:
            return None
        with self._lock:
            self._dearest = max(self._dearest, requested)
            needed = self._dearest * self._concurrency()
        needed = requested if most is None else max(requested, min(needed, most))
        return None if left >= needed else (needed - left) / rate


def _object_at(value: Any, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _number(value: Mapping[str, Any], key: str) -> float | None:
    found = value.get(key)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def without_allowed_errors(body: Any, allowed: Collection[str]) -> Any:
    """Return the body without the errors whose path is allowed, or lies below one that is."""
    if not allowed or not isinstance(body, Mapping) or not isinstance(body.get("errors"), list):
        return body
    left = [error for error in body["errors"] if not _is_below(_path(error), allowed)]
    others = {key: value for key, value in body.items() if key != "errors"}
    return {**others, "errors": left} if left else others


def _path(error: Any) -> list[str]:
    steps = error.get("path") if isinstance(error, Mapping) else None
    return (
        [str(step) for step in steps if not isinstance(step, int)]
        if isinstance(steps, list)
        else []
    )


def _is_below(path: list[str], allowed: Collection[str]) -> bool:
    return any(path[: len(one)] == one for one in (text.split(".") for text in allowed))
