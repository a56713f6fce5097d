"""What an answer says about itself: that something failed, or that there is nothing."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["is_about_an_error", "looks_like_an_error", "says_failure", "says_nothing_there"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FAILURES = _words(
    "error errors errorcode errordescription errordetail errordetails errorid errormessage "
    "errormessages errortype exception failure fault faultstring"
)
_MESSAGES = _words("detail details message messages msg reason")
_BESIDE = _words(
    "code correlationid data description developermessage documentationurl docurl help helpurl "
    "info instance link moreinfo ok param path requestid responsecode result results stack "
    "stacktrace status statuscode statustext success time timestamp title trace traceid type url"
)
_DATA = _words("data result results")
_FAILED = _words("error fail failed failure")
_COUNT = re.compile(
    r"(?!error|retry|fail|warn|page)"
    r"(total\w*|\w*count|\w*total|size|found|hits|matches|numfound|resultsizeestimate"
    r"|num(ber)?(of)?(results|records|items|rows|elements|entries))"
)


def is_about_an_error(key: str) -> bool:
    """Whether a field tells of a failure by its name, or explains one."""
    return _plain(key) in _FAILURES or _plain(key) in _MESSAGES


def says_failure(body: Any) -> bool:
    """Whether an object says that the request failed: `error` with something in it, for instance."""
    if not isinstance(body, Mapping):
        return False
    fields = {_plain(str(key)): value for key, value in body.items()}
    return (
        any(value for key, value in fields.items() if key in _FAILURES)
        or fields.get("success") is False
        or fields.get("ok") is False
        or str(fields.get("status")).lower() in _FAILED
    )


def looks_like_an_error(body: Mapping[str, Any]) -> bool:
    """Whether an object has nothing but what error messages consist of."""
    fields = {_plain(key): value for key, value in body.items()}
    if not fields.keys() <= _FAILURES | _MESSAGES | _BESIDE:
        return False
    if says_failure(body):
        return True
    is_fine = fields.get("success") or fields.get("ok")
    has_data = any(isinstance(fields.get(key), list | dict) for key in _DATA)
    return bool(fields.keys() & _MESSAGES) and not is_fine and not has_data


def says_nothing_there(body: Any) -> bool:
    """Whether an answer without a list says that there is none: it is empty, or counts 0."""
    if body is None or body in ([], {}):
        return True
    return not says_failure(body) and any(
        value == 0 and not isinstance(value, bool) and _COUNT.fullmatch(_plain(key))
        for key, value in _numbers(body)
    )


def _numbers(body: Any, levels: int = 2) -> Iterator[tuple[str, int | float]]:
    if not isinstance(body, Mapping) or not levels:
        return
    for key, value in body.items():
        if isinstance(value, int | float):
            yield str(key), value
        yield from _numbers(value, levels - 1)


def _plain(key: str) -> str:
    """`errorMessage`, `error_message` and `Error-Message` are one name."""
    return re.sub(r"[\W_]", "", key.lower())
