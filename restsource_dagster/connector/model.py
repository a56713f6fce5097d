"""A connector: a file that is parsed once, by `parse_connector`, and trusted from then on.

What the rest of the project works with is typed: `Client` and `HttpSettings` are the models of the
file; each `Resource` has its endpoint and table hints as models, with the defaults merged in.
Values that the file leaves open (`params`, JSON bodies, headers) stay JSON. References such as
`${NAME}` stay in the texts until `Connector.resolved`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from restsource_dagster.connector.env_references import (
    MissingReferencesError,
    resolve_references,
)
from restsource_dagster.connector.models.asset_options import AssetOptions
from restsource_dagster.connector.models.backfill import Backfill
from restsource_dagster.connector.models.checks import Checks
from restsource_dagster.connector.models.connector_file import (
    Children,
    Client,
    ConnectorFile,
    RenameFrom,
    WriteMode,
)
from restsource_dagster.connector.models.deletes import DeletesFrom, OnDelete, Sweep
from restsource_dagster.connector.models.endpoint import EACH_PREFIX, Endpoint, bind_path
from restsource_dagster.connector.models.http_settings import HttpSettings, ResourceHttp
from restsource_dagster.connector.models.incremental_cursor import Incremental
from restsource_dagster.connector.models.processing_steps import ProcessingStep
from restsource_dagster.connector.models.schedule import IntervalSchedule, ManualSchedule, Schedule
from restsource_dagster.connector.models.table_hints import TableHints
from restsource_dagster.connector.validation.diagnostics import (
    nearest_name,
    quoted_list,
)

__all__ = [
    "NO_ASSET_OPTIONS",
    "NO_CHECKS",
    "NO_PARAMS",
    "Backfill",
    "Client",
    "Connector",
    "ConnectorFile",
    "DeletesIn",
    "Disposition",
    "Family",
    "HttpSettings",
    "Incremental",
    "IntervalSchedule",
    "ManualSchedule",
    "Resource",
    "Schedule",
    "families_of",
]

NO_PARAMS: Mapping[str, Any] = {}
"""No params, shared by all resources whose path takes none."""
NO_ASSET_OPTIONS = AssetOptions.of({})
"""Nothing said of the asset, shared by all resources."""
NO_CHECKS = Checks.of({})
"""Nothing said of checks, shared by all resources."""

_FIELDS_WITH_REFERENCES = (
    "endpoint",
    "hints",
    "table",
    "primary_key",
    "merge_key",
    "foreign_endpoint",
    "include_from_parent",
    "processing_steps",
    "deleted_when",
)


@dataclass(frozen=True, slots=True)
class Disposition:
    """What happens to the rows that a table holds already, and why, in one sentence."""

    value: Literal["append", "merge", "replace", "skip"]
    strategy: str | None
    derived: bool
    """True if it is not in the file but derived from keys and cursors."""
    reason: str


@dataclass(frozen=True, slots=True)
class DeletesIn:
    """The table in which rows are deleted by the keys in another resource's records."""

    table: str
    """By its name in the file."""
    key: tuple[str, ...]
    """The columns of its primary key."""
    fields: tuple[str, ...]
    """The fields of the records that hold it, in the same order."""
    on_delete: OnDelete


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a connector; it becomes one table and one asset.

    The defaults of the file are merged in, as dlt merges them. Slots and shared parts keep it small:
    a code location may hold ten thousand.
    """

    name: str
    parent: str | None
    endpoint: Endpoint
    """The path as the file gives it; the params without those that the path takes."""
    method: str
    """The HTTP method: GET or POST."""
    incremental: Incremental | None
    """The incremental cursor of the endpoint; None if it has a token in its place."""
    path_params: Mapping[str, Any]
    """The params that the path takes, by name."""
    hints: TableHints
    """The table hints that the file gives."""
    table: str
    """The table's name before the destination's naming convention."""
    primary_key: tuple[str, ...]
    merge_key: tuple[str, ...]
    disposition: Disposition
    selected: bool
    pointer: str
    """JSON pointer of the resource in its file, such as `/resources/0`."""
    line: int = 1
    """Where it starts in its file, counted from 1."""
    foreign_endpoint: Endpoint | None = None
    """The endpoint without what `resource_defaults` send: for a URL of another origin than
    `base_url`, which must not get those credentials. None if the defaults send nothing, or the path
    is not a URL."""
    include_from_parent: tuple[str, ...] = ()
    children: Children | None = None
    """Given if the rows of a call replace those that the table has of its parent."""
    deleted_when: str | None = None
    """The jq condition of records that say they are deleted."""
    deletes_from: DeletesFrom | None = None
    """The resource whose records name deleted rows of this one."""
    deletes_in: tuple[DeletesIn, ...] = ()
    """The tables whose deleted rows the records of this resource name."""
    sweep: Sweep | None = None
    """How often rows are removed whose keys the API no longer lists."""
    on_delete: OnDelete = "remove"
    rename_from: RenameFrom | None = None
    """Given if fields are named by the rows of another resource."""
    http: ResourceHttp | None = None
    """The block `http` of the resource."""
    backfill: Backfill | None = None
    """The block `backfill` of the file."""
    asset: AssetOptions = NO_ASSET_OPTIONS
    checks: Checks = NO_CHECKS
    """What the file says of checks; `checks_of` says which there are."""
    mode: WriteMode = "auto"
    processing_steps: tuple[ProcessingStep, ...] = ()
    """What happens to the records of a page before they are loaded, in this order."""
    max_table_nesting: int | None = None
    """How deep nested lists become tables; None is dlt's own limit, 0 keeps them as JSON."""
    definition_key: str = ""
    """Changes exactly when a partition of its backfill might hold other rows than before."""

    def __hash__(self) -> int:
        """Return the hash of the name, because the endpoint's JSON values have none."""
        return hash(self.name)

    @property
    def columns_from_parent(self) -> Mapping[str, str]:
        """The columns of `include_from_parent` by name, as dlt names them: `_<parent>_<field>`."""
        return {
            name: f"_{name.replace('.', '_', 1)}"
            if name.startswith(EACH_PREFIX)
            else f"_{self.parent}_{name}"
            for name in self.include_from_parent
        }

    @property
    def bound_path(self) -> str:
        """The endpoint's path with its params. Placeholders that a run fills in stay."""
        return bind_path(self.endpoint.path, self.path_params)

    @property
    def has_deletion_time(self) -> bool:
        """True if the table has the column `_deleted_at`."""
        is_marked = self.deletes_from is not None or self.sweep is not None
        return (is_marked and self.on_delete == "mark") or self.deleted_when is not None

    @property
    def written_tables(self) -> tuple[str, ...]:
        """The tables that its loads change: its own first."""
        return (self.table, *(one.table for one in self.deletes_in))

    @property
    def has_tombstones(self) -> bool:
        """True if rows of a load can say that the row with their key is to be removed."""
        removes = self.deleted_when is not None and self.on_delete == "remove"
        return removes or self.hints.has_hard_delete

    @property
    def table_name(self) -> str | None:
        """The table's name if the file gives one."""
        return self.hints.table_name or None

    @property
    def incremental_path(self) -> str | None:
        """The path of the cursor in a record, or of the token in an answer; None if it has neither."""
        if token := self.endpoint.token:
            return token.token_path
        return self.incremental.path if self.incremental else None


