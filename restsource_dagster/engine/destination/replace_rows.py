"""Replace rows of a table by those of a load, in one transaction.

dlt replaces whole tables, or rows by their key. Rows that are appended have no key. This module
replaces them by a range of their cursor, or all of them:

1. dlt loads the new rows into its staging dataset.
2. One transaction deletes the old rows with the rows nested in them and copies the new ones.

A run that is killed before the transaction leaves the old rows, a run that is killed after it the
new ones. Readers never see a part.

dlt's documented way to change how a destination loads is a destination class whose `client_class`
is a client of one's own. A destination supports row replacement if its class has the mixin
`ReplacingDestination` (see sql_destinations.py), whose client has the mixin `ReplaceRowsClient`.
`check_row_replacement` asks before the load whether dlt uses them.

Times are compared as times, like the rows that come from the API. If the database compares a column
the same way (times, numbers), it evaluates the range; else this module reads the distinct values
and compares each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema

from restsource_dagster.connector.cursor_format import (
    IsoDate,
    IsoTime,
)
from restsource_dagster.engine.destination.removed_rows import (
    NUMERIC_DATA_TYPES,
    SqlStatement,
    columns_of,
    existing_tables,
    nested_condition,
)
from restsource_dagster.engine.destination.replace_parts import ReplacePartsClient
from restsource_dagster.engine.destination.tables import SqlClient
from restsource_dagster.engine.dlt_compat import (
    DestinationTerminalException,
    FollowupJobRequest,
    JobClientBase,
    LoadJob,
    PreparedTableSchema,
    SqlClientBase,
    SqlJobClientWithStagingDataset,
    SqlLoadJob,
    SqlStagingCopyFollowupJob,
    UnsupportedDltError,
    get_root_table,
)
from restsource_dagster.engine.incremental.cursor_overrides import CursorRange, RowDeletion
from restsource_dagster.state.state_errors import LeaseLostError

__all__ = [
    "DeletionsByTable",
    "LeasedClient",
    "ReplaceRowsClient",
    "check_row_replacement",
    "delete_replaced_rows",
    "deletion_statements",
]

_VALUES_PER_STATEMENT = 1000


DeletionsByTable = Mapping[str, RowDeletion]
"""Deletions by the name of the root table in the destination."""


def deletion_statements(
    client: SqlClient, schema: Schema, deletion: RowDeletion
) -> list[SqlStatement]:
    """Return the statements that delete the rows and all rows nested in them.

    Run them in one transaction. This function reads the tables, so call it before the transaction;
    no other process may write to them until it is committed. A table that does not exist needs no
    statement. `client` is connected. Raises dlt's errors of the destination.
    """
    chain = existing_tables(client, schema, deletion.table)
    conditions = _row_conditions(client, schema, deletion) if chain else ()
    return [
        SqlStatement(
            f"DELETE FROM {client.make_qualified_table_name(table)} WHERE "  # noqa: S608 - dlt quotes it
            f"{nested_condition(client, schema, table, condition.sql)}",
            condition.values,
        )
        for condition in conditions
        # a nested row is found by its parent row, so parents go last
        for table in reversed(chain)
    ]


def _row_conditions(
    client: SqlClient, schema: Schema, deletion: RowDeletion
) -> Iterator[SqlStatement]:
    """Yield conditions that together select the rows, each row once."""
    if deletion.cursor_range is None:
        yield SqlStatement("1 = 1")
        return
    columns = dict(columns_of(client, schema, deletion.table, deletion.cursor_range.field))
    for name, column in columns.items():
        yield from _range_conditions(client, deletion.table, deletion.cursor_range, column, name)
    if deletion.cursor_range.nulls:
        yield SqlStatement(" AND ".join(f"{name} IS NULL" for name in columns) or "1 = 1")


def _range_conditions(
    client: SqlClient, table: str, cursor_range: CursorRange, column: TColumnSchema, name: str
) -> Iterator[SqlStatement]:
    """Yield conditions on one column, whose quoted name is `name`."""
    bounds = _database_bounds(cursor_range, column)
    if bounds is not None:
        start, end = bounds
        if end is None:
            yield SqlStatement(f"{name} >= %s", (start,))
        else:
            yield SqlStatement(f"{name} >= %s AND {name} < %s", (start, end))
        return
    prefilter = _text_prefilter(cursor_range, column, name)
    found = client.execute_sql(
        f"SELECT DISTINCT {name} FROM {client.make_qualified_table_name(table)} "  # noqa: S608 - dlt quotes it
        f"WHERE {name} IS NOT NULL{prefilter.sql}",
        *prefilter.values,
    )
    # the same comparison as for the rows that the API sends, which the database can't make
    held = [row[0] for row in found or () if cursor_range.holds(row[0])]
    # databases limit the parameters of a statement
    for at in range(0, len(held), _VALUES_PER_STATEMENT):
        values = held[at : at + _VALUES_PER_STATEMENT]
        marks = ", ".join(["%s"] * len(values))
        yield SqlStatement(f"{name} IN ({marks})", tuple(values))


def _database_bounds(cursor_range: CursorRange, column: TColumnSchema) -> tuple[Any, ...] | None:
    """Return start and end in the column's type; None if the database compares it differently."""
    data_type, bounds = column.get("data_type"), (cursor_range.start, cursor_range.end)
    form = cursor_range.form
    if form.is_time and data_type in ("timestamp", "date"):
        start, end = (None if bound is None else form.parse(bound) for bound in bounds)
        # a day belongs to the range by its beginning
        if data_type == "date":
            return _first_day_from(start), _first_day_from(end)
        # a database refuses to compare a time with a zone to one without, or takes its own zone
        naive = not column.get("timezone", True)
        return tuple(
            bound and bound.replace(tzinfo=None if naive else UTC) for bound in (start, end)
        )
    if data_type in NUMERIC_DATA_TYPES and all(
        bound is None or (isinstance(bound, int | float) and not isinstance(bound, bool))
        for bound in bounds
    ):
        return bounds
    return None


