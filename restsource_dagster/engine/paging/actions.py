"""`response_actions`: what the file says about answers that would be errors otherwise."""

from collections.abc import Mapping, Sequence
from typing import Any

import requests

__all__ = ["Action", "is_ignored"]

Action = Mapping[str, Any]
"""One entry of `response_actions`: `status_code`, `content`, `action`."""


def is_ignored(response: requests.Response, actions: Sequence[Action]) -> bool:
    """Whether an action of the file says to ignore this answer.

    As dlt matches: all that an action names must hold; one that names nothing never holds.
    """
    return any(
        action.get("action") == "ignore"
        and (action.get("status_code") is not None or action.get("content") is not None)
        and action.get("status_code") in (None, response.status_code)
        and (action.get("content") is None or action["content"] in response.text)
        for action in actions
    )
