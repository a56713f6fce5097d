"""Turns pydantic's errors into findings: where, what was found, what was expected, how to fix it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from restsource_dagster.connector.models.endpoint import FieldPath
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    json_pointer,
    may_be_secret,
    nearest_name,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.dlt_rules import refusal_code
from restsource_dagster.connector.validation.suggestions import (
    PYTHON_ONLY_FIELDS,
    python_only_finding,
    suggest_field_name,
    suggest_missing_field,
    suggest_value,
)

__all__ = ["schema_findings"]

_EXPECTED_BY_ERROR_TYPE = {
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
}


def schema_findings(model: type[BaseModel], error: ValidationError, value: Any) -> list[Finding]:
    """Return the findings for everything that pydantic refused in `value`."""
    return [_finding(model, item, value) for item in error.errors(include_url=False)]


def _finding(model: type[BaseModel], error: Mapping[str, Any], value: Any) -> Finding:
    path = _path_in_file(error["loc"], value)
    kind = error["type"]
    code = refusal_code(path, error["loc"], kind, error["input"])
    return replace(_finding_by_error_type(model, error, value, path), code=code)


def _finding_by_error_type(
    model: type[BaseModel], error: Mapping[str, Any], value: Any, path: FieldPath
) -> Finding:
    kind, given = error["type"], error["input"]
    if kind == "rule":
        return _broken_rule(error["ctx"], path, value)
    by_kind: dict[str, Callable[[], Finding]] = {
        "extra_forbidden": lambda: _unknown_field(model, error["loc"], path),
        "missing": lambda: _missing_field(path),
        "literal_error": lambda: _unknown_literal(model, error, path),
        "python_only": lambda: python_only_finding(path, given),
        "too_long": lambda: python_only_finding(path, given),
        "jsonpath": lambda: _no_jsonpath(path, given),
        "path_of_many": lambda: _path_of_many(path, given),
    }
    return by_kind[kind]() if kind in by_kind else _wrong_value(error, path)


def _broken_rule(context: Mapping[str, str], path: FieldPath, value: Any) -> Finding:
    at = (*path, context["field"]) if context["field"] else path
    found = _describe_found(value, at) if context["field"] else None
    return Finding(json_pointer(at), context["text"], found)


def _wrong_value(error: Mapping[str, Any], path: FieldPath) -> Finding:
    kind = error["type"]
    expected = error.get("ctx", {}).get("expected") or _EXPECTED_BY_ERROR_TYPE.get(
        kind, error["msg"]
    )
    problem = "is not valid" if kind == "not_valid" else "is of the wrong type"
    return Finding(
        json_pointer(path),
        f"{_subject(path)} {problem}",
        describe_value(error["input"], path),
        expected,
        suggest_value(path, error["input"]),
    )


def _unknown_field(model: type[BaseModel], loc: Sequence[str | int], path: FieldPath) -> Finding:
    known = _field_names(model, loc[:-1])
    name = str(path[-1])
    fix = suggest_field_name(path, known)
    if fix is None:
        close = nearest_name(name, known)
        listing = (field for field in known if field not in PYTHON_ONLY_FIELDS)
        fix = f"Write `{close}`" if close else f"Known here: {quoted_list(listing, 'and')}"
    return Finding(
        json_pointer(path), f"There is no field {quoted_name(name)} here", fix=fix, on_key=True
    )


def _missing_field(path: FieldPath) -> Finding:
    where = f" in {_subject(path[:-1])}" if len(path) > 1 else ""
    fix = suggest_missing_field(path)
    return Finding(json_pointer(path[:-1]), f"`{path[-1]}` is missing{where}", fix=fix)


def _unknown_literal(model: type[BaseModel], error: Mapping[str, Any], path: FieldPath) -> Finding:
    names = _allowed_names(model, error)
    given = error["input"]
    fix = suggest_value(path, given)
    hidden = may_be_secret(path) and fix is None
    if fix is None and isinstance(given, str) and (close := nearest_name(given, names)):
        fix = f'Write "{close}"'
    return Finding(
        json_pointer(path),
        f"{_subject(path)} is none of the names it may be",
        describe_value(given, path if hidden else ()),
        quoted_list(names),
        fix,
    )


def _no_jsonpath(path: FieldPath, given: Any) -> Finding:
    return Finding(
        json_pointer(path),
        f"{_subject(path)} is not a JSON path that dlt can read",
        describe_value(given, path),
        "a path such as `data.items` or `$.items[*]`",
        "Put a name with spaces or other special characters in quotes: `'first name'`",
    )


def _path_of_many(path: FieldPath, given: Any) -> Finding:
    return Finding(
        json_pointer(path),
        f"{_subject(path)} can match several values of a record, and one is needed",
        describe_value(given, path),
        "a path without `[*]`, `..`, slices and filters",
        'Write the path of one value, such as `items[0].id`; or set "data_selector" to the list, '
        "so that each of its items is a record",
    )


def _subject(path: FieldPath) -> str:
    """Return the last name of a path, with the indices after it: `auth`, `owners[0]`."""
    text = ""
    for step in reversed(path):
        text = f"[{step}]{text}" if isinstance(step, int) else f"{step}{text}"
        if isinstance(step, str):
            break
    return quoted_name(text) if path else "The file"


def _describe_found(value: Any, path: FieldPath) -> str | None:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return describe_value(value, path)


def _path_in_file(loc: Sequence[str | int], value: Any) -> FieldPath:
    """Return pydantic's location without the tags of unions, which are not in the file."""
    path: list[str | int] = []
    for step in loc:
        is_field = isinstance(value, dict) and step in value
        if isinstance(step, str) and step.startswith("#") and not is_field:
            continue
        path.append(step)
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(path)


