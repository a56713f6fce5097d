"""Resources with their defaults merged in, on the way from the file's models to `Resource`.

The steps and their order are those of `dlt.sources.rest_api.config_setup`. Where dlt stops at the
first problem, all problems are reported here.

Which resource depends on which follows `build_resource_dependency_graph` there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from restsource_dagster.connector.model import Disposition
from restsource_dagster.connector.models.connector_file import ResourceDefaults, ResourceObject
from restsource_dagster.connector.models.endpoint import EACH_PREFIX, Endpoint, ResolveParam
from restsource_dagster.connector.models.table_hints import (
    Column,
    DispositionName,
    TableHints,
    WriteDisposition,
)
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    json_pointer,
    may_be_secret,
    nearest_name,
    quoted_list,
    quoted_name,
)

__all__ = [
    "Defaults",
    "MergedResource",
    "disposition_name",
    "find_parents",
    "max_table_nesting",
    "merge_resource",
    "names_parent",
    "report_cycles",
    "report_duplicates",
    "report_skip",
    "write_disposition_of",
]


@dataclass
class MergedResource:
    """One resource while it is checked."""

    name: str
    at: FieldPath
    """Where the resource is written."""
    given: ResourceObject
    """As the file gives it; a short form written out."""
    resource: ResourceObject
    """With the defaults merged in, except for `endpoint`."""
    own_endpoint: Endpoint
    endpoint: Endpoint
    """With the defaults merged in. Params that go into the path are taken out later."""
    default_params: frozenset[str]
    path_at: FieldPath
    """Where the path is written: the endpoint's path, a short form, or the name."""
    is_checkable: bool = True
    """False if part of the resource is broken: further checks would report false mistakes."""
    path_params: dict[str, Any] = field(default_factory=dict)
    bound_path: str = ""
    """A path with braces, its params filled in and references left out; "" if that failed."""
    parent: str | None = None
    resolved: dict[str, FieldPath] = field(default_factory=dict)
    """Placeholders that take a field of the parent, and where each is written."""
    findings: list[Finding] = field(default_factory=list)
    all_names: Sequence[str] = ()
    """The names of all resources of the file, in their order; one list for all of them."""

    @property
    def name_at(self) -> FieldPath:
        """Where the name is written."""
        return self.at if self.path_at == self.at else (*self.at, "name")

    def is_own(self, name: str) -> bool:
        """True if the resource gives this field itself."""
        return name in self.given.model_fields_set

    def place(self, name: str) -> FieldPath:
        """Where a field of the resource is written: here or in the defaults."""
        return (*self.at, name) if self.is_own(name) else ("resource_defaults", name)

    def endpoint_location(self, name: str) -> FieldPath:
        """Where a field of the endpoint is written; `name` as in the file."""
        if name == "path":
            return self.path_at
        # `json_` in the model is `json` in the file
        is_own = name in {field.rstrip("_") for field in self.own_endpoint.model_fields_set}
        return (*(self.at if is_own else ("resource_defaults",)), "endpoint", name)

    def text_location(self, steps: FieldPath) -> FieldPath:
        """Where a text of the request is written; `steps` lead to it from the endpoint's model."""
        part, *inner = steps
        if part == "params":
            return (*self.param_location(str(inner[0])), *inner[1:])
        # the body was made of the block `graphql`, where the text is written
        if part == "json_" and inner[:1] == ["variables"] and self.endpoint.graphql:
            return (*self.endpoint_location("graphql"), *inner)
        return (*self.endpoint_location(str(part).rstrip("_")), *inner)

    def param_location(self, name: str) -> FieldPath:
        """Where a query parameter is written."""
        at = self.at if name in self.own_endpoint.params else ("resource_defaults",)
        return (*at, "endpoint", "params", name)

    def shares_table(self, other: "MergedResource") -> bool:
        """True if the file puts two resources into one table on purpose: by the same `table_name`."""
        names = (self.resource.table_name, other.resource.table_name)
        tables = {one.resource.table_name or one.name for one in (self, other)}
        # by chance, two names may become one table: that is reported elsewhere
        return any(names) and len(tables) == 1

    def report(
        self,
        path: FieldPath,
        message: str,
        found: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
        **more: Any,
    ) -> None:
        """Add a finding."""
        self.findings.append(Finding(json_pointer(path), message, found, expected, fix, **more))

    @cached_property
    def hints(self) -> TableHints:
        """The table hints of the file."""
        known = TableHints.model_fields
        given = {
            name: value
            for name, value in self.resource.given.items()
            if name in known and value is not None
        }
        try:
            return _shared_hints(tuple(given.items()))
        except TypeError:  # columns can't be hashed
            return TableHints.of(given)

    @property
    def foreign_endpoint(self) -> Endpoint | None:
        """See `Resource.foreign_endpoint`."""
        # A reference may stand for a URL; its value is known in a run only.
        if "://" not in self.endpoint.path and "${" not in self.endpoint.path:
            return None
        given, own = self.endpoint.given, self.own_endpoint
        if not given.keys() & _SENT_FIELDS:
            return None
        for name in _SENT_FIELDS & given.keys():
            mine = getattr(own, name)
            if name not in own.model_fields_set or mine is None:
                del given[name]
            elif isinstance(mine, dict) and isinstance(given[name], dict):
                # Merged key by key, so the resource's own keys stay and those of the defaults go.
                given[name] = {key: item for key, item in given[name].items() if key in mine}
        return Endpoint.of(given)


