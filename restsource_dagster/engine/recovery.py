"""Making good what a crashed load left behind.

dlt loads each table in a transaction of its own, so a run that dies in mid-load leaves some tables
done and others not. Where rows are merged or replaced, the next run makes them right. Appended rows
would stay and come again. So a load writes down, before it begins, which appended tables it is
about to touch; if it did not complete, the next run removes its rows first.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.destination.exceptions import SqlClientNotAvailable
from dlt.common.schema import Schema
from dlt.common.schema.utils import get_nested_tables
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from restsource_dagster.engine.connected import connected

__all__ = [
    "LOADS_TABLE",
    "SqlClient",
    "forget_load",
    "note_load",
    "sql_client_of",
    "undo_broken_loads",
]

LOADS_TABLE = "_restsource_loads"
"""In each dataset: the loads under way, and the tables that each appends to."""

SqlClient = SqlClientBase[Any]


@dataclass(frozen=True)
class _Touched:
    """An appended table of a load; `parent` is the table that it is nested in."""

    load_id: str
    position: int
    table: str
    parent: str | None


def note_load(
    pipeline: dlt.Pipeline, client: SqlClient | None, replaced: Collection[str] = ()
) -> str | None:
    """Write down the load that is about to begin; returns its id, None if it appends nowhere.

    `replaced` are root tables whose rows are not appended this time: a load of them that breaks off
    leaves either the old rows or the new ones, and both are right.
    """
    load_ids = pipeline.list_normalized_load_packages()
    if len(load_ids) != 1:
        return None
    touched = list(_appended(pipeline, load_ids[0], replaced))
    if not touched or client is None:
        return None
    with connected(client):
        if not client.has_dataset():
            client.create_dataset()
        name = client.make_qualified_table_name(LOADS_TABLE)
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


def forget_load(client: SqlClient | None, load_id: str | None) -> None:
    """Cross out a load that completed."""
    if client is not None and load_id:
        with connected(client):
            name = client.make_qualified_table_name(LOADS_TABLE)
            client.execute_sql(f"DELETE FROM {name} WHERE load_id = %s", load_id)  # noqa: S608 - dlt quotes it


def undo_broken_loads(client: SqlClient | None, name: str) -> int:
    """Remove the appended rows of loads that never completed; returns how many loads they were.

    `name` is the pipeline's. Nobody else may load into the dataset meanwhile: the connector's lock sees to that.
    """
    if client is None:
        return 0
    with connected(client):
        begun = _read_begun(client)
        if not begun:
            return 0
        complete = _read_complete(client, name)
        broken = {one.load_id for one in begun} - complete
        there = [one for one in begun if one.load_id in broken and _exists(client, one.table)]
        with client.begin_transaction():
            for one in there:
                _remove(client, one)
            notes = client.make_qualified_table_name(LOADS_TABLE)
            client.execute_sql(f"DELETE FROM {notes}")  # noqa: S608 - dlt quotes it
        return len(broken)


def sql_client_of(pipeline: dlt.Pipeline) -> SqlClient | None:
    """The destination's SQL client, None if it has none. Making one takes a while: keep it."""
    try:
        return pipeline.sql_client()
    except (SqlClientNotAvailable, ConfigurationException):
        return None


def _appended(
    pipeline: dlt.Pipeline, load_id: str, replaced: Collection[str]
) -> Iterator[_Touched]:
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
                yield _Touched(load_id, position, table, parent)
                position += 1


def _appended_roots(schema: Schema) -> Iterator[str]:
    for table in schema.data_tables(include_incomplete=False):
        if not table.get("parent") and table.get("write_disposition", "append") == "append":
            yield str(table["name"])


def _read_begun(client: SqlClient) -> list[_Touched]:
    name = client.make_qualified_table_name(LOADS_TABLE)
    try:
        rows = client.execute_sql(
            f"SELECT load_id, position, table_name, parent_name FROM {name} "  # noqa: S608 - dlt quotes it
            "ORDER BY load_id, position"
        )
    except DatabaseUndefinedRelation:
        return []
    return [_Touched(*row) for row in rows or ()]


def _read_complete(client: SqlClient, pipeline: str) -> set[str]:
    name = client.make_qualified_table_name(Schema(pipeline).loads_table_name)
    try:
        rows = client.execute_sql(f"SELECT load_id FROM {name} WHERE status = 0")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return set()
    return {row[0] for row in rows or ()}


def _remove(client: SqlClient, touched: _Touched) -> None:
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


def _exists(client: SqlClient, table: str) -> bool:
    """A load may have died before it made its tables."""
    try:
        client.execute_sql(f"SELECT 1 FROM {client.make_qualified_table_name(table)} LIMIT 0")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return False
    return True
