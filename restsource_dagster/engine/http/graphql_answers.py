"""What a GraphQL answer says of itself: its errors, and how long the API wants to be left alone.

Errors: https://spec.graphql.org/October2021/#sec-Errors. Costs: `extensions.cost` as Shopify has it,
https://shopify.dev/docs/api/usage/limits.
"""

from collections.abc import Collection, Mapping
from typing import Any

import requests

__all__ = ["is_throttled", "seconds_until_affordable", "without_allowed_errors"]

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


def seconds_until_affordable(response: requests.Response) -> float | None:
    """Return how long it takes until the budget allows the same query again.

    None if it allows it now, or if the answer says nothing of its cost.
    """
    body = _json_of(response)
    cost = body
    for key in ("extensions", "cost"):
        cost = cost.get(key) if isinstance(cost, Mapping) else None
    status = cost.get("throttleStatus") if isinstance(cost, Mapping) else None
    if not isinstance(cost, Mapping) or not isinstance(status, Mapping):
        return None
    needed, left = cost.get("requestedQueryCost"), status.get("currentlyAvailable")
    rate = status.get("restoreRate")
    numbers = [one for one in (needed, left, rate) if isinstance(one, int | float)]
    if len(numbers) < 3 or numbers[2] <= 0 or numbers[1] >= numbers[0]:
        return None
    return (numbers[0] - numbers[1]) / numbers[2]


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
