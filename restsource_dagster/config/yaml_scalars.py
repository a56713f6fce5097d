"""What a YAML scalar means: YAML 1.2's core schema, within what JSON can say."""

import re
from collections.abc import Callable
from typing import Any

import yaml

from restsource_dagster.config import yaml_mistakes as mistakes
from restsource_dagster.config.problems import Finding
from restsource_dagster.config.scalars import (
    half_a_pair,
    has_lone_surrogate,
    no_such_number,
    number_too_large,
    number_too_long,
    read_float,
    read_integer,
    without_surrogates,
)

__all__ = ["read_scalar"]

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_scalar(event: yaml.ScalarEvent, pointer: Callable[[], str]) -> tuple[Any, Finding | None]:
    """The value of a scalar and what is wrong with it, if anything is."""
    text: str = event.value
    if event.tag is not None:
        return text, mistakes.tagged(pointer())
    if not event.implicit[0]:
        return _quoted(text, pointer)
    if text in _WORDS:
        return _WORDS[text], None
    return _plain(text, pointer)


def _plain(text: str, pointer: Callable[[], str]) -> tuple[Any, Finding | None]:
    number: float | None
    if _INTEGER.fullmatch(text):
        number = read_integer(text)
        return number or 0, None if number is not None else number_too_long(pointer(), len(text))
    if _FLOAT.fullmatch(text):
        number = read_float(text)
        return number or 0.0, None if number is not None else number_too_large(pointer())
    if _NO_NUMBER.fullmatch(text):
        return 0.0, no_such_number(pointer(), text)
    return int(text, base=0) if _OCTAL_OR_HEX.fullmatch(text) else text, None


def _quoted(text: str, pointer: Callable[[], str]) -> tuple[str, Finding | None]:
    if not has_lone_surrogate(text):
        return text, None
    # A pair of escapes is one character in JSON, so it is here: YAML contains JSON.
    paired = text.encode("utf-16", "surrogatepass")
    try:
        return paired.decode("utf-16"), None
    except UnicodeDecodeError:
        return without_surrogates(text), half_a_pair(pointer())
