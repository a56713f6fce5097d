"""Which resource depends on which: parents, families, cycles.

Follows `build_resource_dependency_graph` in `dlt.sources.rest_api.config_setup`.

Resources on the way from the file to what dlt makes of them: defaults merged, paths bound.

The steps and their order are those of `dlt.sources.rest_api.config_setup`; where dlt stops at the
first problem, all are reported here.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    json_pointer,
    may_be_secret,
    nearest_name,
    quoted_list,
    quoted_name,
)

__all__ = [
    "FieldPath",
    "MergedResource",
    "find_parents",
    "merge_resources",
    "placeholder_names",
    "placeholders_in",
    "report_cycles",
    "report_duplicates",
]

FieldPath = tuple[str | int, ...]


@dataclass
class MergedResource:
    """One resource while it is checked. `resource` and `endpoint` have the defaults merged in."""

    index: int
    name: str
    resource: dict[str, Any]
    endpoint: dict[str, Any]
    own: frozenset[str]
    """The resource's fields that the file gives at the resource itself."""
    own_endpoint: frozenset[str]
    own_params: frozenset[str]
    default_params: frozenset[str]
    path_at: FieldPath
    """Where the path is written: the endpoint's path, a short form, or the name."""
    bound_path: str = ""
    """The path after params are put in; "" if that failed."""
    is_checkable: bool = True
    """False if a broken part would lead to findings that are none."""
    parent: str | None = None
    resolved: dict[str, FieldPath] = field(default_factory=dict)
    """Placeholders that take a field of the parent, and where each is written."""
    findings: list[Finding] = field(default_factory=list)
    others: tuple[str, ...] = ()
    """The names of the other resources."""

    @property
    def at(self) -> FieldPath:
        """Where the resource is written."""
        return ("resources", self.index)

    def place(self, name: str) -> FieldPath:
        """Where a field of the resource is written: here or in the defaults."""
        return (*self.at, name) if name in self.own else ("resource_defaults", name)

    def endpoint_location(self, name: str) -> FieldPath:
        """Where a field of the endpoint is written."""
        if name == "path":
            return self.path_at
        at = self.at if name in self.own_endpoint else ("resource_defaults",)
        return (*at, "endpoint", name)

    def param_location(self, name: str) -> FieldPath:
        """Where a query parameter is written."""
        at = self.at if name in self.own_params else ("resource_defaults",)
        return (*at, "endpoint", "params", name)

    def report(
        self,
        path: FieldPath,
        message: str,
        found: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
        **more: Any,
    ) -> None:
        """Adds a finding."""
        self.findings.append(Finding(json_pointer(path), message, found, expected, fix, **more))


def merge_resources(
    resources: list[Any], defaults: dict[str, Any], skip: set[int]
) -> list[MergedResource]:
    """A draft per resource that has a name; those at the indices in `skip` are not checkable.

    `defaults` is changed when paths are bound, as in dlt: give a copy.
    """
    default_params = frozenset((defaults.get("endpoint") or {}).get("params") or ())
    drafts = []
    for index, given in enumerate(resources):
        name = given if isinstance(given, str) else _own_name(given)
        if name is None:
            continue
        draft = _merge_resource(index, name, given, defaults, default_params)
        draft.is_checkable = index not in skip
        drafts.append(draft)
    names = tuple(draft.name for draft in drafts)
    for draft in drafts:
        draft.others = tuple(name for name in names if name != draft.name)
    return drafts


def _own_name(given: Any) -> str | None:
    name = given.get("name") if isinstance(given, dict) else None
    return name if isinstance(name, str) else None


def _merge_resource(
    index: int, name: str, given: Any, defaults: dict[str, Any], default_params: frozenset[str]
) -> MergedResource:
    own = {"name": name} if isinstance(given, str) else given
    endpoint, path_at = _own_endpoint(index, name, given)
    default_endpoint = defaults.get("endpoint") or {}
    merged = {**default_endpoint, **endpoint}
    for part in ("params", "json"):
        if part in endpoint and part in default_endpoint:
            merged[part] = {**default_endpoint[part], **endpoint[part]}
        elif part in endpoint:
            merged[part] = dict(endpoint[part])
    return MergedResource(
        index=index,
        name=name,
        resource={**defaults, **own, "columns": _merge_columns(defaults, own)},
        endpoint=merged,
        own=frozenset(own),
        own_endpoint=frozenset(endpoint),
        own_params=frozenset(endpoint.get("params") or ()),
        default_params=default_params,
        path_at=path_at,
    )


def _own_endpoint(index: int, name: str, given: Any) -> tuple[dict[str, Any], FieldPath]:
    at: FieldPath = ("resources", index)
    if isinstance(given, str):
        return {"path": name}, at
    endpoint = given.get("endpoint", {})
    if isinstance(endpoint, str):
        return {"path": endpoint}, (*at, "endpoint")
    if not isinstance(endpoint, dict):
        return {"path": name}, (*at, "name")
    clean = {
        key: value
        for key, value in endpoint.items()
        if key not in ("params", "json") or isinstance(value, dict)
    }
    if "path" in endpoint:
        return clean, (*at, "endpoint", "path")
    return {**clean, "path": name}, (*at, "name")


