"""Resources on the way from the file to what dlt makes of them: defaults merged, paths bound.

The steps and their order are those of `dlt.sources.rest_api.config_setup`; where dlt stops at the
first problem, all are reported here.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.config.problems import Finding
from restsource_dagster.config.references import without_references
from restsource_dagster.config.wording import name_shown, pointer_to

__all__ = ["Draft", "Path", "expressions_in", "make_drafts", "placeholders"]

Path = tuple[str | int, ...]


@dataclass
class Draft:
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
    path_at: Path
    """Where the path is written: the endpoint's path, a short form, or the name."""
    bound_path: str = ""
    """The path after params are put in; "" if that failed."""
    checkable: bool = True
    """False if a broken part would lead to findings that are none."""
    parent: str | None = None
    resolved: dict[str, Path] = field(default_factory=dict)
    """Placeholders that take a field of the parent, and where each is written."""
    findings: list[Finding] = field(default_factory=list)
    others: tuple[str, ...] = ()
    """The names of the other resources."""

    @property
    def at(self) -> Path:
        """Where the resource is written."""
        return ("resources", self.index)

    def place(self, name: str) -> Path:
        """Where a field of the resource is written: here or in the defaults."""
        return (*self.at, name) if name in self.own else ("resource_defaults", name)

    def endpoint_place(self, name: str) -> Path:
        """Where a field of the endpoint is written."""
        if name == "path":
            return self.path_at
        at = self.at if name in self.own_endpoint else ("resource_defaults",)
        return (*at, "endpoint", name)

    def param_place(self, name: str) -> Path:
        """Where a query parameter is written."""
        at = self.at if name in self.own_params else ("resource_defaults",)
        return (*at, "endpoint", "params", name)

    def report(
        self,
        path: Path,
        message: str,
        found: str | None = None,
        expected: str | None = None,
        mend: str | None = None,
        **more: Any,
    ) -> None:
        """Adds a finding."""
        self.findings.append(Finding(pointer_to(path), message, found, expected, mend, **more))


def make_drafts(resources: list[Any], defaults: dict[str, Any], skip: set[int]) -> list[Draft]:
    """A draft per resource that has a name; those at the indices in `skip` are not checkable.

    `defaults` is changed when paths are bound, as in dlt: give a copy.
    """
    default_params = frozenset((defaults.get("endpoint") or {}).get("params") or ())
    drafts = []
    for index, given in enumerate(resources):
        name = given if isinstance(given, str) else _name_of(given)
        if name is None:
            continue
        draft = _draft(index, name, given, defaults, default_params)
        draft.checkable = index not in skip
        drafts.append(draft)
    names = tuple(draft.name for draft in drafts)
    for draft in drafts:
        draft.others = tuple(name for name in names if name != draft.name)
    return drafts


def _name_of(given: Any) -> str | None:
    name = given.get("name") if isinstance(given, dict) else None
    return name if isinstance(name, str) else None


def _draft(
    index: int, name: str, given: Any, defaults: dict[str, Any], default_params: frozenset[str]
) -> Draft:
    own = {"name": name} if isinstance(given, str) else given
    endpoint, path_at = _endpoint_of(index, name, given)
    default_endpoint = defaults.get("endpoint") or {}
    merged = {**default_endpoint, **endpoint}
    for part in ("params", "json"):
        if part in endpoint and part in default_endpoint:
            merged[part] = {**default_endpoint[part], **endpoint[part]}
        elif part in endpoint:
            merged[part] = dict(endpoint[part])
    return Draft(
        index=index,
        name=name,
        resource={**defaults, **own, "columns": _columns(defaults, own)},
        endpoint=merged,
        own=frozenset(own),
        own_endpoint=frozenset(endpoint),
        own_params=frozenset(endpoint.get("params") or ()),
        default_params=default_params,
        path_at=path_at,
    )


def _endpoint_of(index: int, name: str, given: Any) -> tuple[dict[str, Any], Path]:
    at: Path = ("resources", index)
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


def _columns(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The column hints by name, deep merged where both the defaults and the resource have some."""
    ours, theirs = _by_name(own.get("columns")), _by_name(defaults.get("columns"))
    if "columns" in own and not ours:
        return {}
    return {name: {**theirs.get(name, {}), **ours.get(name, {})} for name in {**theirs, **ours}}


def _by_name(columns: Any) -> dict[str, dict[str, Any]]:
    if isinstance(columns, dict):
        return {name: column for name, column in columns.items() if isinstance(column, dict)}
    if isinstance(columns, list):
        named = (item for item in columns if isinstance(item, dict))
        return {item["name"]: item for item in named if isinstance(item.get("name"), str)}
    return {}


def placeholders(text: str) -> list[str]:
    """The placeholders in a text as dlt sees it, `{}` as "". Raises `ValueError` for a lone brace."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


def expressions_in(value: Any, at: Path, draft: Draft) -> Iterator[tuple[str, Path]]:
    """Each placeholder in the strings and keys of a value, and where it is written.

    A lone brace is reported to the draft.
    """
    stack: list[tuple[Any, Path]] = [(value, at)]
    while stack:
        item, place = stack.pop()
        if isinstance(item, dict):
            stack.extend((key, (*place, key)) for key in item)
            stack.extend((inner, (*place, key)) for key, inner in item.items())
        elif isinstance(item, list):
            stack.extend((inner, (*place, index)) for index, inner in enumerate(item))
        elif isinstance(item, str) and ("{" in item or "}" in item):
            try:
                names = placeholders(without_references(item))
            except ValueError:
                lone_brace(draft, place)
                continue
            yield from ((name, place) for name in names)


def lone_brace(draft: Draft, place: Path) -> None:
    """Reports a brace that neither starts nor ends a placeholder."""
    draft.report(
        place,
        f"A single brace in the text of {name_shown(str(place[-1]))} is no placeholder",
        expected="`{resources.<parent>.<field>}`, `{incremental.start_value}`, or braces doubled",
        mend="Write a literal brace twice: `{{` or `}}`",
    )
