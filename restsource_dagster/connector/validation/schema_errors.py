"""Turn pydantic's errors into findings: where, what was found, what was expected, how to fix it.

Also what of a file with such errors can still be checked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from restsource_dagster.connector.models.incremental_cursor import Incremental, SyncToken
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
    nearest_name,
    pointer_steps,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.refusals import refusal_code
from restsource_dagster.connector.validation.suggestions import (
    PYTHON_ONLY_FIELDS,
    Suggestion,
    suggest_field,
    suggest_jsonpath,
    suggest_literal,
    suggest_missing_field,
    suggest_value,
)

__all__ = ["schema_findings", "without_broken"]

_EXPECTED_BY_ERROR_TYPE = {
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "a list",
    "too_short": "at least one",
    "string_too_short": "at least one character",
}
_PROBLEMS = {
    "not_valid": "is not valid",
    "too_short": "is empty",
    "string_too_short": "is empty",
}
"""What is wrong with a value, by the type of the error; else it has the wrong type."""


def schema_findings(model: type[BaseModel], error: ValidationError, value: Any) -> list[Finding]:
    """Return the findings for everything that pydantic refused in `value`."""
    # pydantic's links lead to its own documentation, which says nothing about connector files.
    items = error.errors(include_url=False)
    missing = {item["loc"] for item in items if item["type"] == "missing"}
    findings = [_finding(model, item, value) for item in items]
    # a field with a wrong name is not missing, too
    misnamed = {
        (*item["loc"][:-1], finding.replacement)
        for item, finding in zip(items, findings, strict=True)
        if item["type"] == "extra_forbidden" and finding.replacement
    }
    kept = [
        finding
        for item, finding in zip(items, findings, strict=True)
        if item["loc"] not in missing & misnamed
    ]
    return list(_with_names_written_once(kept, value))


def _with_names_written_once(findings: Sequence[Finding], value: Any) -> Iterator[Finding]:
    """Take the replacement off a key if its object has that name, or gets it by another finding."""
    written: set[str] = set()
    for finding in findings:
        name = f"{finding.pointer.rpartition('/')[0]}/{finding.replacement}"
        is_there = finding.on_key and (name in written or _has_pointer(value, name))
        if finding.on_key:
            written.add(name)
        yield replace(finding, replacement=None) if is_there else finding


def _has_pointer(value: Any, pointer: str) -> bool:
    for step in pointer_steps(pointer):
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (KeyError, IndexError, TypeError, ValueError):
            return False
    return True


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
    # Functions, because each reads what only an error of its own type has.
    by_kind: dict[str, Callable[[], Finding]] = {
        "extra_forbidden": lambda: _unknown_field(model, error, path),
        "missing": lambda: _missing_field(path, given),
        "literal_error": lambda: _unknown_literal(model, error, path),
        "python_only": lambda: _python_only(path, given),
        "jsonpath": lambda: _no_jsonpath(path, given),
        "path_of_many": lambda: _path_of_many(path, given),
        "jq": lambda: _no_jq(path, given, error["ctx"]["problem"]),
        "explained": lambda: Finding(
            json_pointer(path),
            error["ctx"]["text"],
            describe_value(given, path),
            fix=error["ctx"]["fix"],
        ),
    }
    return by_kind[kind]() if kind in by_kind else _wrong_value(error, path)


def _python_only(path: FieldPath, given: Any) -> Finding:
    """Return the finding for a field that takes Python objects, which a file can't contain."""
    field = next((str(step) for step in reversed(path) if step in PYTHON_ONLY_FIELDS), "session")
    return Finding(
        json_pointer(path),
        f"{quoted_name(field)} takes Python objects only, and a file has none",
        describe_value(given, path),
        fix=PYTHON_ONLY_FIELDS[field],
    )


def _broken_rule(context: Mapping[str, str], path: FieldPath, value: Any) -> Finding:
    at = (*path, context["field"]) if context["field"] else path
    found = _describe_found(value, at) if context["field"] else None
    return Finding(json_pointer(at), context["text"], found)


