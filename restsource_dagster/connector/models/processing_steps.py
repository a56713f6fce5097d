"""What happens to the records of a page before they are loaded.

dlt's `processing_steps` take Python functions. Here `filter`, `map` and `yield_map` take jq programs
(https://jqlang.org/manual/), and what needs no program has steps of its own.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field, PlainValidator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.models.fields import (
    FileModel,
    Text,
    by_kind,
    closest_kind,
    refuse_type,
    refuse_value,
)

__all__ = [
    "STEP_ALIASES",
    "STEP_NAMES",
    "DropStep",
    "FilterStep",
    "HashSettings",
    "HashStep",
    "MapStep",
    "ParseJsonStep",
    "ProcessingStep",
    "RecordField",
    "RenameStep",
    "YieldMapStep",
    "check_jq",
    "compile_jq",
    "hash_keys",
    "removed_fields",
]

_REFUSED_FUNCTIONS = (
    *("env", "input", "inputs", "debug", "stderr", "halt", "halt_error"),
    *("input_filename", "input_line_number"),
)
"""They read secrets of the process, write to its log, end it, or take another record than their own."""
_PRELUDE = " ".join(f'def {name}: error("{name} has no use here");' for name in _REFUSED_FUNCTIONS)


@lru_cache(maxsize=1024)
def compile_jq(program: str, frame: str) -> Any:
    """Return the compiled jq program that runs `program` in the place of `%s` in `frame`.

    The program can't read the environment or other inputs. `program` is a valid one.
    """
    # most files have no program, and importing the library takes longer than parsing a file
    import jq

    # on a line of its own, so that a comment at the program's end goes no further
    framed = frame.replace("%s", f"({program}\n)")
    return jq.compile(f"{_PRELUDE} {{}} as $ENV | {framed}")


@lru_cache(maxsize=1024)
def _jq_problem(program: str) -> str | None:
    import jq

    if "$ENV" in program:
        return "$ENV is the environment of the process; write a reference such as `${NAME}`"
    try:
        jq.compile(program)
    except ValueError as error:
        text = str(error).strip().partition("\n")[0].removeprefix("jq: error: ")
        return text.replace(" at <top-level>,", " in").rstrip(":")
    return None


def check_jq(value: Any) -> Any:
    """Return a value that is a valid jq program. Raises pydantic's error for any other."""
    if not isinstance(value, str):
        refuse_type("a jq program as text")
    if not value.strip():
        refuse_value('a jq program, such as `.status == "open"`')
    if problem := _jq_problem(value):
        raise PydanticCustomError("jq", "{problem}", {"problem": problem})
    return value


def _check_field(value: Any) -> Any:
    if not isinstance(value, str):
        refuse_type("the name of a field")
    expected = "the name of a field, or `a.b` for a field of an object"
    return value if all(value.split(".")) else refuse_value(expected)


_FIELD_SCHEMA = WithJsonSchema({"type": "string", "pattern": r"^[^.]+(\.[^.]+)*$"})
JqProgram = Annotated[str, PlainValidator(check_jq), WithJsonSchema({"type": "string"})]
"""A jq program that gets one record."""
RecordField = Annotated[str, PlainValidator(_check_field), _FIELD_SCHEMA]
"""The name of a field of a record, or `a.b` for a field of an object or of each object in a list."""


class FilterStep(FileModel):
    """Keeps the records that a condition holds for. They stay as they are."""

    filter: JqProgram = Field(
        description='A jq program, such as `.status == "open"`. A record is kept if its result is '
        "neither `false` nor `null`."
    )


class MapStep(FileModel):
    """Replaces each record by another one."""

    map: JqProgram = Field(
        description="A jq program with one result, such as `. + {total: (.lines | length)}`."
    )


class YieldMapStep(FileModel):
    """Replaces each record by any number of records."""

    yield_map: JqProgram = Field(
        description="A jq program, such as `.lines[]`. Each result is a record."
    )