@lru_cache(maxsize=4096)
def _shared_hints(given: tuple[tuple[str, Any], ...]) -> TableHints:
    """Return one object for equal hints: many resources have the same, such as a primary key `id`."""
    return TableHints.of(dict(given))


_SENT_FIELDS = {"auth", "headers", "params", "json_", "data"}


@dataclass(frozen=True)
class Defaults:
    """`resource_defaults`, as they change while resources are merged with them.

    dlt moves a param into the path that needs it. For a resource without params of its own, dlt
    removes that param from the defaults: it fills this one path, and later resources don't send it.
    """

    given: ResourceDefaults
    endpoint: dict[str, Any]
    param_names: frozenset[str]

    @classmethod
    def of(cls, given: ResourceDefaults) -> "Defaults":
        """The defaults before the first resource."""
        endpoint = given.endpoint.given
        if "params" in endpoint:
            # a copy, as params are taken out of it; shared by all resources without params
            endpoint["params"] = dict(endpoint["params"])
        return cls(given, endpoint, frozenset(endpoint.get("params", ())))


def merge_resource(
    index: int, given: ResourceObject | str, defaults: Defaults, all_names: Sequence[str]
) -> MergedResource:
    """Merge a resource with the defaults."""
    at: FieldPath = ("resources", index)
    path_at = at
    if isinstance(given, str):
        own = Endpoint.of({"path": given})
        given = ResourceObject.of({"name": given})
    else:
        own, path_at = _own_endpoint(at, given)
    endpoint = {**defaults.endpoint, **own.given}
    for part in ("params", "json_"):
        if part in own.model_fields_set:
            # dlt merges these two key by key; of all other fields the resource's own wins
            endpoint[part] = {**defaults.endpoint.get(part, {}), **getattr(own, part)}
    fields = {**defaults.given.given, **given.given}
    # merged above, by rules of its own
    fields.pop("endpoint", None)
    if "columns" in fields:
        fields["columns"] = _merge_columns(given, defaults.given)
    if given.checks and defaults.given.checks:
        fields["checks"] = defaults.given.checks.overridden_by(given.checks)
    return MergedResource(
        name=given.name,
        at=at,
        given=given,
        resource=ResourceObject.of(fields),
        own_endpoint=own,
        endpoint=Endpoint.of(endpoint).with_graphql_request(),
        default_params=defaults.param_names,
        path_at=path_at,
        all_names=all_names,
    )


