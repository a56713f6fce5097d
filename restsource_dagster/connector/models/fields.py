"""What we added to dlt's resources: taken out of what is handed to dlt, which would refuse it.

The building blocks of the models: exact types, and unions told apart before they are checked.

dlt asks `isinstance`, without converting: text is text, and `true` passes for a whole number. The
types here do the same, and each says in words what it expects.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Discriminator, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.validation.diagnostics import nearest_name

__all__ = [
    "WRITE_MODE_FIELDS",
    "FileModel",
    "Flag",
    "JsonPath",
    "MaybeJsonPath",
    "Number",
    "PythonOnly",
    "Text",
    "WholeNumber",
    "by_kind",
    "closest_kind",
    "is_jsonpath",
    "refuse_type",
    "refuse_value",
    "without_fields_unknown_to_dlt",
]

_SIMPLE_PATH = re.compile(
    r"(?!where(?:not)?\b)[A-Za-z_]\w*(?:\.(?!where(?:not)?\b)[A-Za-z_]\w*)*", re.ASCII
)


class FileModel(BaseModel):
    """One object of a connector file: frozen, and closed to fields that it doesn't know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def refuse_type(expected: str) -> NoReturn:
    """Refuses a value because it isn't `expected` (words, such as "a whole number")."""
    raise PydanticCustomError("not_this", "expected {expected}", {"expected": expected})


def refuse_value(expected: str) -> NoReturn:
    """Refuses a value of the right type that isn't `expected`."""
    raise PydanticCustomError("not_valid", "expected {expected}", {"expected": expected})


def _check_whole_number(value: Any) -> Any:
    return value if isinstance(value, int) else refuse_type("a whole number")


def _check_number(value: Any) -> Any:
    return value if isinstance(value, int | float) else refuse_type("a number")


def _check_python_only(value: Any) -> None:
    if value is not None:
        raise PydanticCustomError("python_only", "only Python can say this")


def _check_jsonpath(value: Any) -> Any:
    if not isinstance(value, str):
        refuse_type("a JSON path as text")
    if not is_jsonpath(without_references(value)):
        raise PydanticCustomError("jsonpath", "not a JSON path")
    return value


def _check_maybe_jsonpath(value: Any) -> Any:
    return value if value is None or value == "" else _check_jsonpath(value)


def is_jsonpath(text: str) -> bool:
    """Whether dlt can read the text as a JSON path (jsonpath-ng with its extensions)."""
    return _SIMPLE_PATH.fullmatch(text) is not None or _is_parsed_by_jsonpath_ng(text)


@lru_cache(maxsize=4096)
def _is_parsed_by_jsonpath_ng(text: str) -> bool:
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
WholeNumber = Annotated[
    int, PlainValidator(_check_whole_number), WithJsonSchema({"type": "integer"})
]
"""A whole number. `true` counts as 1, as in dlt, and gives a warning."""
Number = Annotated[float, PlainValidator(_check_number), WithJsonSchema({"type": "number"})]
"""A number, with or without decimals."""
JsonPath = Annotated[
    str, PlainValidator(_check_jsonpath), WithJsonSchema({"type": "string", "format": "json-path"})
]
"""A valid JSON path, such as `data.items` or `$.items[*]`."""
MaybeJsonPath = Annotated[
    str | None,
    PlainValidator(_check_maybe_jsonpath),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "json-path"}, {"type": "null"}]}),
]
"""A JSON path, or `null` or an empty text for none."""
PythonOnly = Annotated[None, PlainValidator(_check_python_only), WithJsonSchema({"type": "null"})]
"""A field of dlt that takes Python objects only."""


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
    meant = aliases.get(given.lower()) or nearest_name(given, known)
    return f"#{meant}" if meant else "#unknown"


WRITE_MODE_FIELDS = ("mode", "nested")
"""How the rows of a resource are written; also allowed in `resource_defaults`."""


def without_fields_unknown_to_dlt(source: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of dlt's part of a file without the fields that dlt doesn't know."""
    copy: dict[str, Any] = deepcopy(dict(source))
    for resource in (copy.get("resource_defaults"), *copy.get("resources", ())):
        if isinstance(resource, dict):
            for name in ("backfill", *WRITE_MODE_FIELDS):
                resource.pop(name, None)
    return copy
