"""What a response means: by the file's `response_actions`, and by what the body says itself."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import requests

from restsource_dagster.connector.models.endpoint import ActionName, ResponseAction
from restsource_dagster.engine.dlt_compat import RECORD_KEY_PATTERNS

__all__ = [
    "ID_KEYS",
    "describe_failure",
    "failure_beside_records",
    "failure_field",
    "is_error_field",
    "looks_like_an_error",
    "matching_action",
    "normalized_field_name",
    "reports_failure",
    "reports_no_records",
    "split_names",
]


def split_names(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# Names of fields as APIs use them, in lower case without separators (`normalized_field_name`).
# The first says that something failed; the others do so only in an object that has no data.
_ERROR_FIELDS = split_names(
    "error errors errorcode errordescription errordetail errordetails errorid errormessage "
    "errormessages errortype exception failure fault faultstring"
)
_MESSAGE_FIELDS = split_names("detail details message messages msg reason")
_ACCOMPANYING_FIELDS = split_names(
    "code correlationid data description developermessage documentationurl docurl help helpurl "
    "info instance link moreinfo ok param path requestid responsecode result results stack "
    "stacktrace status statuscode statustext success time timestamp title trace traceid type url"
)
_DATA_FIELDS = split_names("data result results")
_NO_ERROR_TEXTS = split_names(
    "200 ok success successful succeeded none null nil no false na noerror noerrors"
)
# an object with nothing but one of these has the answer in it
_WRAPPERS = split_names("response result body envelope reply d")
ID_KEYS = frozenset({"id", "_id", "uuid", "guid"})
"""Keys, in lower case, by which an object is a record rather than an envelope of records."""
_MESSAGE_KEYS = ("message", "detail", "description", "title", "error")
_MOST_ERRORS = 3
_ERROR_CHARS = 200
_SUCCESS_FIELDS = split_names("success ok issuccess successful issuccessful succeeded")
_FAILURE_FLAGS = split_names("haserror haserrors iserror isfailure hasfailures")
_FACTS_ABOUT_THE_ANSWER = split_names("meta metadata")
_FAILED_STATUSES = split_names("error fail failed failure")
# `errorCount: 0` and `page: 0` don't say that there are no rows
_COUNT_FIELD = re.compile(
    r"(?!error|retry|fail|warn|page)"
    r"(total\w*|\w*count|\w*total|size|found|hits|matches|numfound|resultsizeestimate"
    r"|num(ber)?(of)?(results|records|items|rows|elements|entries))"
)


def is_error_field(key: str) -> bool:
    """True if the name of a field says that something failed, or explains it."""
    name = normalized_field_name(key)
    return name in _ERROR_FIELDS or name in _MESSAGE_FIELDS


def reports_failure(body: Any) -> bool:
    """True if a body is an object that says that the request failed, such as `{"error": "..."}`."""
    return failure_field(body) is not None


def failure_field(body: Any) -> str | None:
    """Return the field of a body that says that something failed; None if none does.

    `"error": null`, `"errors": []`, `"errorCode": "0"` and `"errorMessage": "OK"` say that nothing
    failed.
    """
    if not isinstance(body, Mapping):
        return None
    fields = {normalized_field_name(str(key)): (str(key), value) for key, value in body.items()}
    for name, (key, value) in fields.items():
        if name in _ERROR_FIELDS and _says_error(value):
            return key
        # 0 stands for false, as in {"ok": 0}
        if name in _SUCCESS_FIELDS and str(value).lower() in ("false", "0"):
            return key
        if name in _FAILURE_FLAGS and str(value).lower() == "true":
            return key
        if name == "status" and str(value).lower() in _FAILED_STATUSES:
            return key
    return None


def failure_beside_records(body: Any, records: Sequence[Any]) -> str | None:
    """Return the field outside the records by which a body says that something failed; else None.

    `records` is the list in the body. A body that is itself a record, or an object with an id that
    the list belongs to, as the steps of a job do, has such a field as data.
    """
    while isinstance(body, Mapping) and len(body) == 1:
        name, inner = next(iter(body.items()))
        if normalized_field_name(str(name)) not in _WRAPPERS or not isinstance(inner, Mapping):
            break
        body = inner
    if not isinstance(body, Mapping) or any(body is record for record in records[:1]):
        return None
    place = next((str(key) for key, value in body.items() if value is records), "")
    has_id = any(str(key).lower() in ID_KEYS for key in body) and "jsonrpc" not in body
    if has_id and place not in RECORD_KEY_PATTERNS:
        return None
    if (found := failure_field(body)) is not None:
        return found
    for key, value in body.items():
        if normalized_field_name(str(key)) in _FACTS_ABOUT_THE_ANSWER and value is not records:
            inside = failure_field(value)
            if inside is not None:
                return f"{key}.{inside}"
    return None


def describe_failure(body: Any, field: str) -> str:
    """Return what a body says in its field of an error, to end a sentence with; "" if it is no text."""
    while isinstance(body, Mapping) and field not in body and len(body) == 1:
        body = next(iter(body.values()))
    said = body.get(field) if isinstance(body, Mapping) else None
    texts = [
        text for one in (said if isinstance(said, list) else [said]) if (text := _text_of(one))
    ]
    more = f" (and {len(texts) - _MOST_ERRORS} more)" if len(texts) > _MOST_ERRORS else ""
    return f": {'; '.join(texts[:_MOST_ERRORS])}{more}" if texts else ""


def _text_of(error: Any) -> str:
    """Return the message of an error, with its place in the query if it is one of GraphQL."""
    if isinstance(error, str):
        return error[:_ERROR_CHARS]
    if not isinstance(error, Mapping):
        return ""
    message = next((error[key] for key in _MESSAGE_KEYS if isinstance(error.get(key), str)), "")
    path = error.get("path")
    place = f" (at {'.'.join(map(str, path))})" if isinstance(path, list) and path else ""
    return f"{message[:_ERROR_CHARS]}{place}" if message else ""


def _says_error(value: Any) -> bool:
    """True if the value of an error field says that there is an error."""
    if isinstance(value, str):
        text = normalized_field_name(value)
        return text.strip("0") != "" and text not in _NO_ERROR_TEXTS
    if isinstance(value, Mapping):  # {"code": 0, "message": "OK"}
        return any(map(_says_error, value.values()))
    if isinstance(value, list):
        return any(bool(item) if isinstance(item, Mapping) else _says_error(item) for item in value)
    return bool(value) and (value is True or value != requests.codes.ok)


def looks_like_an_error(body: Mapping[str, Any]) -> bool:
    """True if an object has only fields that error messages consist of."""
    fields = {normalized_field_name(key): value for key, value in body.items()}
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
        and _COUNT_FIELD.fullmatch(normalized_field_name(key))
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


def normalized_field_name(key: str) -> str:
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
