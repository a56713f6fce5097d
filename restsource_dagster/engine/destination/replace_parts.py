"""Replace a table by the rows of several loads: each stages its rows, and the last one swaps them in.

1. Each part of a long load writes its rows to dlt's staging dataset, and keeps those of the parts
   before it.
2. The last part exchanges the rows of the table, and of the tables nested in it, in one transaction.

Until then readers see the old table whole. After a failure or a kill the staged rows wait for the run
that continues: it removes those of the part that did not complete, and counts the others. If they are
not all there, as after a reset or in a new staging dataset, the load starts anew.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.engine.destination.recovery import delete_load_rows, read_completed_loads
from restsource_dagster.engine.destination.tables import SqlClient, has_column
from restsource_dagster.engine.dlt_compat import (
    DatabaseUndefinedRelation,
    FollowupJobRequest,
    PreparedTableSchema,
    SqlJobClientWithStagingDataset,
    UnsupportedDltError,
    get_nested_tables,
    get_root_table,
)

__all__ = [
    "STAGED_PARTS_TABLE",
    "ReplacePart",
    "ReplacePartsClient",
    "Swap",
    "check_part_client",
    "drop_staged_rows",
    "has_staged_parts",
    "note_staged_part",
    "replaced_tables",
]

STAGED_PARTS_TABLE = "_restsource_parts"
"""A table of each dataset: a row for each part of an unfinished load, with the rows that it stages."""


@dataclass(frozen=True)
class Swap:
    """An exchange of the rows of replaced tables, which several loads prepare."""

    root: str
    """The root of the family whose tables are replaced."""
    earlier: tuple[str, ...]
    """The ids of the loads that have staged rows for it, none before the first one."""
    is_last: Callable[[], bool]
    """Called after the extraction: returns True if all rows have been read."""


@dataclass(frozen=True)
class ReplacePart:
    """One of several loads that replace tables together."""

    root: str
    """The resource that names the load: the root of the family."""
    tables: frozenset[str]
    """The root tables that are replaced."""
    earlier: tuple[str, ...]
    """The ids of the loads that were the parts before it."""
    is_last: bool


def replaced_tables(schema: Schema, resources: Collection[str]) -> frozenset[str]:
    """Return the root tables of these resources that a load replaces."""
    return frozenset(
        str(table["name"])
        for table in schema.data_tables(include_incomplete=True)
        if not table.get("parent")
        and table.get("write_disposition") == "replace"
        and table.get("resource") in resources
    )


class ReplacePartsClient(SqlJobClientWithStagingDataset):
    """Mixin for the client of an SQL destination: its loads are parts of an exchange if `part` is set."""

    part: ReplacePart | None = None

    def initialize_storage(self, truncate_tables: Any = None) -> None:
        """Empty the tables, but not the staged ones whose rows other parts have written."""
        # dlt empties the staged tables at the start of each load
        if self.in_staging_dataset_mode and truncate_tables:
            truncate_tables = [name for name in truncate_tables if not self._is_part(name)]
        super().initialize_storage(truncate_tables)

    def create_table_chain_completed_followup_jobs(
        self, table_chain: Sequence[PreparedTableSchema], *args: Any, **kwargs: Any
    ) -> list[FollowupJobRequest]:
        """Return dlt's jobs; none that exchanges rows before the last part is staged."""
        if self._is_part(str(table_chain[0]["name"])) and self.part and not self.part.is_last:
            return []
        return super().create_table_chain_completed_followup_jobs(table_chain, *args, **kwargs)

    def _is_part(self, table: str) -> bool:
        tables = self.part.tables if self.part else ()
        return bool(tables) and get_root_table(self.schema.tables, table)["name"] in tables


_CLIENT_HOOKS = (
    "create_table_chain_completed_followup_jobs",
    "in_staging_dataset_mode",
    "initialize_storage",
)


def check_part_client(pipeline: dlt.Pipeline, part: ReplacePart) -> None:
    """Raise `UnsupportedDltError` unless dlt's next load is done as this part.

    A version of dlt that doesn't use the class above would empty what earlier parts have staged, or
    exchange the rows before all are there.
    """
    client: Any = pipeline.destination_client()  # made as dlt makes those of the load
    if not isinstance(client, ReplacePartsClient) or client.part != part:
        raise UnsupportedDltError("it does not load with the client that stages rows")
    for hook in _CLIENT_HOOKS:
        if not hasattr(SqlJobClientWithStagingDataset, hook):
            raise UnsupportedDltError(f"its SQL clients have no {hook!r}")
    for table in sorted(part.tables):
        if not client.should_load_data_to_staging_dataset(table):
            raise UnsupportedDltError(f"it does not stage the rows of {table}")


def note_staged_part(
    client: SqlClient, schema: Schema, part: ReplacePart, load_id: str, rows: Mapping[str, int]
) -> None:
    """Note how many rows a load is about to stage; drop those of earlier loads before the first part.

    `rows` are the rows of the load by table. `client` is connected.
    """
    # the first load of a connector notes before dlt has made anything
    if not client.has_dataset():
        client.create_dataset()
    notes = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    client.execute_sql(
        f"CREATE TABLE IF NOT EXISTS {notes} (root VARCHAR(1024) NOT NULL, "
        "load_id VARCHAR(64) NOT NULL, row_counts VARCHAR NOT NULL)"
    )
    # rows of a load that was given up would be exchanged with the new ones
    if not part.earlier:
        drop_staged_rows(client, schema, part)
    # zero, too: the names say which tables are counted before the exchange
    counts = {table: rows.get(table, 0) for table in _chains(schema, part.tables)}
    client.execute_sql(
        f"INSERT INTO {notes} (root, load_id, row_counts) VALUES (%s, %s, %s)",  # noqa: S608 - dlt quotes it
        *(part.root, load_id, json.dumps(counts)),
    )


def drop_staged_rows(client: SqlClient, schema: Schema, part: ReplacePart) -> None:
    """Drop what has been staged for a part's tables, by any load. `client` is connected."""
    notes = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    # the notes first: without them no run continues with rows that are about to go
    client.execute_sql(f"DELETE FROM {notes} WHERE root = %s", part.root)  # noqa: S608 - dlt quotes it
    with client.with_staging_dataset():
        staged = [one for one in _chains(schema, part.tables) if has_column(client, one)]
        if staged:
            client.truncate_tables(*staged)


def has_staged_parts(
    client: SqlClient, schema: Schema, root: str, load_ids: Collection[str]
) -> bool:
    """Return True if all rows of these loads, and no others, are staged for the tables of a family.

    Removes the rows of a part that did not complete. `client` is connected.
    """
    # asked of dlt, not of our notes: a note is written before its load, and says only that it was
    # begun
    complete = read_completed_loads(client, schema.loads_table_name)
    notes = _read_notes(client, root)
    # dlt stores a load's id as its last step
    incomplete = notes.keys() - complete
    if not complete.intersection(notes).issuperset(load_ids):
        return False
    tables = _chains(schema, {table for rows in notes.values() for table in rows})
    with client.with_staging_dataset():
        staged = [table for table in tables if has_column(client, table)]
        for load_id in incomplete:
            for table in staged:
                delete_load_rows(client, load_id, table, schema.tables[table].get("parent"))
        # counted, as somebody may have emptied the staging dataset in between
        found = sum((_count_rows(client, schema, table) for table in staged), _Counts())
    name = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    for load_id in incomplete:
        client.execute_sql(f"DELETE FROM {name} WHERE load_id = %s", load_id)  # noqa: S608 - dlt quotes it
    noted = _Counts()
    for load_id in load_ids:
        for table, rows in notes[load_id].items():
            noted[table, "" if _is_nested(schema, table) else load_id] += rows
    return found == noted


_Counts = Counter[tuple[str, str]]
"""Rows by table and load id. The rows of nested tables don't have the id of their load."""


def _count_rows(client: SqlClient, schema: Schema, table: str) -> _Counts:
    name = client.make_qualified_table_name(table)
    load = "''" if _is_nested(schema, table) else "_dlt_load_id"
    rows = client.execute_sql(f"SELECT {load}, count(*) FROM {name} GROUP BY 1")  # noqa: S608 - dlt quotes it
    return Counter({(table, str(load_id)): int(count) for load_id, count in rows or ()})


def _is_nested(schema: Schema, table: str) -> bool:
    return table in schema.tables and bool(schema.tables[table].get("parent"))


def _read_notes(client: SqlClient, root: str) -> dict[str, dict[str, int]]:
    """Return the rows that the loads of a family have noted, by load id and table."""
    notes = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    try:
        rows = client.execute_sql(
            f"SELECT load_id, row_counts FROM {notes} WHERE root = %s",  # noqa: S608 - dlt quotes it
            root,
        )
    except DatabaseUndefinedRelation:
        return {}
    return {str(load_id): json.loads(counts) for load_id, counts in rows or ()}


def _chains(schema: Schema, tables: Collection[str]) -> Iterator[str]:
    """Yield the root tables among these and those nested in them, each after its parent."""
    for root in sorted(tables):
        if root in schema.tables and not schema.tables[root].get("parent"):
            for table in get_nested_tables(schema.tables, root):
                yield str(table["name"])
