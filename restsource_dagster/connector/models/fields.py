"""The building blocks of the models: the base class, exact types, and unions.

The models are parsed once and then trusted: `check` and the engine read the same objects. They keep
which fields the file gives (`model_fields_set`), so that `as_json` returns the file's own words.

dlt asks `isinstance` and converts nothing: text is text, and `true` passes for a whole number. The
types here do the same, and each says in words what it expects.
"""

import re
import threading
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Annotated, Any, NoReturn, Self, cast

from pydantic import BaseModel, ConfigDict, Discriminator, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.time_formats import (
    NAMED_FORMATS,
    duration_fix,
    time_format_problem,
    zone_problem,
)
from restsource_dagster.connector.validation.diagnostics import nearest_name, quoted_list

__all__ = [
    "Duration",
    "FileModel",
    "Flag",
    "JsonPath",
    "MaybeJsonPath",
    "MethodName",
    "Number",
    "PythonOnly",
    "ReadTimeFormat",
    "SingleValuePath",
    "Text",
    "TimeFormat",
    "WholeNumber",
    "ZoneName",
    "as_json",
    "by_kind",
    "closest_kind",
    "count_from_one",
    "finds_one_value",
    "is_jsonpath",
    "refuse_explained",
    "refuse_type",
    "refuse_value",
    "text_or_object",
    "word_or_object",
]

# jsonpath-ng is slow to import, and most paths are dotted names. `where` and `wherenot` are its operators.
_SIMPLE_PATH = re.compile(
    r"(?!where(?:not)?\b)[A-Za-z_]\w*(?:\.(?!where(?:not)?\b)[A-Za-z_]\w*)*", re.ASCII
)

_BUILDING = threading.Lock()


class FileModel(BaseModel):
    """One object of a connector file: frozen, and closed to unknown fields.

    The validator of a model is built at its first use: of the ninety models, most starts need that of
    the file only, which has those of its parts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Return the model of a JSON value, checked. Raises `pydantic.ValidationError`."""
        # without the lock, versions of pydantic before 2.13 take the base's validator while another thread builds
        with _BUILDING:
            cls.model_rebuild()
        return cls.model_validate(value)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return a model of valid fields, unchecked. The other fields have their defaults."""
        names = cast("set[str]", _shared_names(frozenset(given)))
        # With the defaults given: `model_construct` would copy each of them for each object.
        model: Any = cls.model_construct(names, **{**_defaults_of(cls), **given})
        return cast("Self", model)

    @property
    def given(self) -> dict[str, Any]:
        """The fields that the file gives, by their names in Python."""
        names = self.model_fields_set
        return {name: value for name, value in self.__dict__.items() if name in names}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002 - the method's own signature
        """Return a model with other valid fields. Models are frozen, so a deep copy shares the values, too."""
        # pydantic's own changes the set of given fields, which models share
        return self.of({**self.given, **(update or {})})

    def as_json(self) -> dict[str, Any]:
        """Return the object as the file has it, without the fields that it leaves out."""
        return {_key_of(type(self), name): as_json(value) for name, value in self.given.items()}


@lru_cache(maxsize=4096)
def _shared_names(names: frozenset[str]) -> frozenset[str]:
    """Return one set for all models with the same fields: a set of its own takes 200 bytes."""
    return names


@lru_cache(maxsize=256)
def _defaults_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the defaults of a model's fields. Its objects share them: they are never changed."""
    fields = model.model_fields.items()
    optional = ((name, field) for name, field in fields if not field.is_required())
    return {name: field.get_default(call_default_factory=True) for name, field in optional}