def _resolved_resources(
    resources: Iterable[Resource], values: Mapping[str, str], started: datetime
) -> tuple[Resource, ...]:
    """Return the resources with all references replaced. Raises `MissingReferencesError`.

    Cursors have the relative times of a run that starts at `started`.
    """
    return tuple(_resolved_resource(resource, values, started) for resource in resources)


def _resolved_resource(
    resource: Resource, values: Mapping[str, str], started: datetime
) -> Resource:
    given = {name: getattr(resource, name) for name in _FIELDS_WITH_REFERENCES}
    # dlt reads a path twice for placeholders, and puts these in at the first reading.
    path_params = resolve_references(resource.path_params, values, brace_doublings=1)
    made = replace(resource, path_params=path_params, **resolve_references(given, values))
    if not resource.incremental:
        return made
    endpoint = made.endpoint.at(started)
    foreign = made.foreign_endpoint and made.foreign_endpoint.at(started)
    # An incremental param holds the cursor, so the resolved endpoint says what it is.
    return replace(made, endpoint=endpoint, foreign_endpoint=foreign, incremental=endpoint.cursor)


@dataclass(frozen=True)
class Family:
    """A resource without a parent and all its dependents: they succeed or fail together."""

    root: Resource
    members: tuple[Resource, ...]
    """The root first, then dependents, each after its parent."""

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in the same order."""
        return tuple(member.name for member in self.members)

    def dependents_of(self, name: str) -> tuple[str, ...]:
        """The names of the resources below this one, at any depth."""
        found = {name}
        # Parents come before their dependents.
        for member in self.members:
            if member.parent in found:
                found.add(member.name)
        return tuple(each for each in self.names if each in found - {name})


def families_of(resources: Iterable[Resource]) -> tuple[Family, ...]:
    """Return the families of resources, in the order of their roots. Cycles are left out."""
    children: dict[str | None, list[Resource]] = {}
    for resource in resources:
        children.setdefault(resource.parent, []).append(resource)
    families = []
    # A cycle of parents has no root, so none of its members is reached.
    for root in children.get(None, []):
        # Level by level, so that each member comes after its parent.
        members, position = [root], 0
        while position < len(members):
            members.extend(children.get(members[position].name, []))
            position += 1
        families.append(Family(root=root, members=tuple(members)))
    return tuple(families)


@dataclass(frozen=True)
class Connector:
    """A connector without errors. It holds no secret unless the file does: only references."""

    name: str
    path: Path
    description: str | None
    owners: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime | None
    """UTC; None unless the file says so."""
    schedule: Schedule
    http: HttpSettings
    client: Client
    resources: tuple[Resource, ...]
    """In the order of the file, defaults merged in."""
    references: frozenset[str]
    """What it refers to, as it stands in the braces: `NAME`, `NAME:-default`, `file:/path`, `dlt:key`."""
    template: str | None = None
    """The name and version of the template that the file uses."""
    destination: str | None = None
    """dlt's name of the destination to load into; None for the one of the settings."""
    started: datetime | None = None
    """When the run started, in whole seconds; None before a run. `{now}` is this moment."""

    def resource(self, name: str) -> Resource:
        """The resource of that name. Raises `KeyError` naming the known ones."""
        for resource in self.resources:
            if resource.name == name:
                return resource
        known = [resource.name for resource in self.resources]
        close = nearest_name(name, known)
        hint = f" Did you mean `{close}`?" if close else ""
        raise KeyError(
            f"{self.name} has no resource `{name}`.{hint} It has {quoted_list(known, 'and')}."
        )

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The families, in the order of their roots."""
        return families_of(self.resources)

    def sharing_table(self, name: str) -> tuple[str, ...]:
        """The names of the other resources that load into the table of this one."""
        table = self.resource(name).table
        return tuple(one.name for one in self.resources if one.table == table and one.name != name)

    def family_of(self, name: str) -> Family:
        """The family that a resource belongs to. Raises `KeyError` naming the known resources."""
        # For its error, which names the known resources.
        self.resource(name)
        return next(family for family in self.families if name in family.names)

    def resolved(self, values: Mapping[str, str], started: datetime | None = None) -> "Connector":
        """The connector with all references replaced; it holds secrets then.

        `started` is when the run starts, now if left out. `values` is what `read_references` returns. Raises `MissingReferencesError` with all that it lacks.
        """
        # First, so that the error names all that is missing, not only what the first part lacks.
        if missing := self.references - values.keys():
            raise MissingReferencesError(missing)
        client = resolve_references(self.client, values)
        started = (started or datetime.now(UTC)).replace(microsecond=0)
        resources = _resolved_resources(self.resources, values, started)
        return replace(self, client=client, resources=resources, started=started)

    def with_lines(self, lines: Mapping[str, int]) -> "Connector":
        """A copy whose resources know their lines; `lines` maps JSON pointers to lines from 1."""
        located = tuple(
            replace(resource, line=lines.get(resource.pointer, resource.line))
            for resource in self.resources
        )
        return replace(self, resources=located)