def _wrong_value(error: Mapping[str, Any], path: FieldPath) -> Finding:
    kind = error["type"]
    expected = error.get("ctx", {}).get("expected") or _EXPECTED_BY_ERROR_TYPE.get(
        kind, error["msg"]
    )
    return _with_suggestion(
        Finding(
            json_pointer(path),
            f"{_subject(path)} {_PROBLEMS.get(kind, 'is of the wrong type')}",
            describe_value(error["input"], path),
            expected,
        ),
        suggest_value(path, error["input"], expected),
    )


def _with_suggestion(finding: Finding, meant: Suggestion | None) -> Finding:
    if meant is None:
        return finding
    return replace(finding, fix=meant.fix, replacement=meant.replacement)


def _unknown_field(model: type[BaseModel], error: Mapping[str, Any], path: FieldPath) -> Finding:
    around = _model_at(model, error["loc"][:-1])
    name = str(path[-1])
    if around is SyncToken and name in Incremental.model_fields:
        return _beside_token(path)
    meant = suggest_field(path, error["input"], around)
    return Finding(
        json_pointer(path),
        f"There is no field {quoted_name(name)} here",
        fix=meant.fix,
        on_key=True,
        replacement=meant.replacement,
    )


def _beside_token(path: FieldPath) -> Finding:
    """Return the finding for a field of a cursor beside those of a token."""
    name = str(path[-1])
    return Finding(
        json_pointer(path),
        f"{quoted_name(name)} needs a cursor, and this is a token in its place: it has no order, and nothing "
        "can be added to it or taken off it",
        fix=f"Leave `{name}` out; or use the cursor alone, without the fields of the token",
        on_key=True,
    )


def _missing_field(path: FieldPath, around: Any) -> Finding:
    name = str(path[-1])
    # Of an object whose kind is not known, no other field is looked at.
    if isinstance(around, dict) and (wrong := nearest_name(name, around)):
        return Finding(
            json_pointer((*path[:-1], wrong)),
            f"There is no field {quoted_name(wrong)} here",
            fix=f"Write `{name}`",
            on_key=True,
            replacement=name,
        )
    where = f" in {_subject(path[:-1])}" if len(path) > 1 else ""
    fix = suggest_missing_field(path)
    return Finding(json_pointer(path[:-1]), f"`{name}` is missing{where}", fix=fix)


def _unknown_literal(model: type[BaseModel], error: Mapping[str, Any], path: FieldPath) -> Finding:
    names = _allowed_names(model, error)
    given = error["input"]
    # the kind of an auth is no secret, and a word with a known correction is none either
    meant = suggest_literal(path, given, names)
    shown = path[-2:] == ("auth", "type") or meant is not None
    return _with_suggestion(
        Finding(
            json_pointer(path),
            f"{_subject(path)} is none of the names it may be",
            describe_value(given, () if shown else path),
            quoted_list(names),
        ),
        meant,
    )


