"""`response_actions`: what the file says about certain answers.

dlt knows `status_code`, `content` and the action `ignore`. Ours are `header`, a class of statuses
such as `5xx`, and the actions `retry` and `fail`.

What an answer says about itself: that something failed, or that there is nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import requests

__all__ = [
    "ActionConfig",
    "ActionName",
    "is_error_field",
    "looks_like_an_error",
    "matching_action",
    "reports_failure",
    "reports_no_records",
]


def _split_names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ERROR_FIELDS = _split_names(
    "error errors errorcode errordescription errordetail errordetails errorid errormessage "
    "errormessages errortype exception failure fault faultstring"
)
_MESSAGE_FIELDS = _split_names("detail details message messages msg reason")
_ACCOMPANYING_FIELDS = _split_names(
    "code correlationid data description developermessage documentationurl docurl help helpurl "
    "info instance link moreinfo ok param path requestid responsecode result results stack "
    "stacktrace status statuscode statustext success time timestamp title trace traceid type url"
)
_DATA_FIELDS = _split_names("data result results")
_FAILED_STATUSES = _split_names("error fail failed failure")
_COUNT_FIELD = re.compile(
    r"(?!error|retry|fail|warn|page)"
    r"(total\w*|\w*count|\w*total|size|found|hits|matches|numfound|resultsizeestimate"
    r"|num(ber)?(of)?(results|records|items|rows|elements|entries))"
)


def is_error_field(key: str) -> bool:
    """Whether a field tells of a failure by its name, or explains one."""
    return (
        _normalized_field_name(key) in _ERROR_FIELDS
        or _normalized_field_name(key) in _MESSAGE_FIELDS
    )


def reports_failure(body: Any) -> bool:
    """Whether an object says that the request failed: `error` with something in it, for instance."""
    if not isinstance(body, Mapping):
        return False
    fields = {_normalized_field_name(str(key)): value for key, value in body.items()}
    return (
        any(value for key, value in fields.items() if key in _ERROR_FIELDS)
        or fields.get("success") is False
        or fields.get("ok") is False
        or str(fields.get("status")).lower() in _FAILED_STATUSES
    )


def looks_like_an_error(body: Mapping[str, Any]) -> bool:
    """Whether an object has nothing but what error messages consist of."""
    fields = {_normalized_field_name(key): value for key, value in body.items()}
    if not fields.keys() <= _ERROR_FIELDS | _MESSAGE_FIELDS | _ACCOMPANYING_FIELDS:
        return False
    if reports_failure(body):
        return True
    is_fine = fields.get("success") or fields.get("ok")
    has_data = any(isinstance(fields.get(key), list | dict) for key in _DATA_FIELDS)
    return bool(fields.keys() & _MESSAGE_FIELDS) and not is_fine and not has_data


def reports_no_records(body: Any) -> bool:
    """Whether an answer without a list says that there is none: it is empty, or counts 0."""
    if body is None or body in ([], {}):
        return True
    return not reports_failure(body) and any(
        value == 0
        and not isinstance(value, bool)
        and _COUNT_FIELD.fullmatch(_normalized_field_name(key))
        for key, value in _number_fields(body)
    )


def _number_fields(body: Any, levels: int = 2) -> Iterator[tuple[str, int | float]]:
    if not isinstance(body, Mapping) or not levels:
        return
    for key, value in body.items():
        if isinstance(value, int | float):
            yield str(key), value
        yield from _number_fields(value, levels - 1)


def _normalized_field_name(key: str) -> str:
    """`errorMessage`, `error_message` and `Error-Message` are one name."""
    return re.sub(r"[\W_]", "", key.lower())


ActionName = Literal["ignore", "retry", "fail"]
"""What the connector file says about a response."""
ActionConfig = Mapping[str, Any]
"""One entry of `response_actions`: `status_code`, `header`, `content`, `action`."""

_STATUS_CLASS = re.compile(r"([1-5])xx", re.IGNORECASE)
_ACTION_NAMES: tuple[ActionName, ...] = get_args(ActionName)


def matching_action(
    response: requests.Response, actions: Sequence[ActionConfig]
) -> ActionName | None:
    """What the first action that fits says; None if none fits.

    As dlt matches: all that an action names must hold; one that names nothing never holds, and a
    word that is no action does nothing.
    """
    for action in actions:
        for word in _ACTION_NAMES:
            if action.get("action") == word and _matches_action(response, action):
                return word
    return None


def _matches_action(response: requests.Response, action: ActionConfig) -> bool:
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
    found = _STATUS_CLASS.fullmatch(str(wanted).strip())
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
