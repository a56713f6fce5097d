"""`response_actions`: what the file says about certain answers.

dlt knows `status_code`, `content` and the action `ignore`. Ours are `header`, a class of statuses
such as `5xx`, and the actions `retry` and `fail`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import requests

from restsource_dagster.engine.http.rules import Verdict

__all__ = ["Action", "verdict_on"]

Action = Mapping[str, Any]
"""One entry of `response_actions`: `status_code`, `header`, `content`, `action`."""

_CLASS = re.compile(r"([1-5])xx", re.IGNORECASE)
_WORDS: tuple[Verdict, ...] = get_args(Verdict)


def verdict_on(response: requests.Response, actions: Sequence[Action]) -> Verdict | None:
    """What the first action that fits says; None if none fits.

    As dlt matches: all that an action names must hold; one that names nothing never holds, and a
    word that is no action does nothing.
    """
    for action in actions:
        for word in _WORDS:
            if action.get("action") == word and _fits(response, action):
                return word
    return None


def _fits(response: requests.Response, action: Action) -> bool:
    status, header = action.get("status_code"), action.get("header")
    content = action.get("content")
    if status is None and header is None and content is None:
        return False
    return (
        (status is None or _has_status(response, status))
        and (header is None or _has_headers(response, header))
        and (content is None or _has_content(response, content))
    )


def _has_status(response: requests.Response, wanted: int | str) -> bool:
    found = _CLASS.fullmatch(str(wanted).strip())
    if found:
        return response.status_code // 100 == int(found[1])
    return str(response.status_code) == str(wanted).strip()


def _has_headers(response: requests.Response, wanted: Mapping[str, str]) -> bool:
    """Whether each header is there and contains the text; an empty text asks for the header only."""
    return all(
        name in response.headers and text.lower() in response.headers[name].lower()
        for name, text in wanted.items()
    )


def _has_content(response: requests.Response, wanted: str) -> bool:
    """Whether the body contains a text; most bodies are UTF-8, and guessing a charset is slow."""
    if wanted.encode("utf-8", "surrogatepass") in response.content:
        return True
    charset = (response.encoding or "utf-8").lower()
    return charset not in ("utf-8", "utf8") and wanted in response.text
