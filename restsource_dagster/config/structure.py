"""From pydantic's errors to findings: where, what was found, what was expected, what to write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from restsource_dagster.config.deliberate import code_for
from restsource_dagster.config.mends import (
    PYTHON_ONLY,
    mend_for_field,
    mend_for_missing,
    mend_for_name,
    python_only,
)
from restsource_dagster.config.problems import Finding
from restsource_dagster.config.wording import (
    is_secret,
    listed,
    name_shown,
    nearest,
    pointer_to,
    rendered,
)

__all__ = ["structural_findings"]

Path = tuple[str | int, ...]

_WORDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
}


def structural_findings(
    model: type[BaseModel], error: ValidationError, value: Any
) -> list[Finding]:
    """The findings for everything that pydantic refused in `value`."""
    return [_finding(model, item, value) for item in error.errors(include_url=False)]


def _finding(model: type[BaseModel], error: Mapping[str, Any], value: Any) -> Finding:
    path = _path(error["loc"], value)
    kind = error["type"]
    code = code_for(path, error["loc"], kind, error["input"])
    return replace(_worded(model, error, value, path), code=code)


def _worded(model: type[BaseModel], error: Mapping[str, Any], value: Any, path: Path) -> Finding:
    kind, given = error["type"], error["input"]
    if kind == "rule":
        return _broken_rule(error["ctx"], path, value)
    by_kind: dict[str, Callable[[], Finding]] = {
        "extra_forbidden": lambda: _unknown_field(model, error["loc"], path),
        "missing": lambda: _missing(path),
        "literal_error": lambda: _unknown_name(model, error, path),
        "python_only": lambda: python_only(path, given),
        "too_long": lambda: python_only(path, given),
        "jsonpath": lambda: _no_jsonpath(path, given),
    }
    return by_kind[kind]() if kind in by_kind else _wrong_value(error, path)


def _broken_rule(context: Mapping[str, str], path: Path, value: Any) -> Finding:
    at = (*path, context["field"]) if context["field"] else path
    found = _found(value, at) if context["field"] else None
    return Finding(pointer_to(at), context["text"], found)


def _wrong_value(error: Mapping[str, Any], path: Path) -> Finding:
    kind = error["type"]
    expected = error.get("ctx", {}).get("expected") or _WORDS.get(kind, error["msg"])
    problem = "is not valid" if kind == "not_valid" else "is of the wrong type"
    return Finding(
        pointer_to(path),
        f"{_subject(path)} {problem}",
        rendered(error["input"], path),
        expected,
        mend_for_field(path, error["input"]),
    )


def _unknown_field(model: type[BaseModel], loc: Sequence[str | int], path: Path) -> Finding:
    known = _fields(model, loc[:-1])
    name = str(path[-1])
    mend = mend_for_name(path, known)
    if mend is None:
        close = nearest(name, known)
        listing = (field for field in known if field not in PYTHON_ONLY)
        mend = f"Write `{close}`" if close else f"Known here: {listed(listing, 'and')}"
    return Finding(
        pointer_to(path), f"There is no field {name_shown(name)} here", mend=mend, on_key=True
    )


def _missing(path: Path) -> Finding:
    where = f" in {_subject(path[:-1])}" if len(path) > 1 else ""
    mend = mend_for_missing(path)
    return Finding(pointer_to(path[:-1]), f"`{path[-1]}` is missing{where}", mend=mend)


def _unknown_name(model: type[BaseModel], error: Mapping[str, Any], path: Path) -> Finding:
    names = _names(model, error)
    given = error["input"]
    mend = mend_for_field(path, given)
    hidden = is_secret(path) and mend is None
    if mend is None and isinstance(given, str) and (close := nearest(given, names)):
        mend = f'Write "{close}"'
    return Finding(
        pointer_to(path),
        f"{_subject(path)} is none of the names it may be",
        rendered(given, path if hidden else ()),
        listed(names),
        mend,
    )


def _no_jsonpath(path: Path, given: Any) -> Finding:
    return Finding(
        pointer_to(path),
        f"{_subject(path)} is not a JSON path that dlt can read",
        rendered(given, path),
        "a path such as `data.items` or `$.items[*]`",
        "Put a name with spaces or other special characters in quotes: `'first name'`",
    )


def _subject(path: Path) -> str:
    """The last name of a path, with the indices after it: `auth`, `owners[0]`."""
    text = ""
    for step in reversed(path):
        text = f"[{step}]{text}" if isinstance(step, int) else f"{step}{text}"
        if isinstance(step, str):
            break
    return name_shown(text) if path else "The file"


def _found(value: Any, path: Path) -> str | None:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return rendered(value, path)


def _path(loc: Sequence[str | int], value: Any) -> Path:
    """pydantic's location without the tags of unions, which are no part of the file."""
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


def _names(model: type[BaseModel], error: Mapping[str, Any]) -> list[str]:
    """The names that a literal may be; of all members of a union, where it tells them apart."""
    loc = error["loc"]
    if len(loc) > 1 and isinstance(loc[-2], str) and loc[-2].startswith("#"):
        siblings = [_field(member, loc[-1]) for member in _members(_annotation(model, loc[:-2]))]
        return list(dict.fromkeys(name for item in siblings for name in _literals(item)))
    return list(_literals(_annotation(model, loc)))


def _literals(annotation: Any) -> Iterator[str]:
    for item in get_args(annotation):
        if isinstance(item, str):
            yield item
        else:
            yield from _literals(item)


def _fields(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    target = _plain(_without_none(_annotation(model, loc)))
    if not (isinstance(target, type) and issubclass(target, BaseModel)):
        return []
    return [field.alias or name for name, field in target.model_fields.items()]


def _annotation(model: type[BaseModel], loc: Sequence[str | int]) -> Any:
    """The type that the models give to what stands at a location."""
    current: Any = model
    for step in loc:
        current = _step(_without_none(current), step)
    return current


def _step(current: Any, step: str | int) -> Any:
    if isinstance(step, str) and step.startswith("#"):
        for member in _members(current):
            if Tag(step) in getattr(member, "__metadata__", ()):
                return member
    plain = _plain(current)
    origin = get_origin(plain)
    if origin in (list, dict):
        return get_args(plain)[-1]
    return _field(plain, step)


def _field(annotation: Any, name: str | int) -> Any:
    plain = _plain(annotation)
    if not (isinstance(plain, type) and issubclass(plain, BaseModel)):
        return None
    for key, field in plain.model_fields.items():
        if name in (key, field.alias):
            inner = field.annotation
            return Annotated[inner, *field.metadata] if field.metadata else inner
    return None


def _members(annotation: Any) -> tuple[Any, ...]:
    plain = _plain(_without_none(annotation))
    return get_args(plain) if get_origin(plain) in (Union, UnionType) else ()


def _without_none(annotation: Any) -> Any:
    plain = _plain(annotation)
    if get_origin(plain) not in (Union, UnionType):
        return annotation
    others = [item for item in get_args(plain) if item is not NoneType]
    return others[0] if len(others) == 1 else annotation


def _plain(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation
