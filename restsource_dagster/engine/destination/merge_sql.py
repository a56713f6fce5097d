"""What a destination does with a merge: refused where it can't, and right SQL where dlt's is wrong.

dlt's SQL joins several merge keys to one text, so that ("ab", "c") is the group ("a", "bc"). Its MERGE
inserts a tombstone that no row of the table has, and both of two rows with one key in one load. Its
plain merge keeps any of two such rows, and applies a `source_filter` only after that. DuckDB and
Postgres use the statements below instead; elsewhere such a merge is refused, if the file tells.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from inspect import signature
from typing import Any

import dlt
from dlt.common.destination import AnyDestination

from restsource_dagster.connector.model import Resource
from restsource_dagster.engine.dlt_compat import (
    FollowupJobRequest,
    PreparedTableSchema,
    SqlClientBase,
    SqlJobClientWithStagingDataset,
    SqlMergeFollowupJob,
)
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.plan.dlt_adapter import READER_ORDERS

__all__ = ["ExactMergeClient", "check_destination_can_merge", "destination_refusals"]

_UPSERTS = ("upsert", "cdc")
_COMPARES_PAIRS = hasattr(SqlMergeFollowupJob, "gen_merge_key_present_clause")
"""True if dlt asks for the condition of merge keys, as it does from 1.31 on."""
_LEAVES_TOMBSTONES_OUT = (
    "insert_cond" in signature(SqlMergeFollowupJob.gen_upsert_merge_sql).parameters
)
"""True if dlt's MERGE takes a condition for rows that it inserts, as it does from 1.31 on."""


class _ExactMergeJob(SqlMergeFollowupJob):
    """dlt's merge with pairs of keys as pairs, and without tombstones and rows that come twice."""

    row_order = "rowid"

    @classmethod
    def gen_merge_key_present_clause(
        cls,
        merge_keys: Sequence[str],
        staging_root_table_name: str,
        source_filter: str | None = None,
    ) -> str | None:
        """Return a condition for the rows whose merge key is among the staged ones."""
        if not merge_keys:
            return None
        # dlt compares each column for itself, so (1, b) would match staged rows (1, a) and (2, b)
        keys = ", ".join(merge_keys)
        where = f" WHERE {source_filter}" if source_filter else ""
        return f"({keys}) IN (SELECT {keys} FROM {staging_root_table_name}{where})"  # noqa: S608 - dlt quotes it

    @classmethod
    def _gen_table_setup_clauses(
        cls, table_chain: Sequence[PreparedTableSchema], sql_client: SqlClientBase[Any]
    ) -> list[str]:
        """Return a statement that removes the staged rows that `source_filter` leaves out.

        They must be gone before rows with one key are compared: dlt would pick one of them, leave it
        out, and delete the row that the table has.
        """
        setup = super()._gen_table_setup_clauses(table_chain, sql_client)
        source_filter: Any = table_chain[0].get("x-merge-source-filter")
        if source_filter:
            _, staged = sql_client.get_qualified_table_names(str(table_chain[0]["name"]))
            # dlt writes braces twice in a filter
            is_taken = f"({source_filter.format()}) IS TRUE"
            setup = [*setup, f"DELETE FROM {staged} WHERE NOT ({is_taken});"]  # noqa: S608 - as dlt writes it
        return setup

    @classmethod
    def gen_select_from_dedup_sql(
        cls,
        table_name: str,
        primary_keys: Sequence[str],
        columns: Sequence[str],
        dedup_sort: Any = None,
        *args: Any,
        **options: Any,
    ) -> str:
        """Return dlt's SELECT of one row for each key: the first in the file's order, else the last."""
        if dedup_sort is not None:
            column, order = dedup_sort
            # rows that are equal in the file's order: without a second one the database picks any
            # of them
            dedup_sort = column, f"{order}, {cls.row_order} DESC"
        statement: str = super().gen_select_from_dedup_sql(
            table_name, primary_keys, columns, dedup_sort, *args, **options
        )
        return statement

    @classmethod
    def default_order_by(cls) -> str:
        """Return the order of rows with one key that the file does not order: the last read first."""
        return f"{cls.row_order} DESC"

    @classmethod
    def gen_upsert_merge_sql(  # type: ignore[override] # versions of dlt have different options
        cls,
        root_table_name: str,
        staging_root_table_name: str,
        primary_keys: Sequence[str],
        root_table_column_names: Sequence[str],
        hard_delete_col: str | None,
        deleted_cond: str | None,
        **options: Any,
    ) -> list[str]:
        """Return dlt's MERGE over one staged row for each key, which inserts no tombstone."""
        if hard_delete_col and not options.get("insert_only"):
            # the condition is null for a row without a value there, which is no tombstone
            options["insert_cond"] = f"(s.{deleted_cond}) IS NOT TRUE"
        # of two rows with one key the last one counts; new rows only are inserted: the first one
        later = ">" if options.get("insert_only") else "<"
        same = " AND ".join(f"a.{key} = b.{key}" for key in primary_keys)
        # MERGE fails, or takes any row, if two staged rows match one of the table
        statements: list[str] = super().gen_upsert_merge_sql(
            root_table_name,
            staging_root_table_name,
            primary_keys,
            root_table_column_names,
            hard_delete_col,
            deleted_cond,
            **options,
        )
        staged = staging_root_table_name
        repeated = (
            f"DELETE FROM {staged} AS a USING {staged} AS b "  # noqa: S608 - dlt quotes it
            f"WHERE {same} AND a.{cls.row_order} {later} b.{cls.row_order};"
        )
        return [repeated, *statements]


class ExactMergeClient(SqlJobClientWithStagingDataset):
    """Mixin for the client of a destination whose SQL has pairs and knows the order of inserted rows."""

    row_order = "rowid"
    """The column of all tables that orders rows as they were inserted into an empty table."""

    def _create_merge_followup_jobs(
        self, table_chain: Sequence[PreparedTableSchema]
    ) -> list[FollowupJobRequest]:
        root, *nested = table_chain
        # of rows that the reader has put in order the last one counts, whatever its column sorts as
        columns: Any = {
            name: {**column, "dedup_sort": None} if READER_ORDERS in column else column
            for name, column in root["columns"].items()
        }
        chain: Any = [{**root, "columns": columns}, *nested]
        return [_exact_merge_job(self.row_order).from_table_chain(chain, self.sql_client)]


@cache
def _exact_merge_job(row_order: str) -> type[_ExactMergeJob]:
    # dlt makes the statements by methods of the class
    return type("ExactMergeJob", (_ExactMergeJob,), {"row_order": row_order})


def check_destination_can_merge(destination: AnyDestination, resource: Resource) -> None:
    """Raise `ResourceError` if rows of a resource can't be merged or removed there, and say what can be done.

    Reads the destination's capabilities, which takes no connection.
    """
    if problem := next(destination_refusals(destination, resource), None):
        raise ResourceError(resource.name, problem)


def destination_refusals(destination: AnyDestination, resource: Resource) -> Iterator[str]:
    """Yield why rows of a resource can't be merged or removed there, and what can be done instead."""
    name = destination.destination_name
    stores_files = not issubclass(destination.client_class, SqlJobClientWithStagingDataset)
    is_replaced = resource.disposition.value == "replace"
    if stores_files and not is_replaced and resource.endpoint.has_action("gone"):
        yield (
            f"the rows of parents that are `gone` are removed by SQL, and {name} stores files. "
            'Write "write_disposition": "replace", or `ignore` in place of `gone`'
        )
    if stores_files and resource.children is not None:
        yield (
            f"rows that a parent no longer has are removed by SQL (`children`), and {name} stores "
            "files. Leave `children` out"
        )
    if stores_files and resource.deletes_in:
        tables = ", ".join(one.table for one in resource.deletes_in)
        yield (
            f"deleted rows of {tables} are removed by SQL (`deletes_from`), and {name} stores files. Leave "
            "`deletes_from` out"
        )
    if stores_files and resource.sweep is not None:
        yield (
            f"keys that the API no longer lists are looked for by SQL (`sweep`), and {name} stores files. Leave "
            "`sweep` out"
        )
    if resource.disposition.value == "merge":
        yield from _merge_problems(destination, resource)


def _merge_problems(destination: AnyDestination, resource: Resource) -> Iterator[str]:
    strategy, name = resource.disposition.strategy, destination.destination_name
    # dlt falls back to append for a destination without strategies, and says nothing
    possible = _merge_strategies(destination, resource)
    if not possible:
        yield (
            f"its rows are merged ({resource.disposition.reason}), and {name} can't merge them: rows "
            'would be doubled with each run. Write "write_disposition": "append" or "replace"'
            + (', or "table_format": "delta"' if name == "filesystem" else "")
        )
    elif strategy and strategy not in possible:
        yield f"{name} can't merge by {strategy}. It can by {', '.join(possible)}"
    exact = issubclass(destination.client_class, ExactMergeClient)
    where = f"on {name} with dlt {dlt.__version__}" if exact else f"on {name}"
    if strategy == "scd2" and len(resource.merge_key) > 1 and not (exact and _COMPARES_PAIRS):
        yield (
            f"{where} a merge_key of several columns mixes up groups with scd2. Use one column, or "
            "the plain merge"
        )
    has_tombstones = strategy in _UPSERTS and resource.has_tombstones
    if has_tombstones and not (exact and _LEAVES_TOMBSTONES_OUT):
        yield (
            f"{where} {strategy} stores the tombstones of rows that the table does not have. Use "
            "the plain merge with hard_delete or `deleted_when`"
        )


def _merge_strategies(destination: AnyDestination, resource: Resource) -> Sequence[str]:
    """Return the strategies that the destination has for a table of this format."""
    caps = destination.capabilities()
    strategies: Sequence[str] = caps.supported_merge_strategies or ()
    if caps.merge_strategies_selector and strategies:
        table: Any = {"name": resource.table, "columns": {}}
        if resource.hints.table_format:
            table["table_format"] = resource.hints.table_format
        selector: Any = caps.merge_strategies_selector
        strategies = selector(list(strategies), table_schema=table)
    return strategies
