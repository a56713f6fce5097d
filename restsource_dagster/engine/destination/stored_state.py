"""The state and the schema that count are the last ones written, whatever the clocks say.

dlt stores a state with each load, and a schema when it changes, and takes for the newest the one
with the latest time of the machine that wrote it. After a run whose clock was ahead, all later runs
would begin at its cursors, and append the rows since then again and again. Both carry a version that
grows by one with each change. This module removes what dlt would take for newer and is not.

dlt also merges the hints of a resource into the stored schema and never removes one. So a `merge_key`,
a contract or a strategy would stay in force after it is deleted from the file. `withdraw_settings`
removes them before a load. The form of a column in the database (type, precision, scale, time zone)
and the table's format stay: the destination's table has them.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.extract import DltResource

from restsource_dagster.engine.destination.tables import SqlClient, TableTree, has_column
from restsource_dagster.engine.dlt_compat import (
    DatabaseUndefinedRelation,
    DestinationException,
    DestinationUndefinedEntity,
    WithStateSync,
    normalize_table_identifiers,
)
from restsource_dagster.engine.errors import IngestError, ResourceError
from restsource_dagster.engine.plan.dlt_adapter import READER_ORDERS

__all__ = [
    "WithdrawnSettings",
    "check_clock",
    "drop_not_null",
    "let_schema_be_stored",
    "remove_outdated_schemas",
    "remove_outdated_states",
    "withdraw_settings",
]


def remove_outdated_states(client: SqlClient, pipeline: str, schema: Schema) -> None:
    """Remove states of a pipeline that were written before the last one and look newer.

    `client` is connected. Call it before dlt restores the state. States of loads that did not complete never count.
    """
    states = client.make_qualified_table_name(schema.state_table_name)
    loads = client.make_qualified_table_name(schema.loads_table_name)
    complete = (
        f"FROM {states} AS s JOIN {loads} AS l ON l.load_id = s._dlt_load_id "
        "WHERE s.pipeline_name = %s AND l.status = 0"
    )
    outdated, _ = _find_outdated(
        client, complete, pipeline, "s._dlt_load_id", "s.version", "s._dlt_load_id"
    )
    for load_id in outdated:
        client.execute_sql(
            f"DELETE FROM {states} WHERE pipeline_name = %s AND _dlt_load_id = %s",  # noqa: S608 - dlt quotes it
            *(pipeline, load_id),
        )


def remove_outdated_schemas(client: SqlClient, schema: Schema) -> None:
    """Remove versions of a schema that were written before the last one and look newer."""
    table = client.make_qualified_table_name(schema.version_table_name)
    of_schema = f"FROM {table} WHERE schema_name = %s"
    outdated, newest = _find_outdated(
        client, of_schema, schema.name, "version_hash", "version", "inserted_at"
    )
    for version_hash in outdated:
        client.execute_sql(
            f"DELETE {of_schema} AND version_hash = %s AND version < %s",
            *(schema.name, version_hash, newest),
        )


def _find_outdated(
    client: SqlClient, entries: str, owner: str, entry: str, version: str, written: str
) -> tuple[list[Any], Any]:
    """Return the entries that dlt takes for newer than the newest version, and that version.

    `entries` is the SQL after the columns, with one parameter, for which `owner` is put in. `entry`,
    `version` and `written` are columns. Empty and None as long as nothing is stored.
    """
    try:
        newest = client.execute_sql(f"SELECT max({version}) {entries}", owner)
    except DatabaseUndefinedRelation:  # no load has stored anything yet
        return [], None
    number = newest[0][0] if newest else None
    if number is None:
        return [], None
    outdated = client.execute_sql(
        f"SELECT {entry} {entries} AND {version} < %s AND {written} >= "
        f"(SELECT max({written}) {entries} AND {version} = %s)",
        *(owner, number, owner, number),
    )
    return [found for (found,) in outdated or ()], number


def let_schema_be_stored(client: SqlClient, schema: Schema) -> None:
    """Remove an older version that equals the schema, so that dlt stores the schema as the newest.

    dlt stores no schema whose content it has stored before. One that a setting was added to and taken
    out of again would be restored with the setting. Call it right before the load.
    """
    table = client.make_qualified_table_name(schema.version_table_name)
    try:
        client.execute_sql(
            f"DELETE FROM {table} WHERE schema_name = %s AND version_hash = %s AND version < "  # noqa: S608 - dlt quotes it
            f"(SELECT max(version) FROM {table} WHERE schema_name = %s)",
            *(schema.name, schema.stored_version_hash, schema.name),
        )
    except DatabaseUndefinedRelation:
        return


def check_clock(pipeline: dlt.Pipeline, now: float | None = None) -> None:
    """Raise `IngestError` if a state written to files now would not count as the newest.

    `now` is a Unix time; the machine's if left out.
    """
    with pipeline.destination_client() as client:
        if not isinstance(client, WithStateSync):
            return
        try:
            stored = client.get_stored_state(pipeline.pipeline_name)
        except DestinationUndefinedEntity:  # no load has stored a state yet
            return
    if stored is None or stored._dlt_load_id is None:
        return
    written = float(stored._dlt_load_id)  # dlt names a load by its time
    if written >= (time.time() if now is None else now):
        moment = datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds")
        raise IngestError(
            f"the last load was stored at {moment}, which is later than the clock of this machine. "
            "A load now would not count as the last one, and rows would be loaded twice. Set the "
            "clock right, or run after that time"
        )


_TABLE_FORM = frozenset(
    {
        *("name", "parent", "resource", "columns", "write_disposition", "table_format"),
        *("x-normalizer", "x-loader", "x-extractor"),
    }
)
"""The hints that a stored table keeps: its place in the schema, and dlt's own notes."""
_NORMALIZER_SETTINGS = ("max_nesting", "evolve-columns-once")
"""A resource's settings for dlt's normalizer. The normalizer's other notes describe data it has seen."""
_COLUMN_FORM = frozenset(
    {"name", "data_type", "precision", "scale", "timezone", "variant", "x-normalizer"}
)
"""The hints that a stored column keeps: its form in the database."""
_DLT_COLUMNS = ("_dlt_id", "_dlt_load_id", "_dlt_parent_id", "_dlt_root_id", "_dlt_list_idx")
_ROW_VERSION = "x-row-version"
_FILE_NAMES = {
    "x-merge-strategy": "the merge strategy",
    "x-stage-data-deduplicated": "deduplicated",
    "x-merge-source-filter": "source_filter",
    "x-merge-destination-scope": "destination_scope",
    "x-merge-skip-unchanged-rows": "skip_unchanged_rows",
    "x-boundary-timestamp": "boundary_timestamp",
    "x-active-record-timestamp": "active_record_timestamp",
    "x-valid-from": "the start of a version",
    "x-valid-to": "the end of a version",
    _ROW_VERSION: "row_version_column_name",
}
"""What the file calls dlt's hints."""

Table = dict[str, Any]


@dataclass
class WithdrawnSettings:
    """The settings that a load removed from the stored schema because the file lacks them."""

    changes: dict[str, list[str]] = field(default_factory=dict)
    """A sentence for each setting, by root table."""
    nullable: list[tuple[str, str]] = field(default_factory=list)
    """Table and column of each `nullable: false`, which the database enforces, too."""


def withdraw_settings(schema: Schema, resources: Iterable[DltResource]) -> WithdrawnSettings:
    """Remove the settings that these resources don't give from the stored schema.

    Raises `IngestError` if a nested table has gained or lost a key of its own.
    """
    withdrawn = WithdrawnSettings()
    tree = TableTree(schema.tables)
    for resource in resources:
        computed = {str(table["name"]): table for table in _computed_tables(schema, resource)}
        root = next(iter(computed))
        # a new table has the settings of the file only
        if root not in schema.tables:
            continue
        _check_nesting(schema, tree, root, resource.name, computed)
        # a nested table with a key of its own is a root table for dlt
        tops = [name for name, table in computed.items() if not table.get("parent")]
        for stored in (one for top in tops for one in tree.with_nested(top)):
            said = computed.get(str(stored["name"]), {"columns": {}})
            changes = list(_withdraw_from_table(schema, stored, said, withdrawn.nullable))
            withdrawn.changes.setdefault(root, []).extend(changes)
    return withdrawn


def _computed_tables(schema: Schema, resource: DltResource) -> Iterator[Table]:
    """Yield the table that a resource describes, and those of its nested hints, as dlt does."""
    root: Any = resource.compute_table_schema()
    nested: Any = resource.compute_nested_table_schemas(root["name"], schema.naming)
    for table in (root, *nested):
        named: Any = normalize_table_identifiers(table, schema.naming)
        yield named


