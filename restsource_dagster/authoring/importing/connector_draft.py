"""A connector file in the making: put together, repaired until `check` passes it, and written.

What `check` refuses is taken out, and reported as not mapped by its path in the source.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from restsource_dagster.authoring.importing.imported_api import (
    EnvVariables,
    ImportedApi,
    ImportedEndpoint,
)
from restsource_dagster.authoring.importing.source_pieces import Ledger
from restsource_dagster.connector.models.fields import FileModel, as_json
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.connector.validation.diagnostics import Finding, pointer_steps

__all__ = [
    "IMPORT_SCHEDULE",
    "NOT_CHOSEN",
    "ConnectorDraft",
    "assemble",
    "file_text",
    "repair",
    "select_resources",
    "without_parent_cursors",
]

NOT_CHOSEN = "left out by --include or --exclude"
"""Why a piece of a resource that no pattern names is not mapped."""
IMPORT_SCHEDULE = {"mode": "hours", "interval": 1}
_LINE_LENGTH = 100
_MAX_ROUNDS = 200


@dataclass(frozen=True)
class ConnectorDraft:
    """The JSON value of a connector file, the variables that it refers to, and what became of the source."""

    name: str
    value: dict[str, Any]
    variables: EnvVariables
    ledger: Ledger


def assemble(api: ImportedApi) -> ConnectorDraft:
    """Return the connector file of an API that was read."""
    client = {
        "base_url": api.base_url,
        "headers": dict(api.headers),
        "auth": _typed(api.auth),
        "paginator": _typed(api.paginator),
    }
    value = {
        "$schema": "../schema/connector.schema.json",
        "name": api.name,
        "description": api.description,
        "schedule": dict(IMPORT_SCHEDULE),
        "client": _without_empty(client),
        "resources": [_resource_value(endpoint) for endpoint in api.endpoints],
    }
    return ConnectorDraft(api.name, _without_empty(value), api.variables, api.ledger)


def _resource_value(made: ImportedEndpoint) -> dict[str, Any]:
    endpoint = {
        "path": made.path,
        "method": made.method if made.method != "GET" else None,
        "for_each": {name: list(values) for name, values in made.for_each.items()},
        "headers": dict(made.headers),
        "params": dict(made.params),
        "json": dict(made.json),
        "data": made.data,
        "auth": _typed(made.auth),
        "paginator": _typed(made.paginator),
        "data_selector": made.data_selector,
        "response_actions": as_json(made.response_actions),
        "incremental": as_json(made.incremental),
    }
    key = made.primary_key
    return _without_empty(
        {
            "name": made.name,
            # left out where it says what is so anyway
            "selected": None if made.is_selected else False,
            "primary_key": list(key) if isinstance(key, tuple) else key,
            "include_from_parent": list(made.include_from_parent),
            "endpoint": _without_empty(endpoint),
            "processing_steps": as_json(made.processing_steps),
        }
    )


def _typed(model: FileModel | None) -> dict[str, Any] | None:
    """Return a model as JSON, its type first."""
    if model is None:
        return None
    given = model.as_json()
    return {**({"type": given["type"]} if "type" in given else {}), **given}


def _without_empty(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None and item not in ({}, [])}


def select_resources(
    draft: ConnectorDraft, include: Sequence[str], exclude: Sequence[str]
) -> ConnectorDraft:
    """Keep the resources that a pattern of `include` names and none of `exclude`; note the others.

    Patterns are those of file names: `orders*`. A parent of a chosen one stays, and is not loaded itself.
    """
    resources = draft.value.get("resources", [])
    chosen = {
        each["name"]
        for each in resources
        if (not include or any(fnmatchcase(each["name"], pattern) for pattern in include))
        and not any(fnmatchcase(each["name"], pattern) for pattern in exclude)
    }
    # without its parent a chosen resource has nothing to ask for
    needed = _with_parents(resources, chosen)
    for each in resources:
        if each["name"] not in needed:
            draft.ledger.retract(f"resources.{each['name']}", NOT_CHOSEN)
    kept = [
        each if each["name"] in chosen else {**each, "selected": False}
        for each in resources
        if each["name"] in needed
    ]
    return ConnectorDraft(
        draft.name, {**draft.value, "resources": kept}, draft.variables, draft.ledger
    )


def without_parent_cursors(draft: ConnectorDraft) -> ConnectorDraft:
    """Leave out each guessed cursor of a resource with others below it.

    Rows below an unchanged parent would be missed, and a guess must not lose rows.
    """
    guessed = {fate.target for fate in draft.ledger.fates if fate.state == "guessed"}
    resources = draft.value["resources"]
    parents = set().union(*(_parents_of(each, resources) for each in resources))
    made = []
    for each in resources:
        target = f"resources.{each['name']}.endpoint.incremental"
        if each["name"] in parents and target in guessed:
            draft.ledger.only_suggest(target, _why_no_cursor(each["endpoint"]))
            each = {**each, "endpoint": _without_cursor(each["endpoint"])}  # noqa: PLW2901
        made.append(each)
    value = {**draft.value, "resources": made}
    return ConnectorDraft(draft.name, value, draft.variables, draft.ledger)


def _is_cursor(value: Any) -> bool:
    return isinstance(value, str) and "{incremental." in value


def _why_no_cursor(endpoint: Mapping[str, Any]) -> str:
    """Return why a parent has no cursor, and what to write if nothing below it is loaded."""
    sent = {
        name: {key: item for key, item in endpoint.get(name, {}).items() if _is_cursor(item)}
        for name in ("params", "headers")
    }
    value = _without_empty({"incremental": endpoint["incremental"], **sent})
    return (
        "no cursor: what is below it is asked for all its records. Without that, write "
        f"{json.dumps(value, ensure_ascii=False)[1:-1]}"
    )


def _without_cursor(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    parts = {
        name: {key: item for key, item in endpoint.get(name, {}).items() if not _is_cursor(item)}
        for name in ("params", "headers")
    }
    return _without_empty({**endpoint, **parts, "incremental": None})


def _parents_of(resource: Mapping[str, Any], resources: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of the resources whose fields a resource asks for."""
    # a placeholder may stand in any text of the request
    text = json.dumps(resource)
    names = {str(each["name"]) for each in resources}
    return {
        name for name in names if f"{{resources.{name}." in text or f'"resource": "{name}"' in text
    }