def _merge_columns(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The column hints by name, deep merged where both the defaults and the resource have some."""
    ours, theirs = _columns_by_name(own.get("columns")), _columns_by_name(defaults.get("columns"))
    if "columns" in own and not ours:
        return {}
    return {name: {**theirs.get(name, {}), **ours.get(name, {})} for name in {**theirs, **ours}}


def _columns_by_name(columns: Any) -> dict[str, dict[str, Any]]:
    if isinstance(columns, dict):
        return {name: column for name, column in columns.items() if isinstance(column, dict)}
    if isinstance(columns, list):
        named = (item for item in columns if isinstance(item, dict))
        return {item["name"]: item for item in named if isinstance(item.get("name"), str)}
    return {}


def placeholder_names(text: str) -> list[str]:
    """The placeholders in a text as dlt sees it, `{}` as "". Raises `ValueError` for a lone brace."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


def placeholders_in(
    value: Any, at: FieldPath, draft: MergedResource
) -> Iterator[tuple[str, FieldPath]]:
    """Each placeholder in the strings and keys of a value, and where it is written.

    A lone brace is reported to the draft.
    """
    stack: list[tuple[Any, FieldPath]] = [(value, at)]
    while stack:
        item, place = stack.pop()
        if isinstance(item, dict):
            stack.extend((key, (*place, key)) for key in item)
            stack.extend((inner, (*place, key)) for key, inner in item.items())
        elif isinstance(item, list):
            stack.extend((inner, (*place, index)) for index, inner in enumerate(item))
        elif isinstance(item, str) and ("{" in item or "}" in item):
            try:
                names = placeholder_names(without_references(item))
            except ValueError:
                report_lone_brace(draft, place)
                continue
            yield from ((name, place) for name in names)


def report_lone_brace(draft: MergedResource, place: FieldPath) -> None:
    """Reports a brace that neither starts nor ends a placeholder."""
    draft.report(
        place,
        f"A single brace in the text of {quoted_name(str(place[-1]))} is no placeholder",
        expected="`{resources.<parent>.<field>}`, `{incremental.start_value}`, or braces doubled",
        fix="Write a literal brace twice: `{{` or `}}`",
    )


def report_duplicates(drafts: list[MergedResource]) -> None:
    """Reports each resource whose name an earlier one has."""
    first: dict[str, MergedResource] = {}
    for draft in drafts:
        earlier = first.setdefault(draft.name, draft)
        if earlier is not draft:
            given = draft.at if "endpoint" not in draft.own and draft.own == {"name"} else None
            place = (*draft.at, "name") if given is None else _path_of_name(draft)
            draft.report(
                place,
                f"The name {quoted_name(draft.name)} is taken by the resource at "
                f"`/resources/{earlier.index}`",
                fix=f'Give it another name, such as "{_free_name(draft.name, first)}"; its path can '
                "stay",
            )


def _path_of_name(draft: MergedResource) -> tuple[str | int, ...]:
    return draft.at if draft.path_at == draft.at else (*draft.at, "name")


def _free_name(name: str, taken: dict[str, Any]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def find_parents(drafts: list[MergedResource]) -> None:
    """Gives each draft its parent; reports unknown parents and more than one."""
    names = {draft.name for draft in drafts}
    for draft in drafts:
        if not draft.is_checkable:
            continue
        parents = _parents_with_paths(draft)
        if len(parents) > 1:
            draft.report(
                draft.path_at,
                f"The resource depends on {_parents_shown(parents)}, and dlt knows one parent only",
                fix="Take all fields from one parent; it can pass on its own parent's fields "
                "with `include_from_parent`",
            )
        for parent in parents:
            if parent not in names:
                _report_unknown_parent(draft, parent, parents[parent], names)
        if len(parents) == 1:
            parent = next(iter(parents))
            draft.parent = parent if parent in names else None
        _check_include_from_parent(draft, bool(parents))


def _parents_with_paths(draft: MergedResource) -> dict[str, tuple[str | int, ...]]:
    parents: dict[str, tuple[str | int, ...]] = {}
    for name, value in draft.endpoint.get("params", {}).items():
        if isinstance(value, dict) and value.get("type") == "resolve":
            parents.setdefault(value["resource"], (*draft.param_location(name), "resource"))
    for expression, place in draft.resolved.items():
        parents.setdefault(expression.strip().split(".")[1], place)
    return parents


def _parents_shown(parents: dict[str, tuple[str | int, ...]]) -> str:
    if any(may_be_secret(place) for place in parents.values()):
        return f"{len(parents)} parents"
    return quoted_list(parents, "and")


def _report_unknown_parent(
    draft: MergedResource, parent: str, place: tuple[str | int, ...], names: set[str]
) -> None:
    others = sorted(names - {draft.name})
    close = nearest_name(parent, others)
    known = f"The resources here: {quoted_list(others[:8], 'and')}" if others else None
    shown = "of that name" if may_be_secret(place) else quoted_name(parent)
    draft.report(
        place,
        f"There is no resource {shown} to depend on",
        fix=f"Write `{close}`" if close else known or "Add the parent resource",
    )


def _check_include_from_parent(draft: MergedResource, has_parent: bool) -> None:
    if draft.resource.get("include_from_parent") and not has_parent:
        draft.report(
            draft.place("include_from_parent"),
            f"The resource {quoted_name(draft.name)} has no parent to include fields from",
            fix="Put a field of the parent into the path: `{resources.<parent>.<field>}`; or "
            "leave `include_from_parent` out",
        )


def report_cycles(drafts: list[MergedResource]) -> None:
    """Reports each resource from which its parents lead back to itself."""
    parents = {draft.name: draft.parent for draft in drafts}
    for draft in drafts:
        chain = [draft.name]
        current = draft.parent
        while current is not None and current not in chain:
            chain.append(current)
            current = parents.get(current)
        if current == draft.name:
            way = " -> ".join([*chain, draft.name])
            draft.report(
                draft.path_at,
                "The resource depends on itself" + (f": {way}" if len(chain) > 1 else ""),
                fix="One of them must be asked for without the others",
            )
