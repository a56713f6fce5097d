"""Replace a table by the rows of several loads: each stages its rows, and the last one swaps them in.

1. Each part of a long load writes its rows to dlt's staging dataset, and keeps those of the parts
   before it.
2. The last part exchanges the rows of the table, and of the tables nested in it, in one transaction.

Until then readers see the old table whole. After a failure or a kill the staged rows wait for the run
that continues: it removes those of the part that did not complete, and counts the others. If they are
not all there, as after a reset or in a new staging dataset, the load starts anew.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    "check_part_client",
    "drop_staged_rows",
    "has_staged_parts",
    "note_staged_part",
    "replaced_tables",
]

STAGED_PARTS_TABLE = "_restsource_parts"
"""A table of each dataset: the rows that each part of an unfinished load has staged, by table."""


@dataclass(frozen=True)
class ReplacePart:
    """One of several loads that replace tables together."""

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


def note_staged_part(
    client: SqlClient, schema: Schema, part: ReplacePart, load_id: str, rows: Mapping[str, int]
) -> None:
    """Note how many rows a load is about to stage; drop those of other exchanges before the first.

    `rows` are the rows of the load by table. `client` is connected.
    """
    if not client.has_dataset():
        client.create_dataset()
    notes = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    client.execute_sql(
        f"CREATE TABLE IF NOT EXISTS {notes} (load_id VARCHAR(64) NOT NULL, table_name "
        "VARCHAR(1024) NOT NULL, row_count BIGINT NOT NULL)"
    )
    if not part.earlier:
        drop_staged_rows(client, schema, part.tables)
    with client.begin_transaction():
        for table in _chains(schema, part.tables):
            client.execute_sql(
                f"INSERT INTO {notes} (load_id, table_name, row_count) VALUES (%s, %s, %s)",  # noqa: S608 - dlt quotes it
                *(load_id, table, rows.get(table, 0)),
            )


def drop_staged_rows(client: SqlClient, schema: Schema, tables: Collection[str]) -> None:
    """Drop what parts have staged for these root tables. `client` is connected."""
    notes = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    chains = list(_chains(schema, tables))
    # the notes first: without them no run continues with rows that are about to go
    try:
        for table in chains:
            client.execute_sql(f"DELETE FROM {notes} WHERE table_name = %s", table)  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return
    with client.with_staging_dataset():
        if staged := [table for table in chains if has_column(client, table)]:
            client.truncate_tables(*staged)


def has_staged_parts(
    client: SqlClient, schema: Schema, tables: Collection[str], load_ids: Collection[str]
) -> bool:
    """Return True if all rows of these loads, and no others, are staged for the root tables.

    Removes the rows of a part that did not complete. `client` is connected.
    """
    complete = read_completed_loads(client, schema.loads_table_name)
    chains = list(_chains(schema, tables))
    notes = [note for note in _read_notes(client) if note[1] in chains]
    incomplete = {load_id for load_id, _, _ in notes} - complete
    expected = [note for note in notes if note[0] in complete.intersection(load_ids)]
    if {load_id for load_id, _, _ in expected} != set(load_ids):
        return False
    with client.with_staging_dataset():
        existing = [table for table in chains if has_column(client, table)]
        for load_id in incomplete:
            for table in existing:
                delete_load_rows(client, load_id, table, schema.tables[table].get("parent"))
        found = [_count_staged(client, schema, table) for table in existing]
    name = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    for load_id in incomplete:
        client.execute_sql(f"DELETE FROM {name} WHERE load_id = %s", load_id)  # noqa: S608 - dlt quotes it
    return sum(found, Counter()) == sum(
        (_counted(schema, table, load_id, rows) for load_id, table, rows in expected), Counter()
    )


def _counted(schema: Schema, table: str, load_id: str, rows: int) -> Counter[tuple[str, str]]:
    """Count rows by table and load. Rows of a nested table don't have their load's id."""
    is_nested = bool(schema.tables.get(table, {}).get("parent"))
    return Counter({(table, "" if is_nested else load_id): rows})


def _count_staged(client: SqlClient, schema: Schema, table: str) -> Counter[tuple[str, str]]:
    name = client.make_qualified_table_name(table)
    load = "''" if schema.tables[table].get("parent") else "_dlt_load_id"
    rows = client.execute_sql(f"SELECT {load}, count(*) FROM {name} GROUP BY 1")  # noqa: S608 - dlt quotes it
    return Counter({(table, str(load_id)): int(count) for load_id, count in rows or ()})


def _read_notes(client: SqlClient) -> Iterator[tuple[str, str, int]]:
    notes = client.make_qualified_table_name(STAGED_PARTS_TABLE)
    try:
        rows = client.execute_sql(f"SELECT load_id, table_name, row_count FROM {notes}")  # noqa: S608 - dlt quotes it
    except DatabaseUndefinedRelation:
        return
    for load_id, table, count in rows or ():
        yield str(load_id), str(table), int(count)


def _chains(schema: Schema, tables: Collection[str]) -> Iterator[str]:
    """Yield the root tables among these and those nested in them, each after its parent."""
    for root in sorted(tables):
        if root in schema.tables and not schema.tables[root].get("parent"):
            for table in get_nested_tables(schema.tables, root):
                yield str(table["name"])