def _with_parents(resources: Sequence[dict[str, Any]], chosen: set[str]) -> set[str]:
    by_name = {each["name"]: each for each in resources}
    needed, waiting = set(chosen), list(chosen)
    while waiting:
        above = _parents_of(by_name[waiting.pop()], resources) - needed
        needed |= above
        waiting.extend(above)
    return needed


def repair(draft: ConnectorDraft) -> tuple[ConnectorDraft, tuple[Finding, ...]]:
    """Take out what `check` refuses, until it refuses nothing; return the draft and what is left.

    Errors are left only if nothing can be taken out for them: then the file can't be written. Warnings are
    returned, too.
    """
    value = draft.value
    path = Path(f"{draft.name}.json")
    findings: tuple[Finding, ...] = ()
    for _ in range(_MAX_ROUNDS):
        # a copy as JSON, as the file is read: tuples and subclasses are gone
        findings = parse_connector(json.loads(json.dumps(value)), path)[1]
        errors = [each for each in findings if each.severity == "error"]
        # all at once: each round checks the whole file
        cuts = {cut: error.message for error in errors if (cut := _cut_for(value, error))}
        # nothing is refused, or nothing can be left out for it
        if not cuts:
            break
        for cut, message in cuts.items():
            draft.ledger.retract(".".join(cut), f"check refuses it: {message}")
        # from the end, so that the places of a list stay those of the checked file
        for cut in sorted(cuts, key=_by_number, reverse=True):
            value = _without_part(value, cut)
    return ConnectorDraft(draft.name, value, draft.variables, draft.ledger), findings


