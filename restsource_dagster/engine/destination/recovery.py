"""Making good what a crashed load left behind.

dlt loads each table in a transaction of its own, so a run that dies in mid-load leaves some tables
done and others not. Where rows are merged or replaced, the next run makes them right. Appended rows
would stay and come again. So a load writes down, before it begins, which appended tables it is
about to touch; if it did not complete, the next run removes its rows first.

Whether a table and the memory of what it holds still belong together.

A table that rows are appended to is right only if every row in it was remembered. If the file
changes how a table is loaded, the rows that are there may come again.

Changes of a cursor whose load died between the rows and the cursor.

A full refresh, or a cursor that is set back, replaces rows of an appended table and moves the cursor
in one load. dlt can't do both in one transaction: if the run dies in between, the table is new and
the cursor old, and the next run would append rows that are there. So the change is written down
before the load; if the load did not complete, the next run makes the change again.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.engine.destination.tables import SqlClient, ensure_connected, has_column
from restsource_dagster.engine.dlt_compat import (
    ConfigurationException,
    DatabaseUndefinedRelation,
    SqlClientNotAvailable,
    get_nested_tables,
)
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.cursor_state import read_lower_bound
from restsource_dagster.engine.incremental.position import SEEN_KEY
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = [
    "PENDING_LOADS_TABLE",
    "PENDING_OVERRIDES_TABLE",
    "PendingOverride",
    "check_safe_to_append",
    "clear_pending_load",
    "clear_pending_overrides",
    "log_pending_load",
    "log_pending_overrides",
    "read_pending_overrides",
    "sql_client_of",
    "undo_incomplete_loads",
]

StateMapping = Mapping[str, Any]


def check_safe_to_append(
    plans: Mapping[str, ResourcePlan],
    state: StateMapping,
    count_rows: Callable[[str], int | None],
    *,
    family: Mapping[str, ResourcePlan] | None = None,
) -> None:
    """Refuse to append rows that may be in the table already.

    `state` is dlt's state of the connector's source, `family` all plans of the family if there are
    more than those to look at. Raises `IngestError` naming the table.
    """
    for plan in plans.values():
        name = plan.resource.name
        known = state.get("resources", {}).get(name, {})
        if not plan.loaded or not plan.appends or _are_rows_known(plan, family or plans, known):
            continue
        if count_rows(plan.resource.table):
            error = IngestError(
                f"resource {name}: the table {plan.resource.table} has rows from before it was "
                "appended to by this cursor, and nobody can tell which of them the API would send "
                'again. Give it another "table_name", or a "primary_key" so that rows are merged, '
                "or empty the table."
            )
            error.resource = name
            raise error


def _are_rows_known(
    plan: ResourcePlan, plans: Mapping[str, ResourcePlan], known: StateMapping
) -> bool:
    """Whether rows are appended without a cursor anyway, or the state knows those of the table."""
    ours = known.get("restsource", {})
    incremental = plan.incremental
    if incremental is not None:
        if incremental.end_value is not None:
            return True
        if incremental.range_start == "open" and not incremental.lag:
            return bool(known.get("incremental", {}).get(incremental.cursor_path))
        if _is_at_lower_bound(ours, known, incremental.cursor_path):
            return True
        if ours.get("table", plan.resource.table) != plan.resource.table:
            return False
        single = known.get("incremental", {}).get(incremental.cursor_path, {})
        parents = ours.get("parents", {}).get(incremental.cursor_path, {})
        return any(_has_seen_rows(one) for one in (single, *parents.values()))
    above = list(_incremental_ancestors(plan, plans))
    follows = ours.get("follows", {})
    return not above or any(_has_seen_rows(one) for one in _follower_states(follows, above))


def _is_at_lower_bound(ours: StateMapping, known: StateMapping, path: str) -> bool:
    """Whether nothing was had since the stream's beginning; older rows are not read again."""
    last = known.get("incremental", {}).get(path, {}).get("last_value")
    begins = read_lower_bound(ours)
    return begins is not None and last in (None, begins)


def _incremental_ancestors(
    plan: ResourcePlan, plans: Mapping[str, ResourcePlan]
) -> Iterator[ResourcePlan]:
    parent = plan.resource.parent
    while parent:
        above = plans[parent]
        if above.incremental is not None and above.incremental.end_value is None:
            yield above
        parent = above.resource.parent