def _first_day_from(moment: datetime | None) -> date | None:
    """Return the first day that begins at the moment or later."""
    if moment is None:
        return None
    moment = moment.astimezone(UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight if midnight == moment else midnight + timedelta(days=1)).date()


def _text_prefilter(cursor_range: CursorRange, column: TColumnSchema, name: str) -> SqlStatement:
    """Return a condition that skips texts that begin with a date outside the range.

    Empty if the column's texts don't begin with a date.
    """
    form = cursor_range.form
    if column.get("data_type") != "text" or not isinstance(form, IsoDate | IsoTime):
        return SqlStatement("")
    try:
        # zones move a moment's date by up to a day
        first = (form.parse(cursor_range.start) - timedelta(days=1)).date().isoformat()
        last = (
            ""
            if cursor_range.end is None
            else (form.parse(cursor_range.end) + timedelta(days=2)).date().isoformat()
        )
    except OverflowError:
        return SqlStatement("")
    # texts that don't look like `YYYY-...` don't sort by date: read them all
    other = f"substring({name}, 5, 1) <> '-' OR length({name}) < 10"
    if not last:
        return SqlStatement(f" AND ({name} >= %s OR {other})", (first,))
    return SqlStatement(f" AND (({name} >= %s AND {name} < %s) OR {other})", (first, last))


class _ReplaceRowsJob(SqlLoadJob):
    """Deletes the old rows and runs dlt's statements on the staged rows, in one transaction."""

    def __init__(self, file_path: str, deletion: RowDeletion) -> None:
        super().__init__(file_path)
        self._deletion = deletion

    def run(self) -> None:
        client = self._job_client.sql_client
        # dlt writes one statement per line
        lines = Path(self._file_path).read_text(encoding="utf-8").split("\n")
        main = self._job_client.config.normalize_dataset_name(self._schema)
        # dlt runs this job with the staging dataset selected, and the old rows are in the main one
        with client.with_alternative_dataset_name(main):
            statements = deletion_statements(client, self._schema, self._deletion)
        with client.begin_transaction():
            for statement in statements:
                client.execute_sql(statement.sql, *statement.values)
            # in the same transaction as the deletion: no reader sees the table without these rows
            client.execute_many([line for line in lines if line.strip()])


class LeasedClient(JobClientBase):
    """Mixin for the client of a destination: its loads end when another run has taken over."""

    check_lease: Callable[[], None] = staticmethod(lambda: None)
    """Raises `LeaseLostError` if another run may have taken over."""

    def complete_load(self, load_id: str) -> None:
        """Note that a load is complete, unless another run has taken over."""
        # last look: from here on the load counts, and a successor may have removed its rows by now
        self.check_lease()
        theirs: Any = super()
        theirs.complete_load(load_id)

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        """Return dlt's job for a file. Raises dlt's error if another run may have taken over."""
        try:
            self.check_lease()
        except LeaseLostError as error:
            # dlt would try again what is no terminal error
            raise DestinationTerminalException(str(error)) from error
        theirs: Any = super()
        job: LoadJob = theirs.create_load_job(table, file_path, load_id, restore)
        return job


