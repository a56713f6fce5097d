"""The building blocks of the models: exact types, and unions told apart before they are checked.

dlt asks `isinstance`, without converting: text is text, and `true` passes for a whole number. The
types here do the same, and each says in words what it expects.
"""

import re
from functools import lru_cache
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Discriminator, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from restsource_dagster.config.references import without_references
from restsource_dagster.config.wording import nearest

__all__ = [
    "Flag",
    "JsonPath",
    "MaybeJsonPath",
    "Nothing",
    "Number",
    "Part",
    "Text",
    "Whole",
    "by_kind",
    "closest_kind",
    "is_jsonpath",
    "not_this",
    "not_valid",
]

_SIMPLE_PATH = re.compile(
    r"(?!where(?:not)?\b)[A-Za-z_]\w*(?:\.(?!where(?:not)?\b)[A-Za-z_]\w*)*", re.ASCII
)


class Part(BaseModel):
    """One object of a connector file: frozen, and closed to fields that it doesn't know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def not_this(expected: str) -> NoReturn:
    """Refuses a value because it isn't `expected` (words, such as "a whole number")."""
    raise PydanticCustomError("not_this", "expected {expected}", {"expected": expected})


def not_valid(expected: str) -> NoReturn:
    """Refuses a value of the right type that isn't `expected`."""
    raise PydanticCustomError("not_valid", "expected {expected}", {"expected": expected})


def _whole(value: Any) -> Any:
    return value if isinstance(value, int) else not_this("a whole number")


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) else not_this("a number")


def _nothing(value: Any) -> None:
    if value is not None:
        raise PydanticCustomError("python_only", "only Python can say this")


def _jsonpath(value: Any) -> Any:
    if not isinstance(value, str):
        not_this("a JSON path as text")
    if not is_jsonpath(without_references(value)):
        raise PydanticCustomError("jsonpath", "not a JSON path")
    return value


def _maybe_jsonpath(value: Any) -> Any:
    return value if value is None or value == "" else _jsonpath(value)


def is_jsonpath(text: str) -> bool:
    """Whether dlt can read the text as a JSON path (jsonpath-ng with its extensions)."""
    return _SIMPLE_PATH.fullmatch(text) is not None or _parses(text)


@lru_cache(maxsize=4096)
def _parses(text: str) -> bool:
    from jsonpath_ng.ext.parser import parse

    try:
        parse(text)
    except Exception:  # noqa: BLE001 - the parser raises anything for text that is no path
        return False
    return True


Text = Annotated[str, Strict()]
"""Text, as it is."""
Flag = Annotated[bool, Strict()]
"""`true` or `false`."""
Whole = Annotated[int, PlainValidator(_whole), WithJsonSchema({"type": "integer"})]
"""A whole number. dlt takes `true` for 1; so do we, with a warning."""
Number = Annotated[float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
"""A number, whole or not."""
JsonPath = Annotated[
    str, PlainValidator(_jsonpath), WithJsonSchema({"type": "string", "format": "json-path"})
]
"""A JSON path that can be read, such as `data.items` or `$.items[*]`."""
MaybeJsonPath = Annotated[
    str | None,
    PlainValidator(_maybe_jsonpath),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "json-path"}, {"type": "null"}]}),
]
"""A JSON path, or `null` or an empty text for none."""
Nothing = Annotated[None, PlainValidator(_nothing), WithJsonSchema({"type": "null"})]
"""A field that dlt has for Python objects only."""


def by_kind(kind: Any, expected: str) -> Any:
    """Tells the members of a union apart by `kind(value)`: the tag of a member, or None.

    `expected` says in words what the value may be, for one that is none of them.
    """
    return Discriminator(kind, custom_error_type="not_this", custom_error_message=expected)


def closest_kind(given: Any, known: tuple[str, ...], aliases: dict[str, str]) -> str:
    """The member of a union that a `type` means, though misspelt: its tag, or `#unknown`.

    So the other fields of the object are checked, too, instead of nothing but its type.
    """
    if not isinstance(given, str):
        return "#unknown"
    if given in known:
        return f"#{given}"
    meant = aliases.get(given.lower()) or nearest(given, known)
    return f"#{meant}" if meant else "#unknown"
