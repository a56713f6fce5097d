"""How findings name values: pointers, short renderings that hold no secret, nearest spellings."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["is_secret", "listed", "name_shown", "nearest", "pointer_to", "rendered"]

_LONGEST = 40
_SECRET = re.compile(
    r"token|secret|passw|pwd|pass$|api[-_ ]?key|apikey|authorization|cookie|credential|signature"
    r"|access[-_ ]?key|subscription[-_ ]?key|private|session|x-auth|passphrase|app[-_]?key"
    r"|^(key|sig|auth|jwt|bearer|app[-_]?id|pat|hapikey|username|user|client_id)$",
    re.IGNORECASE,
)
_URL_PARTS = re.compile(r"//[^/@\s]*@|[?#].*", re.DOTALL)


def pointer_to(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a path of keys and indices; "" is the whole file."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def is_secret(path: Iterable[str | int]) -> bool:
    """Whether what stands at this path may be a secret: inside `auth`, or named like one."""
    return any(isinstance(step, str) and _SECRET.search(step) for step in path)


def rendered(value: Any, path: Sequence[str | int] = ()) -> str:
    """A value in a few words, never more than some 60 characters, and no secret in it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int | float):
        return "a number" if is_secret(path) else _number(value)
    if isinstance(value, list | dict):
        words = (
            ("a list", "an empty list")
            if isinstance(value, list)
            else ("an object", "an empty object")
        )
        return words[0 if value else 1]
    return type(value).__name__


def name_shown(name: str) -> str:
    """A name from the file (a field, a resource, a placeholder) in backticks, shortened."""
    return f"`{_shortened(_URL_PARTS.sub('...', name.replace('`', chr(39))))}`"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known spelling that is most like `name`, or None when nothing is."""
    if len(name) > 2 * _LONGEST:
        return None
    by_folded = {_folded(candidate): candidate for candidate in known}
    cutoff = 0.6 if len(name) < 10 else 0.75
    close = difflib.get_close_matches(_folded(name), list(by_folded), n=1, cutoff=cutoff)
    return by_folded[close[0]] if close else None


def listed(names: Iterable[str], last: str = "or") -> str:
    """`a`, `b` or `c`."""
    quoted = [name_shown(name) for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def _text(value: str, path: Sequence[str | int]) -> str:
    if not value:
        return "an empty text"
    if is_secret(path):
        return "text (not shown)"
    return f'"{_shortened(_URL_PARTS.sub("...", value))}"'


def _number(value: float) -> str:
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a whole number of more than 20 digits"
    return repr(value)


def _shortened(text: str) -> str:
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return text.encode("utf-8", "replace").decode("utf-8")


def _folded(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_").strip("_")