def _own_endpoint(at: FieldPath, given: ResourceObject) -> tuple[Endpoint, FieldPath]:
    endpoint = given.endpoint
    if isinstance(endpoint, str):
        return Endpoint.of({"path": endpoint}), (*at, "endpoint")
    if "path" in endpoint.model_fields_set:
        return endpoint, (*at, "endpoint", "path")
    return Endpoint.of({**endpoint.given, "path": given.name}), (*at, "name")


def _merge_columns(given: ResourceObject, defaults: ResourceDefaults) -> dict[str, Column]:
    """The columns by name, each merged hint by hint if both have some, as dlt does."""
    own, merged = given.columns_by_name, dict(defaults.columns_by_name)
    # An empty `columns` is given on purpose: it removes the hints of the defaults.
    if "columns" in given.model_fields_set and not own:
        return {}
    for name, column in own.items():
        default = merged.get(name)
        if default is not None and column.data_type and not default.data_type:
            del merged[name]  # dlt moves a column to the end when it gets its type
        merged[name] = default.overridden_by(column) if default else column
    return merged


def report_duplicates(merged_resources: Sequence[MergedResource]) -> None:
    """Report each resource whose name an earlier one has."""
    first: dict[str, MergedResource] = {}
    for merged in merged_resources:
        earlier = first.setdefault(merged.name, merged)
        if earlier is not merged:
            merged.report(
                merged.name_at,
                f"The name {quoted_name(merged.name)} is taken by the resource at "
                f"`{json_pointer(earlier.at)}`",
                fix=f'Give it another name, such as "{_free_name(merged.name, first)}"; its path '
                "can stay",
            )


