"""What a response means: by the file's `response_actions`, and by what the body says itself."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import requests

from restsource_dagster.connector.models.response_action import ActionName, ResponseAction
from restsource_dagster.engine.dlt_compat import RECORD_KEY_PATTERNS, jsonpath

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
# the fields below count beside rows only, because an object without rows may be a row that has them
_OUTCOME_FIELDS = split_names("outcome responsestatus result resultstatus status")
_INCOMPLETE_STATUSES = _FAILED_STATUSES | split_names(
    "incomplete partial partialerror partialfailure partialsuccess"
)
_INCOMPLETE_FLAGS = split_names(
    "failed incomplete incompleteresults isincomplete ispartial partial partialresults timedout"
)
_HTTP_STATUS_FIELDS = split_names("httpcode httpstatus httpstatuscode status statuscode")
_CODE_FIELDS = split_names("code responsecode")
_HTTP_ERROR_STATUS = re.compile(r"[45]\d\d")
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
    if (found := _error_field(body)) is not None:
        return found
    failed = (
        str(key)
        for key, value in body.items()
        if normalized_field_name(str(key)) == "status" and str(value).lower() in _FAILED_STATUSES
    )
    return next(failed, None)


def _error_field(body: Mapping[Any, Any]) -> str | None:
    """Return the field of an object that is there to say that something failed; None if none does."""
    for key, value in body.items():
        name = normalized_field_name(str(key))
        if name in _ERROR_FIELDS and _says_error(value):
            return str(key)
        # 0 stands for false, as in {"ok": 0}
        if name in _SUCCESS_FIELDS and str(value).lower() in ("false", "0"):
            return str(key)
        if name in _FAILURE_FLAGS and str(value).lower() == "true":
            return str(key)
    return None


def failure_beside_records(body: Any, records: Sequence[Any]) -> str | None:
    """Return the path of the field that reports a failure in a body; None without one.

    `records` is the list in the body. The objects around it are looked at from the outside in, up to
    one that is itself a record, or has an id and the list belongs to it, as the steps of a job do:
    such an object has its fields as data.
    """
    around = _objects_around(body, records) or [((), body)]
    is_envelope = True
    for path, holder in around:
        if not isinstance(holder, Mapping) or any(holder is record for record in records[:1]):
            return None
        place = next((str(key) for key, value in holder.items() if value is records), "")
        has_id = any(str(key).lower() in ID_KEYS for key in holder) and "jsonrpc" not in holder
        if has_id and place not in RECORD_KEY_PATTERNS:
            return None
        found = None
        if is_envelope:
            found = failure_field(holder) or _incompleteness_field(holder)
            found = found or _failure_in_facts(holder, records)
        elif normalized_field_name(path[-1]) in _WRAPPERS | _DATA_FIELDS:
            found = _error_field(holder)
        if found is not None:
            return ".".join((*path, found))
        # further in, a status may be that of what an object stands for
        only = next(iter(holder), "") if len(holder) == 1 else ""
        is_envelope = is_envelope and normalized_field_name(str(only)) in _WRAPPERS
    return None


_MOST_OBJECTS_AROUND = 6
_MOST_ENVELOPE_FIELDS = 100
"""An object with more is a map of records, whose values would take long to look through."""


def _objects_around(
    body: Any, records: Sequence[Any], path: tuple[str, ...] = ()
) -> list[tuple[tuple[str, ...], Any]]:
    """Return the objects that a list is in, the outermost first, with their paths; [] if it is in none."""
    if not isinstance(body, Mapping) or len(body) > _MOST_ENVELOPE_FIELDS:
        return []
    if len(path) >= _MOST_OBJECTS_AROUND:
        return []
    if any(value is records for value in body.values()):
        return [(path, body)]
    for key, value in body.items():
        if inner := _objects_around(value, records, (*path, str(key))):
            return [(path, body), *inner]
    return []


def _failure_in_facts(holder: Mapping[Any, Any], records: Sequence[Any]) -> str | None:
    for key, value in holder.items():
        if normalized_field_name(str(key)) in _FACTS_ABOUT_THE_ANSWER and value is not records:
            inside = failure_field(value)
            if inside is not None:
                return f"{key}.{inside}"
    return None


def _incompleteness_field(holder: Mapping[Any, Any]) -> str | None:
    """Return the field of an envelope that reports missing rows; None without one.

    Such as `"status": 500`, `"code": 503` beside a message, `"result": "failure"` and
    `"incomplete_results": true`.
    """
    fields = {normalized_field_name(str(key)): (str(key), value) for key, value in holder.items()}
    # a code without words may be one of the data, such as that of an area
    codes = _CODE_FIELDS if fields.keys() & (_MESSAGE_FIELDS | {"status"}) else frozenset()
    for name, (key, value) in fields.items():
        # only the few fields that may say so are read as texts: others hold all records of a page
        says = name in _OUTCOME_FIELDS and isinstance(value, str)
        if says and normalized_field_name(value) in _INCOMPLETE_STATUSES:
            return key
        if name in _INCOMPLETE_FLAGS and normalized_field_name(str(value)) == "true":
            return key
        if name in _HTTP_STATUS_FIELDS and isinstance(value, Mapping):
            key, value = f"{key}.code", value.get("code")  # noqa: PLW2901 - the status is in there
        if name in _HTTP_STATUS_FIELDS | codes and _HTTP_ERROR_STATUS.fullmatch(str(value)):
            return key
    return None


def describe_failure(body: Any, field: str) -> str:
    """Return what a body says in its field of an error, to end a sentence with; "" if it is no text."""
    *path, name = field.split(".") if isinstance(body, Mapping) and field not in body else [field]
    for key in path:
        body = body.get(key) if isinstance(body, Mapping) else None
    said = body.get(name) if isinstance(body, Mapping) else None
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
            # last, because it parses the body
            and (not action.body or _has_values(response, action.body))
        ),
        None,
    )


def _has_values(response: requests.Response, values: Mapping[str, Any]) -> bool:
    """True if the JSON body has each value at its path; False for a body that is no JSON."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return False
    return all(
        any(_is_equal(found, value) for found in jsonpath.find_values(path, body))
        for path, value in values.items()
    )


def _is_equal(found: Any, value: Any) -> bool:
    # `true` is no 1 in JSON
    return isinstance(found, bool) == isinstance(value, bool) and bool(found == value)