@lru_cache(maxsize=1024)
def _key_of(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name


def as_json(value: Any) -> Any:
    """Return the JSON value that a model, or a container of models, was parsed from."""
    if isinstance(value, FileModel):
        return value.as_json()
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def refuse_type(expected: str) -> NoReturn:
    """Refuse a value that isn't `expected` (words, such as "a whole number")."""
    raise PydanticCustomError("not_this", "expected {expected}", {"expected": expected})


def refuse_value(expected: str) -> NoReturn:
    """Refuse a value of the right type that isn't `expected`."""
    raise PydanticCustomError("not_valid", "expected {expected}", {"expected": expected})


def refuse_explained(text: str, fix: str) -> NoReturn:
    """Refuse a value with a sentence about what is wrong, and one about what to write."""
    raise PydanticCustomError("explained", "{text}", {"text": text, "fix": fix})


def _check_time_format(value: Any, *, is_read: bool = False) -> Any:
    if not isinstance(value, str):
        refuse_type(f"{quoted_list(NAMED_FORMATS)}, or a pattern such as `%d/%m/%Y`")
    if problem := time_format_problem(value, is_read=is_read):
        refuse_explained(*problem)
    return value


def _check_duration(value: Any) -> Any:
    if not isinstance(value, str):
        refuse_type("a length of time such as 30d, 12h or 1mo")
    if fix := duration_fix(value):
        refuse_explained("This is no length of time", f"Write `{fix}`")
    return value


def _check_method(value: Any) -> Any:
    if not isinstance(value, str):
        refuse_type("the word of an HTTP method, such as GET")
    if not re.fullmatch(r"[A-Z][A-Z-]{0,31}", value, re.ASCII):
        meant = re.sub(r"[^A-Z-]", "", value.upper())
        refuse_explained("An HTTP method is a word in capital letters", f'Write "{meant or "GET"}"')
    return value


def _check_zone_name(value: Any) -> Any:
    if not isinstance(value, str):
        refuse_type("the name of a time zone, such as `Europe/Berlin`")
    if fix := zone_problem(value):
        refuse_explained("This is no time zone of the IANA database", fix)
    return value


def _check_whole_number(value: Any) -> Any:
    return value if isinstance(value, int) else refuse_type("a whole number")


def _check_number(value: Any) -> Any:
    return value if isinstance(value, int | float) else refuse_type("a number")


def _check_python_only(value: Any) -> None:
    if value is not None:
        raise PydanticCustomError("python_only", "only Python can say this")


def _check_single_value(value: Any) -> Any:
    if isinstance(value, list | dict):
        refuse_type("a text, a number, true, false or null")
    return value


def _check_jsonpath(value: Any) -> Any:
    if not isinstance(value, str):
        refuse_type("a JSON path as text")
    # With a letter for each reference, because its value is known only in a run.
    if not is_jsonpath(without_references(value)):
        raise PydanticCustomError("jsonpath", "not a JSON path")
    return value


def _check_maybe_jsonpath(value: Any) -> Any:
    return value if value is None or value == "" else _check_jsonpath(value)


def _check_single_value_path(value: Any) -> Any:
    if not finds_one_value(without_references(_check_jsonpath(value))):
        raise PydanticCustomError("path_of_many", "a JSON path that can match several values")
    return value


def is_jsonpath(text: str) -> bool:
    """True if dlt can read the text as a JSON path (jsonpath-ng with its extensions)."""
    return _SIMPLE_PATH.fullmatch(text) is not None or _parsed_path(text) is not None


def finds_one_value(path: str) -> bool:
    """True if a JSON path matches at most one value of a record, whatever the record is.

    A path with `[*]`, `..`, a slice, a filter or several names does not.
    """
    return _SIMPLE_PATH.fullmatch(path) is not None or not _finds_many(_parsed_path(path))


@lru_cache(maxsize=4096)
def _parsed_path(text: str) -> Any:
    """Return what jsonpath-ng makes of a path; None for text that is none."""
    from jsonpath_ng.ext.parser import parse

    try:
        return parse(text)
    except Exception:  # noqa: BLE001 - the parser raises anything for text that is no path
        return None


# By name: importing the classes would import the slow parser for every file.
_STEPS_TO_MANY = frozenset(
    (
        "Descendants",
        "Filter",
        "Intersect",
        "Keys",
        "Slice",
        "Union",
        "Where",
        "WhereNot",
        "Wildcard",
    )
)
"""The classes of jsonpath-ng whose matches may be several, without the underscore of some."""


def _finds_many(step: Any) -> bool:
    # names of fields, or indices of a list: `a,b`, `[0,1]`
    names = (*getattr(step, "fields", ()), *getattr(step, "indices", ()))
    return (
        type(step).__name__.lstrip("_") in _STEPS_TO_MANY
        or len(names) > 1
        or "*" in names
        or any(_finds_many(part) for part in getattr(step, "__dict__", {}).values())
    )


Text = Annotated[str, Strict()]
"""Text, as it is."""
# Without `Strict`, pydantic takes "yes" and 1 for true, which dlt refuses.
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
SingleValuePath = Annotated[
    str,
    PlainValidator(_check_single_value_path),
    WithJsonSchema({"type": "string", "format": "json-path"}),
]
"""A JSON path that matches at most one value of a record."""
MaybeJsonPath = Annotated[
    str | None,
    PlainValidator(_check_maybe_jsonpath),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "json-path"}, {"type": "null"}]}),
]
"""A JSON path, or `null` or an empty text for none."""
SingleValue = Annotated[
    Any,
    PlainValidator(_check_single_value),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]