def _allowed_names(model: type[BaseModel], error: Mapping[str, Any]) -> list[str]:
    """Return the names that a literal may be; for the tag of a union, those of all its members."""
    loc = error["loc"]
    if len(loc) > 1 and isinstance(loc[-2], str) and loc[-2].startswith("#"):
        siblings = [
            _annotation_of_field(member, loc[-1])
            for member in _union_members(_annotation_at(model, loc[:-2]))
        ]
        return list(dict.fromkeys(name for item in siblings for name in _literal_values(item)))
    return list(_literal_values(_annotation_at(model, loc)))


def _literal_values(annotation: Any) -> Iterator[str]:
    for item in get_args(annotation):
        if isinstance(item, str):
            yield item
        else:
            yield from _literal_values(item)


def _field_names(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    target = _without_annotated(_without_none(_annotation_at(model, loc)))
    if not (isinstance(target, type) and issubclass(target, BaseModel)):
        return []
    names = (field.alias or name for name, field in target.model_fields.items())
    return [name for name in names if name != "x-"]  # stands for all that start so


def _annotation_at(model: type[BaseModel], loc: Sequence[str | int]) -> Any:
    """Return the type that the models have at a location."""
    current: Any = model
    for step in loc:
        current = _annotation_below(_without_none(current), step)
    return current


def _annotation_below(current: Any, step: str | int) -> Any:
    if isinstance(step, str) and step.startswith("#"):
        for member in _union_members(current):
            if Tag(step) in getattr(member, "__metadata__", ()):
                return member
    plain = _without_annotated(current)
    origin = get_origin(plain)
    if origin in (list, dict):
        return get_args(plain)[-1]
    return _annotation_of_field(plain, step)


def _annotation_of_field(annotation: Any, name: str | int) -> Any:
    plain = _without_annotated(annotation)
    if not (isinstance(plain, type) and issubclass(plain, BaseModel)):
        return None
    for key, field in plain.model_fields.items():
        if name in (key, field.alias):
            inner = field.annotation
            return Annotated[inner, *field.metadata] if field.metadata else inner
    return None


def _union_members(annotation: Any) -> tuple[Any, ...]:
    plain = _without_annotated(_without_none(annotation))
    return get_args(plain) if get_origin(plain) in (Union, UnionType) else ()


def _without_none(annotation: Any) -> Any:
    plain = _without_annotated(annotation)
    if get_origin(plain) not in (Union, UnionType):
        return annotation
    others = [item for item in get_args(plain) if item is not NoneType]
    return others[0] if len(others) == 1 else annotation


def _without_annotated(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation
