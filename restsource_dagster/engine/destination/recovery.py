"""Recover from a load that was killed: each of its rows is stored once.

dlt loads each table in a transaction of its own, so a killed run leaves some tables with the new
rows and others without. Two things make that safe:

- `log_pending_load`: The next run corrects merged and replaced tables. Appended rows would stay and
  be appended again, so each load first notes the tables that it appends to. If it does not complete,
  `undo_incomplete_loads` deletes its rows.
- `log_pending_overrides`: A full refresh, or a cursor that is set back, replaces rows and moves the
  cursor, which are two transactions. If the run is killed between them, the rows are new and the
  cursor is old. So the override is noted first, and the next run applies it again.

`note_known_rows` is for loads in parts: what a part knows of the rows that were read, the next part
must know, too, or a row that the API sends again is stored twice.

These functions take an SQL client that is connected. Files have none: `note_file_load` writes the note as a
file, and `undo_incomplete_file_loads` removes the files of a load by its id, which their names have.
"""

import base64
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.engine.destination.tables import SqlClient, TableTree, has_column
from restsource_dagster.engine.dlt_compat import (
    DatabaseUndefinedRelation,
)

__all__ = [
    "KNOWN_ROWS_TABLE",
    "PENDING_LOADS_TABLE",
    "PENDING_OVERRIDES_TABLE",
    "KnownRows",
    "PendingOverride",
    "are_loads_complete",
    "clear_pending_load",
    "clear_pending_overrides",
    "delete_load_rows",
    "forget_file_load",
    "forget_known_rows",
    "log_pending_load",
    "log_pending_overrides",
    "note_file_load",
    "note_known_rows",
    "read_completed_loads",
    "read_known_rows",
    "read_pending_overrides",
    "take_back_loads",
    "undo_incomplete_file_loads",
    "undo_incomplete_loads",
]

PENDING_OVERRIDES_TABLE = "_restsource_changes"
"""A table of each dataset: one row for each cursor override of a load in progress."""

PendingOverride = Mapping[str, Any]
"""`{"refresh": true}` or `{"set": value}`."""


@dataclass(frozen=True)
class KnownRows:
    """The rows that a part of a load knows, for the part that follows."""

    root: str
    """The root of the family that is loaded."""
    earlier: str | None
    """The id of the load that was the part before; None for the first part."""
    read: Callable[[], Mapping[str, str]]
    """Called after the extraction: returns a text for each resource; nothing if no part follows."""


def log_pending_overrides(
    client: SqlClient, load_ids: Sequence[str], changes: Mapping[str, PendingOverride]
) -> None:
    """Note the cursor overrides of a load before it begins, by resource."""
    if not load_ids:
        return
    # a first load: dlt creates the dataset only when it loads
    if not client.has_dataset():
        client.create_dataset()
    name = client.make_qualified_table_name(PENDING_OVERRIDES_TABLE)
    with client.begin_transaction():
        client.execute_sql(
            f"CREATE TABLE IF NOT EXISTS {name} (load_id VARCHAR(64) NOT NULL, "
            "resource VARCHAR(1024) NOT NULL, change VARCHAR(4096) NOT NULL)"
        )
        for resource, change in changes.items():
            # which of two notes is the last one could only be told by a clock
            client.execute_sql(f"DELETE FROM {name} WHERE resource = %s", resource)  # noqa: S608 - dlt quotes it
            client.execute_sql(
                f"INSERT INTO {name} (load_id, resource, change) VALUES (%s, %s, %s)",  # noqa: S608 - dlt quotes it
                load_ids[0],
                resource,
                json.dumps(change, default=str),
            )


def clear_pending_overrides(client: SqlClient, resources: Iterable[str]) -> None:
    """Delete the notes on these resources: their load is complete."""
    name = client.make_qualified_table_name(PENDING_OVERRIDES_TABLE)
    for resource in resources:
        client.execute_sql(f"DELETE FROM {name} WHERE resource = %s", resource)  # noqa: S608 - dlt quotes it


def read_pending_overrides(client: SqlClient, loads_table: str) -> dict[str, PendingOverride]:
    """Return the cursor overrides, by resource, whose load is not complete.

    `loads_table` is dlt's table of complete loads.
    """
    name = client.make_qualified_table_name(PENDING_OVERRIDES_TABLE)
    try:
        pending = client.execute_sql(f"SELECT load_id, resource, change FROM {name}")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:  # no load has had overrides yet
        return {}
    if not pending:
        return {}
    complete = read_completed_loads(client, loads_table)
    return {
        resource: json.loads(text)
        # a load id is a time, so the newest override of a resource comes last and wins
        for load_id, resource, text in sorted(pending, key=tuple)
        if load_id not in complete
    }


PENDING_LOADS_TABLE = "_restsource_loads"
"""A table of each dataset: one row for each table that a load in progress appends to."""


@dataclass(frozen=True)
class _AppendedTable:
    """A table that a load appends to."""

    load_id: str
    position: int
    """Orders a load's tables: each comes after its parent."""
    table: str
    parent: str | None
    """The table in which this one is nested."""


def log_pending_load(
    pipeline: dlt.Pipeline, schema: Schema, client: SqlClient, replaced: Collection[str] = ()
) -> str | None:
    """Note the appended tables of the next load; return its id, None if it appends to no table.

    `schema` is the pipeline's. `replaced` are root tables whose rows this load replaces in one transaction. If it is killed,
    they hold the old rows or the new ones, and both are right.
    """
    load_ids = pipeline.list_normalized_load_packages()
    if len(load_ids) != 1:
        return None
    # a merge or a replacement that is repeated gives the same table, so only appends need a note
    appended = list(_appended_tables(pipeline, schema, load_ids[0], replaced))
    if not appended:
        return None
    if not client.has_dataset():
        client.create_dataset()
    _note_tables(client, appended)
    return load_ids[0]


def take_back_loads(client: SqlClient, schema: Schema, load_ids: Sequence[str]) -> None:
    """Remove the rows that complete loads have appended, as if these loads had not completed.

    First they are noted as loads in progress, then they are no longer complete: so a process that is
    killed in between leaves all of it or nothing to `undo_incomplete_loads`, and the states that were
    stored with them do not count any more.
    """
    noted = [
        _AppendedTable(load_id, position, table, parent)
        for load_id in load_ids
        for position, (table, parent) in enumerate(_appended_chains(schema))
    ]
    _note_tables(client, noted)
    # from here on the states of these loads no longer count: dlt restores only those of complete loads
    loads = client.make_qualified_table_name(schema.loads_table_name)
    for load_id in load_ids:
        client.execute_sql(f"DELETE FROM {loads} WHERE load_id = %s", load_id)  # noqa: S608 - dlt quotes it
    undo_incomplete_loads(client, schema.loads_table_name)


def are_loads_complete(client: SqlClient, loads_table: str, load_ids: Sequence[str]) -> bool:
    """Return True if dlt's table of complete loads has all of these."""
    return read_completed_loads(client, loads_table).issuperset(load_ids)


KNOWN_ROWS_TABLE = "_restsource_known_rows"
"""A table of each dataset: one row for each resource of an unfinished load, with the rows that it knows."""

_COMPRESSION_LEVEL = 1  # keys are compressed to a third in no time, and hardly further


def note_known_rows(
    client: SqlClient, root: str, load_id: str, known: Mapping[str, str], earlier: str | None
) -> None:
    """Note, before a part of a load, the rows that it and the parts before it have read.

    `known` has a text for each resource. The note of the part `earlier` is kept: if this part does not
    complete, the next run goes on with that one.
    """
    if not client.has_dataset():
        client.create_dataset()
    name = client.make_qualified_table_name(KNOWN_ROWS_TABLE)
    client.execute_sql(
        f"CREATE TABLE IF NOT EXISTS {name} (root VARCHAR(1024) NOT NULL, "
        "load_id VARCHAR(64) NOT NULL, resource VARCHAR(1024) NOT NULL, known_rows VARCHAR NOT NULL)"
    )
    client.execute_sql(
        f"DELETE FROM {name} WHERE root = %s AND load_id <> %s",  # noqa: S608 - dlt quotes it
        *(root, earlier or ""),
    )
    for resource, text in known.items():
        packed = base64.b64encode(zlib.compress(text.encode(), _COMPRESSION_LEVEL)).decode("ascii")
        client.execute_sql(
            f"INSERT INTO {name} (root, load_id, resource, known_rows) VALUES (%s, %s, %s, %s)",  # noqa: S608 - dlt quotes it
            *(root, load_id, resource, packed),
        )