def _no_jsonpath(path: FieldPath, given: Any) -> Finding:
    return Finding(
        json_pointer(path),
        f"{_subject(path)} is not a JSON path that dlt can read",
        describe_value(given, path),
        "a path such as `data.items` or `$.items[*]`",
        suggest_jsonpath(given),
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


def _no_jq(path: FieldPath, given: Any, problem: str) -> Finding:
    return Finding(
        json_pointer(path),
        f"{_subject(path)} is not a jq program: {problem}",
        describe_value(given, path),
        'a program that gets one record, such as `.status == "open"`',
        "See https://jqlang.org/manual/",
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
    """Return pydantic's location without what is not in the file, such as the tags of unions."""
    path: list[str | int] = []
    for step in loc:
        is_field = isinstance(value, dict) and step in value
        # pydantic's own words for a tag, and for the key of an object
        is_tag = isinstance(step, str) and (step.startswith("#") or step == "[key]")
        if is_tag and not is_field:
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


def _model_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of the object at a location; None if any object may stand there."""
    target = _without_annotated(_without_none(_annotation_at(model, loc)))
    return target if isinstance(target, type) and issubclass(target, BaseModel) else None


def _annotation_at(model: type[BaseModel], loc: Sequence[str | int]) -> Any:
    """Return the type that the models have at a location."""
    current: Any = model
    for step in loc:
        current = _annotation_below(_without_none(current), step)
    return current


def _annotation_below(current: Any, step: str | int) -> Any:
    # a tag of ours, which names the member of the union
    if isinstance(step, str) and step.startswith("#"):
        for member in _union_members(current):
            if Tag(step) in getattr(member, "__metadata__", ()):
                return member
    plain = _without_annotated(current)
    origin = get_origin(plain)
    # the step is an index or a key: of a dict, the values are meant
    if origin in (list, dict):
        return get_args(plain)[-1]
    return _annotation_of_field(plain, step)


def _annotation_of_field(annotation: Any, name: str | int) -> Any:
    plain = _without_annotated(annotation)
    if not (isinstance(plain, type) and issubclass(plain, BaseModel)):
        return None
    for key, field in plain.model_fields.items():
        # pydantic reports the alias, such as `json`, and the model has `json_`
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
    # `X | None` is `X` for a reader of the file
    return others[0] if len(others) == 1 else annotation


def _without_annotated(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def without_broken(
    value: dict[str, Any], structural: list[Finding]
) -> tuple[dict[str, Any], set[int]]:
    """Return a copy without the fields that are broken, and the resources that can't be checked."""
    fields = ("client", "resource_defaults", "resources")
    # A copy, because checks of the whole value follow.
    whole: dict[str, Any] = deepcopy({name: value[name] for name in fields if name in value})
    broken: set[int] = set()
    for finding in structural:
        steps = pointer_steps(finding.pointer)
        # Without a key that should not be there, the rest means the same.
        if finding.on_key and _remove_field(whole, steps):
            continue
        if steps[:1] == ["resources"] and len(steps) > 1:
            _remove_from_resource(whole["resources"], int(steps[1]), steps[2:], broken)
        elif steps[:1] == ["resource_defaults"]:
            _remove_from_defaults(whole, steps[1:], broken)
        elif steps[:1] == ["client"]:
            # Checked without one of its parts, a client would be another one.
            whole.pop("client", None)
    return whole, broken


def _remove_field(whole: Any, steps: list[str]) -> bool:
    """Remove a field that should not be there. Return False if it is not found."""
    for step in steps[:-1]:
        whole = whole[int(step)] if isinstance(whole, list) else whole.get(step)
        if not isinstance(whole, dict | list):
            return False
    # `whole` marks a missing field, because a field that is there may hold None.
    return isinstance(whole, dict) and whole.pop(steps[-1], whole) is not whole


def _remove_from_resource(
    resources: list[Any], index: int, steps: list[str], broken: set[int]
) -> None:
    resource = resources[index]
    if not steps or not isinstance(resource, dict) or steps[0] == "name":
        broken.add(index)
    elif steps[0] != "endpoint":
        resource.pop(steps[0], None)
    elif not _remove_from_endpoint(resource.get("endpoint"), steps[1:]):
        broken.add(index)


def _remove_from_defaults(whole: dict[str, Any], steps: list[str], broken: set[int]) -> None:
    defaults = whole.get("resource_defaults")
    if isinstance(defaults, dict) and steps:
        if steps[0] != "endpoint":
            defaults.pop(steps[0], None)
            return
        if _remove_from_endpoint(defaults.get("endpoint"), steps[1:]):
            return
    whole["resource_defaults"] = {}
    if isinstance(whole.get("resources"), list):
        broken.update(range(len(whole["resources"])))


def _remove_from_endpoint(endpoint: Any, steps: list[str]) -> bool:
    """Remove the broken part of an endpoint. Return False if the endpoint can't be checked then."""
    if not isinstance(endpoint, dict) or not steps or steps[0] == "path":
        return False
    if steps[0] == "incremental":
        # Not removed: other rules would then report that there is no cursor.
        given = endpoint.get("incremental")
        is_token = isinstance(given, dict) and "token_path" in given
        endpoint["incremental"] = {"token_path" if is_token else "cursor_path": "broken"}
    elif steps[0] == "params":
        params = endpoint.get("params")
        if not isinstance(params, dict) or len(steps) == 1:
            return False
        # Not removed: its placeholder would be reported as bound to nothing.
        params[steps[1]] = "broken"
    else:
        endpoint.pop(steps[0], None)
    return True
