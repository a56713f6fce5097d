"""From an answer to its JSON."""

from typing import Any

import requests

from restsource_dagster.engine.http.rules import Verdict

__all__ = ["NoBodyError", "read_body"]

_NOTHING = (
    'if that means that there are no rows, say so: "response_actions": '
    '[{"status_code": %d, "action": "ignore"}]'
)


class NoBodyError(ValueError):
    """The answer is an error, or no JSON."""


def read_body(response: requests.Response, verdict: Verdict | None) -> Any:
    """The JSON of an answer that is neither an error nor empty. Raises `NoBodyError`.

    `verdict` is what `response_actions` say about it.
    """
    if verdict is not None:
        tried = ", and trying again did not help" if verdict == "retry" else ""
        raise NoBodyError(f"response_actions: {verdict} this answer ({response.reason}){tried}")
    if response.status_code >= requests.codes.bad_request:
        raise NoBodyError(f"the API refused ({response.reason})")
    if response.status_code >= requests.codes.multiple_choices:
        raise NoBodyError(f"the API leads elsewhere ({response.reason}) and does not say where")
    if not response.content.strip():
        raise NoBodyError(f"the answer is empty; {_NOTHING % response.status_code}")
    try:
        return response.json()
    except (requests.exceptions.JSONDecodeError, UnicodeDecodeError) as error:
        reason = f"the answer is not JSON ({error})"
    except RecursionError:
        reason = "the answer is nested too deeply to be read"
    raise NoBodyError(reason)