def _check_nesting(
    schema: Schema, tree: TableTree, root: str, resource: str, computed: Mapping[str, Table]
) -> None:
    """Raise `IngestError` for a table below `root` that is nested in the schema or in the file only."""
    if parent := schema.tables[root].get("parent"):
        raise ResourceError(
            resource,
            f"the table {root} has the rows of a list in {parent}. Give one of the two another "
            '"table_name"',
        )
    below = f"{root}{schema.naming.PATH_SEPARATOR}"
    for name, stored in tree.starting_with(below):
        if not stored.get("columns"):
            continue
        is_nested = bool(stored.get("parent"))
        said = computed.get(name)
        own_key = said is not None and not said.get("parent")
        if is_nested != own_key or stored.get("resource", resource) != resource:
            continue
        has, had = ("a key of its own", "none") if own_key else ("no key of its own", "one")
        raise ResourceError(
            resource,
            f"by its `nested_hints` the table {name} has {has} now, and it "
            f"was made with {had}, which a table can't change. Give the resource another "
            '"table_name", or reset it',
        )


def _withdraw_from_table(
    schema: Schema, stored: Any, said: Table, nullable: list[tuple[str, str]]
) -> Iterator[str]:
    """Remove the settings that the file's table, `said`, lacks; yield a sentence for each."""
    table = stored["name"]
    for hint in [*stored]:
        # a nested table is written as its root is, unless the file says otherwise
        is_form = hint in _TABLE_FORM and not (hint == "write_disposition" and "parent" in stored)
        if is_form or hint in said:
            continue
        # dlt also notes there the format that a load was written in
        if stored.pop(hint) and hint != "file_format":
            yield _sentence(hint, table)
    notes = stored.get("x-normalizer", {})
    for hint in _NORMALIZER_SETTINGS:
        if hint in notes and hint not in said.get("x-normalizer", {}):
            del notes[hint]
            if hint == "max_nesting":
                yield _sentence("max_table_nesting", table)
    own = {schema.naming.normalize_identifier(name) for name in _DLT_COLUMNS}
    for name, column in stored["columns"].items():
        said_of_column = said["columns"].get(name, {})
        if name in own:
            _restore_row_key(column, said_of_column)
            continue
        if column.get("nullable") is False and said_of_column.get("nullable", True):
            nullable.append((table, name))
        for hint in _withdraw_from_column(column, said_of_column):
            yield _sentence(hint, f"{table}.{name}")


def _withdraw_from_column(column: Any, said: Mapping[str, Any]) -> list[str]:
    """Take out of a stored column what `said` does not have; return the hints to tell of."""
    hints = [
        hint
        for hint, value in column.items()
        # every column that dlt infers says that it is nullable: leave it, and the schema, as it is
        if hint not in (*_COLUMN_FORM, *said) and not (hint == "nullable" and value)
    ]
    given = {hint: column.pop(hint) for hint in hints}
    if "nullable" in given:
        column["nullable"] = True
    if given.get("primary_key") or given.get("merge_key"):
        # a key implies NOT NULL, and a changed primary key is reported with the other schema changes
        given.update(primary_key=None, nullable=None)
    needs_value = given.pop("nullable", None) is False
    if given.pop(READER_ORDERS, None):
        # not the file's, but of a resource with a cursor, which may share the table
        given.pop("dedup_sort", None)
    return [*(hint for hint, value in given.items() if value), *(["nullable"] * needs_value)]


def _restore_row_key(column: Any, said: Mapping[str, Any]) -> None:
    """Make the row id a key again after scd2, which stores a hash of the row in that column."""
    if _ROW_VERSION in column and _ROW_VERSION not in said:
        del column[_ROW_VERSION]
        column.update(row_key=True, unique=True)


def _sentence(hint: str, where: str) -> str:
    shown = _FILE_NAMES.get(hint, hint)
    return f"{shown} of {where} is no longer in the file, and no longer in force"


def drop_not_null(client: SqlClient, columns: Iterable[tuple[str, str]]) -> None:
    """Let the database store rows without a value in these columns, given as table and column.

    `client` is connected. Raises `IngestError` with the statement to run if the destination has another one for it.
    """
    for table, column in columns:
        _drop_not_null(client, table, column)
        # rows on their way to a merged or replaced table pass a table of the same form
        with client.with_staging_dataset():
            _drop_not_null(client, table, column)


def _drop_not_null(client: SqlClient, table: str, column: str) -> None:
    name = client.escape_column_name(column)
    if not has_column(client, table, name):
        return
    statement = (
        f"ALTER TABLE {client.make_qualified_table_name(table)} ALTER COLUMN {name} DROP NOT NULL"
    )
    try:
        client.execute_sql(statement)
    except DestinationException as error:
        raise IngestError(
            f"the column {column} of {table} needs a value in the destination, and the file does "
            f"not say so any more. The destination refuses to change it ({error}). Do there what "
            f"this statement means, and run again: {statement}"
        ) from error