class RenameStep(FileModel):
    """Gives fields other names."""

    rename: dict[RecordField, Text] = Field(
        description='The new names by the old ones, such as `{"ID": "id"}`. `a.b` renames `b` in the '
        "object `a`.",
        min_length=1,
    )


class DropStep(FileModel):
    """Leaves fields out."""

    drop: list[RecordField] = Field(description="The fields to leave out.", min_length=1)


class HashSettings(FileModel):
    """Which fields are hashed, and with which key."""

    fields: list[RecordField] = Field(description="The fields to hash.", min_length=1)
    key: Text = Field(
        description="A secret key, such as `${HASH_KEY}`. Without it nobody can find out a value by "
        "hashing guesses.",
        min_length=1,
    )


def _hash_kind(value: Any) -> str | None:
    return "#list" if isinstance(value, list) else "#object" if isinstance(value, dict) else None


class HashStep(FileModel):
    """Replaces values by their SHA-256, as 64 hexadecimal digits. `null` stays `null`."""

    hash: Annotated[
        Annotated[list[RecordField], Field(min_length=1), Tag("#list")]
        | Annotated[HashSettings, Tag("#object")],
        by_kind(_hash_kind, custom_error_message="a list of fields, or an object"),
    ] = Field(
        description="The fields to hash, or an object with `fields` and a secret `key` (HMAC). A text "
        "is hashed as UTF-8, any other value as its JSON."
    )


class ParseJsonStep(FileModel):
    """Replaces texts that are JSON by their values."""

    parse_json: list[RecordField] = Field(
        description="The fields whose texts are JSON. `null` and an empty text become `null`.",
        min_length=1,
    )


STEP_NAMES = ("filter", "map", "yield_map", "rename", "drop", "hash", "parse_json")
STEP_ALIASES = {
    "where": "filter",
    "select": "filter",
    "transform": "map",
    "jq": "map",
    "flat_map": "yield_map",
    "flatmap": "yield_map",
    "explode": "yield_map",
    "remove": "drop",
    "exclude": "drop",
    "mask": "hash",
    "json": "parse_json",
}


def _step_kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    # a second name in the step is reported as an unknown field of the first
    names = [name for name in value if name in STEP_NAMES] or list(value)
    kind = closest_kind(names[0], STEP_NAMES, STEP_ALIASES) if names else "#unknown"
    return None if kind == "#unknown" else kind


ProcessingStep = Annotated[
    Annotated[FilterStep, Tag("#filter")]
    | Annotated[MapStep, Tag("#map")]
    | Annotated[YieldMapStep, Tag("#yield_map")]
    | Annotated[RenameStep, Tag("#rename")]
    | Annotated[DropStep, Tag("#drop")]
    | Annotated[HashStep, Tag("#hash")]
    | Annotated[ParseJsonStep, Tag("#parse_json")],
    by_kind(
        _step_kind,
        custom_error_message="an object with one of `filter`, `map`, `yield_map`, `rename`, `drop`, "
        "`hash` and `parse_json`",
    ),
]
"""One step of `processing_steps`."""


def hash_keys(steps: Iterable[ProcessingStep]) -> Iterator[str]:
    """Yield the secret keys of the steps that hash."""
    for step in steps:
        if isinstance(step, HashStep) and isinstance(step.hash, HashSettings):
            yield step.hash.key


def removed_fields(steps: Iterable[ProcessingStep]) -> frozenset[str]:
    """Return the fields at the top of a record that no record has after the steps.

    A program can put a field back, so only the steps after the last one count.
    """
    removed: set[str] = set()
    for step in steps:
        if isinstance(step, MapStep | YieldMapStep):
            removed.clear()
        elif isinstance(step, DropStep):
            removed.update(step.drop)
        elif isinstance(step, RenameStep):
            removed.update(step.rename)
            removed.difference_update(step.rename.values())
    return frozenset(removed)