def _free_name(name: str, taken: dict[str, Any]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def find_parents(merged_resources: Sequence[MergedResource]) -> None:
    """Set the parent of each resource; report unknown parents and more than one."""
    names = {merged.name for merged in merged_resources}
    for merged in merged_resources:
        if not merged.is_checkable:
            continue
        parents = _parents_with_paths(merged)
        if len(parents) > 1:
            merged.report(
                merged.path_at,
                f"The resource depends on {_parents_shown(parents)}, and dlt knows one parent only",
                fix="Take all fields from one parent; it can pass on its own parent's fields "
                "with `include_from_parent`",
            )
        for parent in parents:
            if parent not in names:
                _report_unknown_parent(merged, parent, parents[parent], names)
        if len(parents) == 1:
            parent = next(iter(parents))
            # None for an unknown parent, which is reported above, so that the other checks go on.
            merged.parent = parent if parent in names else None
        _check_include_from_parent(merged, bool(parents))


def _parents_with_paths(merged: MergedResource) -> dict[str, FieldPath]:
    parents: dict[str, FieldPath] = {}
    for name, param in merged.endpoint.params.items():
        if isinstance(param, ResolveParam):
            parents.setdefault(param.resource, (*merged.param_location(name), "resource"))
    for expression, place in merged.resolved.items():
        parents.setdefault(expression.strip().split(".")[1], place)
    return parents


def names_parent(merged: MergedResource) -> bool:
    """True if the resource names a parent, whether there is one of that name or not."""
    return bool(_parents_with_paths(merged))


def _parents_shown(parents: dict[str, FieldPath]) -> str:
    # In a header or a token, what looks like a parent's name may be part of a secret.
    if any(may_be_secret(place) for place in parents.values()):
        return f"{len(parents)} parents"
    return quoted_list(parents, "and")


def _report_unknown_parent(
    merged: MergedResource, parent: str, place: FieldPath, names: set[str]
) -> None:
    others = sorted(names - {merged.name})
    close = nearest_name(parent, others)
    known = f"The resources here: {quoted_list(others[:8], 'and')}" if others else None
    shown = "of that name" if may_be_secret(place) else quoted_name(parent)
    merged.report(
        place,
        f"There is no resource {shown} to depend on",
        fix=f"Write `{close}`" if close else known or "Add the parent resource",
    )


def _check_include_from_parent(merged: MergedResource, has_parent: bool) -> None:
    included = [
        name
        for name in merged.resource.include_from_parent or ()
        if not name.startswith(EACH_PREFIX)
    ]
    if included and not has_parent:
        merged.report(
            merged.place("include_from_parent"),
            f"The resource {quoted_name(merged.name)} has no parent to include fields from",
            fix="Put a field of the parent into the path: `{resources.<parent>.<field>}`; or "
            "leave `include_from_parent` out",
        )


def report_cycles(merged_resources: Sequence[MergedResource]) -> None:
    """Report each resource from which its parents lead back to itself."""
    parents = {merged.name: merged.parent for merged in merged_resources}
    for merged in merged_resources:
        chain = [merged.name]
        current = merged.parent
        # Also ends at a cycle among its parents, which is reported for the resources in it.
        while current is not None and current not in chain:
            chain.append(current)
            current = parents.get(current)
        if current == merged.name:
            way = " -> ".join([*chain, merged.name])
            merged.report(
                merged.path_at,
                "The resource depends on itself" + (f": {way}" if len(chain) > 1 else ""),
                fix="One of them must be asked for without the others",
            )


_STRATEGIES_BY_PRIMARY_KEY = ("upsert", "insert-only", "cdc")


def write_disposition_of(
    merged: MergedResource,
    primary: tuple[str, ...],
    merge: tuple[str, ...],
    incremental_parent: str | None,
    *,
    incremental: bool,
) -> Disposition:
    """Return the write disposition and its reason; report refusals.

    `primary` and `merge` are the columns of its keys; `incremental_parent` names the nearest of its
    parents that has a cursor.
    """
    disposition = _own_disposition(
        merged, primary, merge, incremental_parent, incremental=incremental
    )
    _check_nested_dispositions(merged, disposition)
    if disposition.value == "merge":
        _check_nullable_keys(merged, (*primary, *merge))
    return disposition


def _check_nested_dispositions(merged: MergedResource, root: Disposition) -> None:
    """Report nested tables that are not written as their root: their rows belong to its rows.

    With a key of its own a nested table is a root table for dlt.
    """
    for name, nested in (merged.resource.nested_hints or {}).items():
        given = nested.write_disposition
        if given is None or nested.primary_key or nested.merge_key:
            continue
        value = disposition_name(given)
        strategy = None if isinstance(given, str) else getattr(given, "strategy", None)
        if value != "skip" and (value, strategy or root.strategy) != (root.value, root.strategy):
            merged.report(
                (*merged.place("nested_hints"), name, "write_disposition"),
                f"The rows of {quoted_name(name)} are written with those of their resource, which is "
                f"{root.reason}; with {value} they would be lost or doubled",
                fix="Leave the `write_disposition` out here, or give the nested table a `primary_key`",
                code="deliberate:nested-disposition",
            )


def _own_disposition(
    merged: MergedResource,
    primary: tuple[str, ...],
    merge: tuple[str, ...],
    incremental_parent: str | None,
    *,
    incremental: bool,
) -> Disposition:
    given = merged.resource.write_disposition
    if given is None:
        return _derive_disposition(primary, incremental, incremental_parent)
    value = disposition_name(given)
    strategy = None if isinstance(given, str) else getattr(given, "strategy", None)
    where = "" if merged.is_own("write_disposition") else " in `resource_defaults`"
    reason = f"{value}, as the file says{where}"
    disposition = Disposition(value, strategy, derived=False, reason=reason)
    if value == "skip" and merged.resource.selected is not False:
        report_skip(merged, merged.place("write_disposition"))
    if value == "merge":
        _check_keys(merged, strategy or "delete-insert", primary, merge)
    if value == "replace":
        _check_replace(merged, incremental, incremental_parent)
    return disposition


def disposition_name(given: WriteDisposition) -> DispositionName:
    """Return the name of a disposition that is given as a text or as an object."""
    name: DispositionName = given if isinstance(given, str) else given.disposition
    return name


def report_skip(merged: MergedResource, at: FieldPath) -> None:
    """Report the disposition `skip` of a resource or of a nested table, which is written at `at`."""
    merged.report(
        at,
        "`skip` can't be loaded: dlt refuses its rows after all of them are requested",
        fix='Leave the resource out; or write "selected": false if only its dependents are wanted',
        code="deliberate:skip",
    )


@lru_cache(maxsize=4096)  # most resources of a code location have one of a few
def _derive_disposition(
    primary: tuple[str, ...], incremental: bool, incremental_parent: str | None
) -> Disposition:
    if primary:
        key = ", ".join(primary)
        return _derived_disposition(
            "merge", f"merge, because the resource has a primary key ({key})"
        )
    if incremental:
        return _derived_disposition(
            "append", "append, because the resource is incremental and has no primary key"
        )
    if incremental_parent:
        reason = (
            f"append, because its parent {incremental_parent} is incremental and it has no "
            "primary key"
        )
        return _derived_disposition("append", reason)
    return _derived_disposition(
        "replace", "replace, because the resource has neither a primary key nor a cursor"
    )


def _derived_disposition(value: DispositionName, reason: str) -> Disposition:
    return Disposition(value, None, derived=True, reason=reason)


def _check_keys(
    merged: MergedResource, strategy: str, primary: tuple[str, ...], merge: tuple[str, ...]
) -> None:
    if strategy in _STRATEGIES_BY_PRIMARY_KEY and not primary:
        needed = "a primary key"
    elif strategy == "delete-insert" and not primary and not merge:
        needed = "a primary key or a merge key"
    else:
        return
    merged.report(
        merged.place("write_disposition"),
        f"Merge ({strategy}) needs {needed}, and {quoted_name(merged.name)} has none: rows would "
        "pile up",
        fix='Add "primary_key": "id" (the column that identifies a row), or write "append"',
        code="deliberate:merge-without-key",
    )


def _check_nullable_keys(merged: MergedResource, keys: tuple[str, ...]) -> None:
    """Report a column of a merge's key that may be null: null is equal to nothing in SQL."""
    columns = merged.resource.columns_by_name
    for name in keys:
        if name in columns and columns[name].nullable is True:
            merged.report(
                merged.place("columns"),
                f"{quoted_name(name)} is part of the key of a merge and `nullable`. Rows without a "
                "value there match no row: they would be lost or doubled with each run",
                fix='Leave "nullable" out: then such a row is refused by name; or write "append"',
                code="deliberate:nullable-key",
            )


def _check_replace(
    merged: MergedResource, incremental: bool, incremental_parent: str | None
) -> None:
    if incremental_parent:
        merged.report(
            merged.place("write_disposition"),
            f"Replace would drop the rows of all parents that {quoted_name(incremental_parent)}, "
            "which is incremental, doesn't bring this time",
            fix='Add "primary_key" and write "merge", or write "append"',
            code="deliberate:replace-below-incremental",
        )
    elif incremental and not merged.endpoint.token:
        merged.report(
            merged.place("write_disposition"),
            "With replace and a cursor, each run leaves only the newest rows in the table",
            fix='Leave out `incremental`, or write "merge" or "append"',
            severity="warning",
        )


def max_table_nesting(fields: ResourceObject) -> int | None:
    """Return `max_table_nesting`, or what `nested` means; `columnar` keeps JSON by default."""
    nested = fields.nested or ("json" if fields.mode == "columnar" else "tables")
    given = fields.max_table_nesting
    return 0 if given is None and nested == "json" else given