"""A JSON value that is no list and no object."""
TimeFormat = Annotated[
    str,
    PlainValidator(_check_time_format),
    WithJsonSchema(
        {"anyOf": [{"enum": list(NAMED_FORMATS)}, {"type": "string", "pattern": "%[A-Za-z]"}]}
    ),
]
"""A named format of times, or a strftime pattern."""
ReadTimeFormat = Annotated[
    str,
    PlainValidator(partial(_check_time_format, is_read=True)),
    WithJsonSchema(
        {"anyOf": [{"enum": list(NAMED_FORMATS)}, {"type": "string", "pattern": "%[A-Za-z]"}]}
    ),
]
"""The same, for reading: it tells the day."""
Duration = Annotated[
    str,
    PlainValidator(_check_duration),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,6}(mo|[smhdwy])$"}),
]
"""A length of time: `45s`, `1m` (a minute), `12h`, `30d`, `2w`, `1mo`, `1y`."""
MethodName = Annotated[
    str,
    PlainValidator(_check_method),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["GET", "POST", "QUERY", "SEARCH"]},
                {"type": "string", "pattern": "^[A-Z][A-Z-]{0,31}$"},
            ]
        }
    ),
]
"""The word of an HTTP method."""
ZoneName = Annotated[str, PlainValidator(_check_zone_name), WithJsonSchema({"type": "string"})]
"""The name of a time zone, such as `Europe/Berlin`."""
PythonOnly = Annotated[None, PlainValidator(_check_python_only), WithJsonSchema({"type": "null"})]
"""A field of dlt that takes Python objects only."""


def count_from_one(most: int) -> tuple[PlainValidator, WithJsonSchema]:
    """Return the validator and the schema of a whole number from 1 to `most`. `true` is refused."""
    expected = f"a whole number from 1 to {most:,}"

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            refuse_type(expected)
        return value if 1 <= value <= most else refuse_value(expected)

    schema = {"type": "integer", "minimum": 1, "maximum": most}
    return PlainValidator(check), WithJsonSchema(schema)


by_kind = partial(Discriminator, custom_error_type="not_this")
"""Choose the member of a union by a function of the value, which returns its tag, or None for no member.

`custom_error_message` says in words what the value may be.
"""


def _word_or_object(value: Any) -> str:
    return "#object" if isinstance(value, dict) else "#word"


def _text_or_object(value: Any) -> str | None:
    return "#text" if isinstance(value, str) else "#object" if isinstance(value, dict) else None


def word_or_object(expected: str) -> Discriminator:
    """Choose between a literal, tagged `#word`, and an object, tagged `#object`; `expected` says both in words.

    What is no object is checked as the literal, whose message names the words.
    """
    return by_kind(_word_or_object, custom_error_message=expected)


def text_or_object(expected: str) -> Discriminator:
    """Choose between any text, tagged `#text`, and an object, tagged `#object`; `expected` says both in words."""
    return by_kind(_text_or_object, custom_error_message=expected)


def closest_kind(given: Any, known: tuple[str, ...], aliases: dict[str, str]) -> str:
    """Return the tag of the union's member that a `type` means, also if it is misspelt; `#unknown` if none.

    With the member known, the other fields of the object are checked as well.
    """
    if not isinstance(given, str):
        return "#unknown"
    if given in known:
        return f"#{given}"
    meant = aliases.get(given.lower()) or nearest_name(given, known)
    return f"#{meant}" if meant else "#unknown"