def read_known_rows(client: SqlClient, root: str, load_id: str) -> dict[str, str]:
    """Return what a part of a load has noted, by resource; nothing if the note is gone."""
    name = client.make_qualified_table_name(KNOWN_ROWS_TABLE)
    try:
        rows = client.execute_sql(
            f"SELECT resource, known_rows FROM {name} WHERE root = %s AND load_id = %s",  # noqa: S608 - dlt quotes it
            *(root, load_id),
        )
    except DatabaseUndefinedRelation:
        return {}
    return {
        str(resource): zlib.decompress(base64.b64decode(packed)).decode()
        for resource, packed in rows or ()
    }


def forget_known_rows(client: SqlClient, root: str) -> None:
    """Delete the notes of a load that is complete."""
    name = client.make_qualified_table_name(KNOWN_ROWS_TABLE)
    client.execute_sql(f"DELETE FROM {name} WHERE root = %s", root)  # noqa: S608 - dlt quotes it


def _note_tables(client: SqlClient, appended: Sequence[_AppendedTable]) -> None:
    name = client.make_qualified_table_name(PENDING_LOADS_TABLE)
    with client.begin_transaction():
        client.execute_sql(
            f"CREATE TABLE IF NOT EXISTS {name} (load_id VARCHAR(64) NOT NULL, "
            "position INTEGER NOT NULL, table_name VARCHAR(1024) NOT NULL, "
            "parent_name VARCHAR(1024))"
        )
        for row in appended:
            client.execute_sql(
                f"INSERT INTO {name} (load_id, position, table_name, parent_name) "  # noqa: S608 - dlt quotes it
                "VALUES (%s, %s, %s, %s)",
                row.load_id,
                row.position,
                row.table,
                row.parent,
            )


def clear_pending_load(client: SqlClient, load_id: str | None) -> None:
    """Delete the note on a load that is complete."""
    if load_id:
        name = client.make_qualified_table_name(PENDING_LOADS_TABLE)
        client.execute_sql(f"DELETE FROM {name} WHERE load_id = %s", load_id)  # noqa: S608 - dlt quotes it


def undo_incomplete_loads(client: SqlClient, loads_table: str) -> int:
    """Delete the rows that incomplete loads have appended; return the number of such loads.

    `loads_table` is dlt's table of complete loads. No other process may load into the dataset: the
    connector's lock keeps them out.
    """
    pending = _read_pending_loads(client)
    if not pending:
        return 0
    # a run may be killed after its load is complete and before its note is deleted
    incomplete = {row.load_id for row in pending} - read_completed_loads(client, loads_table)
    # and before the load has created its tables
    existing = [
        row for row in pending if row.load_id in incomplete and has_column(client, row.table)
    ]
    with client.begin_transaction():
        # with their notes in one transaction: a kill in between must not leave one without the
        # other
        for row in existing:
            delete_load_rows(client, row.load_id, row.table, row.parent)
        notes = client.make_qualified_table_name(PENDING_LOADS_TABLE)
        client.execute_sql(f"DELETE FROM {notes}")  # noqa: S608 - dlt quotes it
    return len(incomplete)


def note_file_load(client: Any, load_id: str) -> None:
    """Note that a load is about to write files. `client` is dlt's client of the filesystem."""
    # dlt fails over a folder that is there without its own mark
    if not client.is_storage_initialized():
        client.initialize_storage()
    client.fs_client.makedirs(_notes_folder(client), exist_ok=True)
    client.fs_client.touch(client.pathlib.join(_notes_folder(client), load_id))


def forget_file_load(client: Any, load_id: str) -> None:
    """Delete the note on a load that is complete."""
    client.fs_client.rm_file(client.pathlib.join(_notes_folder(client), load_id))