def _follower_states(
    follows: StateMapping, above: Iterable[ResourcePlan]
) -> Iterator[StateMapping]:
    for plan in above:
        for states in follows.get(plan.resource.name, {}).values():
            yield from states.values()


def _has_seen_rows(state: StateMapping) -> bool:
    return bool(state.get(SEEN_KEY) or state.get("unique_hashes"))


PENDING_OVERRIDES_TABLE = "_restsource_changes"
"""In each dataset: the changes of cursors under way, one row each."""

PendingOverride = Mapping[str, Any]
"""`{"refresh": true}` or `{"set": value}`."""


def log_pending_overrides(
    client: SqlClient | None, load_ids: Sequence[str], changes: Mapping[str, PendingOverride]
) -> None:
    """Write down what a load is about to change, by resource."""
    if client is None or not load_ids or not changes:
        return
    with ensure_connected(client):
        if not client.has_dataset():
            client.create_dataset()
        name = client.make_qualified_table_name(PENDING_OVERRIDES_TABLE)
        with client.begin_transaction():
            client.execute_sql(
                f"CREATE TABLE IF NOT EXISTS {name} (load_id VARCHAR(64) NOT NULL, "
                "resource VARCHAR(1024) NOT NULL, change VARCHAR(4096) NOT NULL)"
            )
            for resource, change in changes.items():
                client.execute_sql(
                    f"INSERT INTO {name} (load_id, resource, change) VALUES (%s, %s, %s)",  # noqa: S608 - dlt quotes it
                    load_ids[0],
                    resource,
                    json.dumps(change, default=str),
                )


def clear_pending_overrides(client: SqlClient | None, resources: Iterable[str]) -> None:
    """Cross out the changes of these resources: their load completed."""
    names = list(resources)
    if client is None or not names:
        return
    with ensure_connected(client):
        name = client.make_qualified_table_name(PENDING_OVERRIDES_TABLE)
        for resource in names:
            client.execute_sql(f"DELETE FROM {name} WHERE resource = %s", resource)  # noqa: S608 - dlt quotes it


def read_pending_overrides(
    client: SqlClient | None, loads_table: str
) -> dict[str, PendingOverride]:
    """The changes, by resource, whose load did not complete. `loads_table` is dlt's."""
    if client is None:
        return {}
    with ensure_connected(client):
        name = client.make_qualified_table_name(PENDING_OVERRIDES_TABLE)
        loads = client.make_qualified_table_name(loads_table)
        try:
            noted = client.execute_sql(f"SELECT load_id, resource, change FROM {name}")  # noqa: S608 - dlt quotes it
        except DatabaseUndefinedRelation:
            return {}
        if not noted:
            return {}
        done = client.execute_sql(f"SELECT load_id FROM {loads} WHERE status = 0")  # noqa: S608 - dlt quotes it
    complete = {row[0] for row in done or ()}
    return {
        resource: json.loads(text)
        for load_id, resource, text in sorted(noted, key=tuple)
        if load_id not in complete
    }


PENDING_LOADS_TABLE = "_restsource_loads"
"""In each dataset: the loads under way, and the tables that each appends to."""


@dataclass(frozen=True)
class _AppendedTable:
    """An appended table of a load; `parent` is the table that it is nested in."""

    load_id: str
    position: int
    table: str
    parent: str | None


def log_pending_load(
    pipeline: dlt.Pipeline, client: SqlClient | None, replaced: Collection[str] = ()
) -> str | None:
    """Write down the load that is about to begin; returns its id, None if it appends nowhere.

    `replaced` are root tables whose rows are not appended this time: a load of them that breaks off
    leaves either the old rows or the new ones, and both are right.
    """
    load_ids = pipeline.list_normalized_load_packages()
    if len(load_ids) != 1:
        return None
    touched = list(_appended_tables(pipeline, load_ids[0], replaced))
    if not touched or client is None:
        return None
    with ensure_connected(client):
        if not client.has_dataset():
            client.create_dataset()
        name = client.make_qualified_table_name(PENDING_LOADS_TABLE)
        with client.begin_transaction():
            client.execute_sql(
                f"CREATE TABLE IF NOT EXISTS {name} (load_id VARCHAR(64) NOT NULL, "
                "position INTEGER NOT NULL, table_name VARCHAR(1024) NOT NULL, "
                "parent_name VARCHAR(1024))"
            )
            for one in touched:
                client.execute_sql(
                    f"INSERT INTO {name} (load_id, position, table_name, parent_name) "  # noqa: S608 - dlt quotes it
                    "VALUES (%s, %s, %s, %s)",
                    one.load_id,
                    one.position,
                    one.table,
                    one.parent,
                )
    return load_ids[0]