class ReplaceRowsClient(LeasedClient, ReplacePartsClient):
    """Mixin for the client of an SQL destination: its loads replace the rows of `deletions`."""

    deletions: DeletionsByTable = {}  # noqa: RUF012 - each instance is given its own

    def should_load_data_to_staging_dataset(self, table_name: str) -> bool:
        """Return True also for the tables whose rows are replaced, and those nested in them."""
        root = get_root_table(self.schema.tables, table_name)["name"]
        return root in self.deletions or super().should_load_data_to_staging_dataset(table_name)

    def create_table_chain_completed_followup_jobs(
        self, table_chain: Sequence[PreparedTableSchema], *args: Any, **kwargs: Any
    ) -> list[FollowupJobRequest]:
        """Return dlt's jobs, and for an appended table the one that copies the staged rows.

        dlt calls this when all files of a root table and those nested in it are staged.
        """
        jobs = super().create_table_chain_completed_followup_jobs(table_chain, *args, **kwargs)
        root = table_chain[0]
        # dlt makes the job for a merged table itself
        if root["name"] in self.deletions and root["write_disposition"] == "append":
            jobs.append(SqlStagingCopyFollowupJob.from_table_chain(table_chain, self.sql_client))
        return jobs

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        """Return the job that replaces rows for dlt's SQL job, and dlt's job for other files."""
        if SqlLoadJob.is_sql_job(file_path) and table["name"] in self.deletions:
            return _ReplaceRowsJob(file_path, self.deletions[str(table["name"])])
        return super().create_load_job(table, file_path, load_id, restore)

    def _create_replace_followup_jobs(
        self, table_chain: Sequence[PreparedTableSchema]
    ) -> list[FollowupJobRequest]:
        """Return the job that exchanges the rows of a replaced table for the staged ones."""
        return [_ExchangeJob.from_table_chain(table_chain, self.sql_client)]


class _ExchangeJob(SqlStagingCopyFollowupJob):
    """dlt's `insert-from-staging` with DELETE in place of TRUNCATE.

    A TRUNCATE waits for all readers of a table and keeps others out, so that one which reads a nested
    table first deadlocks with the load. Some databases (Redshift) also commit before it.
    """

    @classmethod
    def generate_sql(
        cls, table_chain: Sequence[PreparedTableSchema], sql_client: SqlClientBase[Any]
    ) -> list[str]:
        names = [sql_client.make_qualified_table_name(str(table["name"])) for table in table_chain]
        return [
            *(f"DELETE FROM {name} WHERE 1=1" for name in names),  # noqa: S608 - dlt quotes it
            *super().generate_sql(table_chain, sql_client),
        ]


_CLIENT_HOOKS = (
    "create_load_job",
    "create_table_chain_completed_followup_jobs",
    "should_load_data_to_staging_dataset",
)
_JOB_ATTRIBUTES = ("_file_path", "_job_client", "_schema")


def check_row_replacement(pipeline: dlt.Pipeline, deletions: DeletionsByTable) -> None:
    """Raise `UnsupportedDltError` unless dlt's next load replaces the rows of `deletions`.

    A version of dlt that doesn't use the classes above would append the new rows to the old ones,
    or leave them in the staging dataset. Call it after normalization, before a row is loaded.
    """
    replaced = deletions.keys() & _roots_with_files(pipeline)
    if not replaced:
        return
    client: Any = pipeline.destination_client()  # made as dlt makes those of the load
    if not isinstance(client, ReplaceRowsClient) or client.deletions != deletions:
        raise UnsupportedDltError("it does not load with the client that replaces rows")
    for hook in _CLIENT_HOOKS:
        # a method that dlt's own client has lost is a method that dlt no longer calls
        if not hasattr(SqlJobClientWithStagingDataset, hook):
            raise UnsupportedDltError(f"its SQL clients have no method {hook!r}")
    for table in sorted(replaced):
        prepared = client.prepare_load_table(table)
        # dlt reads the parts of the name and does not open the file
        job = client.create_load_job(prepared, f"unused/{table}.unused.0.sql", "unused")
        for attribute in _JOB_ATTRIBUTES:
            if not hasattr(job, attribute):
                raise UnsupportedDltError(f"its SQL jobs have no attribute {attribute!r}")
        if not SqlStagingCopyFollowupJob.generate_sql([prepared], client.sql_client):
            raise UnsupportedDltError("it makes no statement that copies staged rows")


def delete_replaced_rows(
    pipeline: dlt.Pipeline, client: SqlClient, deletions: DeletionsByTable
) -> None:
    """Delete the replaced rows of tables without a new row: dlt makes no job for such a table.

    `client` is connected.
    """
    schema = pipeline.default_schema
    for table in deletions.keys() - _roots_with_files(pipeline):
        statements = deletion_statements(client, schema, deletions[table])
        with client.begin_transaction():
            for statement in statements:
                client.execute_sql(statement.sql, *statement.values)


def _roots_with_files(pipeline: dlt.Pipeline) -> set[str]:
    """Return the root tables that the next load has files for, their own or of nested tables."""
    tables = pipeline.default_schema.tables
    return {
        str(get_root_table(tables, job.job_file_info.table_name)["name"])
        for load_id in pipeline.list_normalized_load_packages()
        for job in pipeline.get_load_package_info(load_id).jobs["new_jobs"]
    }
