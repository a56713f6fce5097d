"""What a response means: by the file's `response_actions`, and by what the body says itself."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import requests

from restsource_dagster.connector.models.endpoint import ActionName, ResponseAction

__all__ = [
    "is_error_field",
    "looks_like_an_error",
    "matching_action",
    "reports_failure",
    "reports_no_records",
]


def _split_names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names of fields as APIs use them, in lower case without separators (`_normalized_field_name`).
# The first says that something failed; the others do so only in an object that has no data.
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
# `errorCount: 0` and `page: 0` don't say that there are no rows
_COUNT_FIELD = re.compile(
    r"(?!error|retry|fail|warn|page)"
    r"(total\w*|\w*count|\w*total|size|found|hits|matches|numfound|resultsizeestimate"
    r"|num(ber)?(of)?(results|records|items|rows|elements|entries))"
)


def is_error_field(key: str) -> bool:
    """True if the name of a field says that something failed, or explains it."""
    name = _normalized_field_name(key)
    return name in _ERROR_FIELDS or name in _MESSAGE_FIELDS


def reports_failure(body: Any) -> bool:
    """True if a body is an object that says that the request failed, such as `{"error": "..."}`."""
    if not isinstance(body, Mapping):
        return False
    fields = {_normalized_field_name(str(key)): value for key, value in body.items()}
    return (
        # `"error": null` and `"errors": []` say that nothing failed
        any(value for key, value in fields.items() if key in _ERROR_FIELDS)
        or fields.get("success") is False
        or fields.get("ok") is False
        or str(fields.get("status")).lower() in _FAILED_STATUSES
    )


def looks_like_an_error(body: Mapping[str, Any]) -> bool:
    """True if an object has only fields that error messages consist of."""
    fields = {_normalized_field_name(key): value for key, value in body.items()}
    if not fields.keys() <= _ERROR_FIELDS | _MESSAGE_FIELDS | _ACCOMPANYING_FIELDS:
        return False
    if reports_failure(body):
        return True
    # an object such as {"message": "...", "code": 3}: it may also be a row, so look for signs of one
    is_fine = fields.get("success") or fields.get("ok")
    has_data = any(isinstance(fields.get(key), list | dict) for key in _DATA_FIELDS)
    return bool(fields.keys() & _MESSAGE_FIELDS) and not is_fine and not has_data


def reports_no_records(body: Any) -> bool:
    """True if a body without a list says that there are no records: it is empty, or counts 0."""
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
        # one level below, as in {"meta": {"count": 0}}
        yield from _number_fields(value, levels - 1)


def _normalized_field_name(key: str) -> str:
    """Return one name for `errorMessage`, `error_message` and `Error-Message`."""
    return re.sub(r"[\W_]", "", key.lower())


def matching_action(
    response: requests.Response, actions: Sequence[ResponseAction]
) -> ActionName | None:
    """What the first action that matches the response says; None if none matches."""
    return next(
        (
            action.known_action
            for action in actions
            if action.known_action
            and action.matches(
                response.status_code, response.headers, response.content, response.encoding
            )
        ),
        None,
    )