def clear_pending_load(client: SqlClient | None, load_id: str | None) -> None:
    """Cross out a load that completed."""
    if client is not None and load_id:
        with ensure_connected(client):
            name = client.make_qualified_table_name(PENDING_LOADS_TABLE)
            client.execute_sql(f"DELETE FROM {name} WHERE load_id = %s", load_id)  # noqa: S608 - dlt quotes it


def undo_incomplete_loads(client: SqlClient | None, name: str) -> int:
    """Remove the appended rows of loads that never completed; returns how many loads they were.

    `name` is the pipeline's. Nobody else may load into the dataset meanwhile: the connector's lock sees to that.
    """
    if client is None:
        return 0
    with ensure_connected(client):
        begun = _read_pending_loads(client)
        if not begun:
            return 0
        complete = _read_completed_loads(client, name)
        broken = {one.load_id for one in begun} - complete
        there = [one for one in begun if one.load_id in broken and has_column(client, one.table)]
        with client.begin_transaction():
            for one in there:
                _delete_load_rows(client, one)
            notes = client.make_qualified_table_name(PENDING_LOADS_TABLE)
            client.execute_sql(f"DELETE FROM {notes}")  # noqa: S608 - dlt quotes it
        return len(broken)


def sql_client_of(pipeline: dlt.Pipeline) -> SqlClient | None:
    """The destination's SQL client, None if it has none. Making one takes a while: keep it."""
    try:
        return pipeline.sql_client()
    except (SqlClientNotAvailable, ConfigurationException):
        return None


def _appended_tables(
    pipeline: dlt.Pipeline, load_id: str, replaced: Collection[str]
) -> Iterator[_AppendedTable]:
    """The appended tables of a load, each after the one that it is nested in."""
    schema = pipeline.default_schema
    package = pipeline.get_load_package_info(load_id)
    jobs = {job.job_file_info.table_name for job in package.jobs["new_jobs"]}
    position = 0
    for root in _appended_roots(schema):
        if root in replaced:
            continue
        chain: Sequence[str] = [
            str(table["name"]) for table in get_nested_tables(schema.tables, root)
        ]
        if jobs.isdisjoint(chain):
            continue
        for table in chain:
            parent = schema.tables[table].get("parent")
            if schema.tables[table].get("columns"):
                yield _AppendedTable(load_id, position, table, parent)
                position += 1


def _appended_roots(schema: Schema) -> Iterator[str]:
    for table in schema.data_tables(include_incomplete=False):
        if not table.get("parent") and table.get("write_disposition", "append") == "append":
            yield str(table["name"])


def _read_pending_loads(client: SqlClient) -> list[_AppendedTable]:
    name = client.make_qualified_table_name(PENDING_LOADS_TABLE)
    try:
        rows = client.execute_sql(
            f"SELECT load_id, position, table_name, parent_name FROM {name} "  # noqa: S608 - dlt quotes it
            "ORDER BY load_id, position"
        )
    except DatabaseUndefinedRelation:
        return []
    return [_AppendedTable(*row) for row in rows or ()]


def _read_completed_loads(client: SqlClient, pipeline: str) -> set[str]:
    name = client.make_qualified_table_name(Schema(pipeline).loads_table_name)
    try:
        rows = client.execute_sql(f"SELECT load_id FROM {name} WHERE status = 0")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return set()
    return {row[0] for row in rows or ()}


def _delete_load_rows(client: SqlClient, touched: _AppendedTable) -> None:
    """Remove a load's rows of a root table, or the rows of a nested one that have no parent row."""
    name = client.make_qualified_table_name(touched.table)
    if touched.parent is None:
        client.execute_sql(f"DELETE FROM {name} WHERE _dlt_load_id = %s", touched.load_id)  # noqa: S608 - dlt quotes it
        return
    parent = client.make_qualified_table_name(touched.parent)
    client.execute_sql(
        f"DELETE FROM {name} WHERE NOT EXISTS "  # noqa: S608 - dlt quotes it
        f"(SELECT 1 FROM {parent} AS p WHERE p._dlt_id = {name}._dlt_parent_id)"
    )