_WHOLE_PARTS = frozenset({"paginator", "auth", "incremental", "response", "backfill"})
"""Parts that are taken out whole: without one of their fields they would mean something else."""
_CURSOR_OPTIONS = frozenset({"window", "retention", "timezone", "row_order"})
_NEEDED_PARTS = frozenset(
    {"path", "name", "endpoint", "graphql", "job", "for_each", "json", "data"}
)
"""Parts without which a resource would ask for something else."""


def _cut_for(value: dict[str, Any], error: Finding) -> tuple[str, ...] | None:
    """Return the smallest part that makes sense to leave out for an error; resources by their names."""
    steps = tuple(pointer_steps(error.pointer))
    if steps[:1] == ("resources",) and len(steps) > 1:
        name = value["resources"][int(steps[1])].get("name")
        return ("resources", str(name), *_removable(steps[2:]))
    if steps[:1] == ("resource_defaults",):
        return ("resource_defaults", *_removable(steps[1:]))
    # without its URL a client is none
    if steps[:1] == ("client",) and len(steps) > 1 and steps[1] != "base_url":
        # one header can go without the others; a half of a login can't
        return steps[:3] if steps[1] == "headers" else steps[:2]
    return None


def _by_number(cut: tuple[str, ...]) -> list[str]:
    # `10` would come before `9` as a text
    return [step.rjust(9, "0") if step.isdigit() else step for step in cut]


def _without_part(value: dict[str, Any], cut: tuple[str, ...]) -> dict[str, Any]:
    if cut[0] != "resources":
        return dict(_without(value, cut))
    resources = [
        _without(each, cut[2:]) if len(cut) > 2 and each.get("name") == cut[1] else each
        for each in value["resources"]
        if len(cut) > 2 or each.get("name") != cut[1]
    ]
    return {**value, "resources": resources}


def _removable(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Return the steps within a resource to what can be left out; none for the whole resource."""
    if not steps:
        return ()
    if steps[0] != "endpoint":
        return (
            () if steps[0] in _NEEDED_PARTS else steps[: 2 if steps[0] == "processing_steps" else 1]
        )
    inner = steps[1:]
    if not inner or inner[0] in _NEEDED_PARTS:
        return ()
    if inner[0] == "incremental" and len(inner) > 1 and inner[1] in _CURSOR_OPTIONS:
        return steps[:3]
    if inner[0] in _WHOLE_PARTS or len(inner) == 1:
        return steps[:2]
    return steps[:3]


def _without(value: Any, steps: tuple[str, ...]) -> Any:
    """Return a copy of a value without the part that the steps lead to."""
    if isinstance(value, list):
        index = int(steps[0])
        if len(steps) == 1:
            return [item for place, item in enumerate(value) if place != index]
        return [_without(v, steps[1:]) if place == index else v for place, v in enumerate(value)]
    if not isinstance(value, dict) or steps[0] not in value:
        return value
    if len(steps) == 1:
        return {key: item for key, item in value.items() if key != steps[0]}
    return {key: _without(v, steps[1:]) if key == steps[0] else v for key, v in value.items()}


def file_text(value: Mapping[str, Any]) -> str:
    """Return a connector file as text: what fits into a line stands on one."""
    return "".join(_lines(value, 0, "", is_root=True)) + "\n"


def _lines(value: Any, indent: int, before: str, *, is_root: bool = False) -> Iterator[str]:
    """Yield the parts of a value; `before` is what stands on its line already."""
    flat = json.dumps(value, ensure_ascii=False)
    # one more for the comma
    fits = len(before) + len(flat) + 1 <= _LINE_LENGTH and not is_root
    if fits or not isinstance(value, dict | list) or not value:
        yield flat
        return
    brackets = "{}" if isinstance(value, dict) else "[]"
    pad = " " * (indent + 2)
    pairs = (
        [(f"{json.dumps(key, ensure_ascii=False)}: ", item) for key, item in value.items()]
        if isinstance(value, dict)
        else [("", item) for item in value]
    )
    yield brackets[0]
    for number, (key, item) in enumerate(pairs):
        yield f"{',' if number else ''}\n{pad}{key}"
        yield from _lines(item, indent + 2, f"{pad}{key}")
    yield f"\n{' ' * indent}{brackets[1]}"