def undo_incomplete_file_loads(client: Any, schema: Schema) -> int:
    """Delete the files of incomplete loads; return the number of such loads.

    A file is one of a load if its name has the id of the load, as in dlt's default `layout`. Files of Delta
    and Iceberg have another name and stay. No other process may load into the dataset.
    """
    files = client.fs_client
    folder = _notes_folder(client)
    noted = [_last_part(path) for path in files.find(folder)] if files.exists(folder) else []
    if not noted:
        return 0
    # a load's state is stored when all of its rows are, and before dlt says that it is complete
    known = [
        path
        for table in (schema.loads_table_name, schema.state_table_name)
        for path in files.find(client.get_table_dir(table))
    ]
    incomplete = {one for one in noted if not any(one in _last_part(path) for path in known)}
    written = files.find(client.dataset_path) if incomplete else []
    start = len(client.dataset_path.rstrip("/"))
    for path in written:
        # dlt's own tables, and our notes, which go last
        is_row_file = not path[start:].lstrip("/").startswith(("_dlt", PENDING_LOADS_TABLE))
        if is_row_file and any(one in _last_part(path) for one in incomplete):
            files.rm_file(path)
    for load_id in noted:
        forget_file_load(client, load_id)
    return len(incomplete)


def _notes_folder(client: Any) -> str:
    return str(client.pathlib.join(client.dataset_path, PENDING_LOADS_TABLE))


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _appended_tables(
    pipeline: dlt.Pipeline, schema: Schema, load_id: str, replaced: Collection[str]
) -> Iterator[_AppendedTable]:
    """Yield the tables that a load appends to, each after its parent."""
    roots = [root for root in _appended_roots(schema) if root not in replaced]
    if not roots:
        return
    package = pipeline.get_load_package_info(load_id)
    jobs = {job.job_file_info.table_name for job in package.jobs["new_jobs"]}
    position = 0
    tree = TableTree(schema.tables)
    for root in roots:
        chain = list(_table_chain(tree, root))
        if jobs.isdisjoint(str(table["name"]) for table in tree.with_nested(root)):
            continue
        for table, parent in chain:
            yield _AppendedTable(load_id, position, table, parent)
            position += 1


def _appended_chains(schema: Schema) -> Iterator[tuple[str, str | None]]:
    """Yield all tables that are appended to, each after its parent, with their parents."""
    tree = TableTree(schema.tables)
    for root in _appended_roots(schema):
        yield from _table_chain(tree, root)


def _table_chain(tree: TableTree, root: str) -> Iterator[tuple[str, str | None]]:
    """Yield a root table and the tables nested in it, each after its parent, with their parents."""
    for one in tree.with_nested(root):
        # a table without columns does not exist in the destination
        if one.get("columns"):
            yield str(one["name"]), one.get("parent")


def _appended_roots(schema: Schema) -> Iterator[str]:
    """Yield the root tables whose write disposition is `append`."""
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


def read_completed_loads(client: SqlClient, loads_table: str) -> set[str]:
    """Return the ids of the loads that are complete. `loads_table` is dlt's table of them."""
    name = client.make_qualified_table_name(loads_table)
    try:
        # dlt adds a load here once all of its tables and the state are loaded
        rows = client.execute_sql(f"SELECT load_id FROM {name} WHERE status = 0")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return set()
    return {row[0] for row in rows or ()}


def delete_load_rows(client: SqlClient, load_id: str, table: str, parent: str | None) -> None:
    """Delete a load's rows of a root table, or the rows of a nested table without a parent row.

    Nested tables have no load id. They come after `parent`, whose rows are deleted by then.
    """
    name = client.make_qualified_table_name(table)
    if parent is None:
        client.execute_sql(f"DELETE FROM {name} WHERE _dlt_load_id = %s", load_id)  # noqa: S608 - dlt quotes it
        return
    above = client.make_qualified_table_name(parent)
    client.execute_sql(
        f"DELETE FROM {name} WHERE NOT EXISTS "  # noqa: S608 - dlt quotes it
        f"(SELECT 1 FROM {above} AS p WHERE p._dlt_id = {name}._dlt_parent_id)"
    )
