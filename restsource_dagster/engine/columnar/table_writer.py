"""Pages written as columns, as long as that makes no difference to the tables.

Rows and columns lead to the same tables: names, types and new columns are dlt's. A page of which
that is not certain (a value of another type than its column, a number beyond 64 bits, ...) is left
to dlt's rows, and so are all that follow it in that load, since dlt infers types in the order of
the rows.

New tables and columns: dlt's own normalizer is shown the rows that bring them.

So their names, types and hints are exactly those that loading row by row would give. dlt has no
public way to have a schema learn from rows; what is used here is guarded, and where it is gone
nothing is loaded as columns.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pyarrow as pa
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns

from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.columnar.flatten import (
    FlatTable,
    NotColumnarError,
    SchemaRules,
    flatten_records,
    random_ids,
    to_array,
)
from restsource_dagster.engine.columnar.parquet_files import ParquetFiles
from restsource_dagster.engine.dlt_compat import get_context_timezone_name

__all__ = ["SchemaLearner", "TableWriter"]


class SchemaLearner:
    """Teaches a schema what dlt would learn from rows. Writes nothing."""

    def __init__(self, schema: Schema, caps: DestinationCapabilitiesContext) -> None:
        """Raises `NotColumnarError` if this version of dlt can't."""
        config = dlt_compat.NormalizeConfiguration()
        config.destination_capabilities = caps
        nowhere: Any = None
        try:
            self._normalizer = dlt_compat.JsonLItemsNormalizer(
                nowhere, nowhere, nowhere, schema, "", config
            )
            self._learn = self._normalizer._normalize_chunk
        except (TypeError, AttributeError) as error:
            raise NotColumnarError(
                f"this version of dlt does not show its inference: {error}"
            ) from None

    def show(self, table: str, rows: Sequence[Any]) -> None:
        """Let the schema learn from rows of a root table, in their order.

        Raises `NotColumnarError` for rows that dlt refuses: loaded one by one they are refused in
        the usual place, with the usual words.
        """
        try:
            self._learn(table, deepcopy(list(rows)), may_have_pua=False, skip_write=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, dlt says it again row by row
            raise NotColumnarError(f"dlt refuses a row: {error}") from None


_UTC = "UTC"


class TableWriter:
    """Writes the pages of one root table and those nested in it."""

    def __init__(
        self,
        table: str,
        schema: Schema,
        caps: DestinationCapabilitiesContext,
        load_id: str,
        parts: ParquetFiles,
    ) -> None:
        """`table` is in the schema already. Raises `NotColumnarError` if its rows can't be columns."""
        if dlt_compat.json_normalizer.get_root_row_id_type(schema, table) != "random":
            raise NotColumnarError("its rows are identified by a hash of their content")
        if get_context_timezone_name() != _UTC:
            raise NotColumnarError("dlt is configured with another time zone than UTC")
        self._table = table
        self._schema = schema
        self._caps = caps
        self._load_id = load_id
        self._parts = parts
        schema.update_normalizers()  # they learned of the table only now
        self._rules = SchemaRules(schema)
        self._learner = SchemaLearner(schema, caps)
        self._kinds: dict[str, pa.DataType] = {}

    def spread(self, records: Sequence[Any]) -> list[FlatTable]:
        """The sheets of a page. Raises `NotColumnarError`."""
        return flatten_records(self._table, records, self._rules)

    def write(self, records: Sequence[Any], sheets: Sequence[FlatTable]) -> None:
        """Write a page that was spread, or nothing of it: raises `NotColumnarError`."""
        self._learn(sheets, records)
        made: dict[str, pa.Table] = {}
        for sheet in sheets:
            made[sheet.table] = self._made(sheet, made)
        for name, rows in made.items():
            self._parts.add(name, rows)

    def _learn(self, sheets: Sequence[FlatTable], records: Sequence[Any]) -> None:
        """Show dlt the first row that has a value in a column it does not know."""
        shown = sorted({row for sheet in sheets for row in self._rows_with_new_columns(sheet)})
        if shown:
            self._learner.show(self._table, [records[row] for row in shown])
            self._rules.clear_nesting_cache()

    def _rows_with_new_columns(self, sheet: FlatTable) -> list[int]:
        known = self._columns(sheet.table)
        # a table without columns of its own has at least those that dlt adds
        rows = [] if known else [sheet.root_rows[0]]
        for name, cells in sheet.columns.items():
            if cells.types and not (name in known and dlt_compat.is_complete_column(known[name])):
                first = next(at for at, value in enumerate(cells.values) if value is not None)
                rows.append(sheet.root_rows[first])
        return rows

    def _columns(self, table: str) -> TTableSchemaColumns:
        found = self._schema.tables.get(table)
        return found["columns"] if found else {}

    def _made(self, sheet: FlatTable, made: dict[str, pa.Table]) -> pa.Table:
        """The rows of a sheet with all columns of its table, in the schema's order."""
        known = self._columns(sheet.table)
        for name, cells in sheet.columns.items():
            if cells.types and name not in known:
                raise NotColumnarError(f"{sheet.table} has no column {name}")
        own = self._own_columns(sheet, made)
        arrays, fields = [], []
        for name, column in known.items():
            if not dlt_compat.is_complete_column(column):
                if name in sheet.columns and sheet.columns[name].types:
                    raise NotColumnarError(f"dlt did not infer the type of {name}")
                continue
            kind = self._kind(column)
            array = self._array(name, column, kind, sheet, own)
            nullable = dlt_compat.is_nullable_column(column)
            if array.null_count and not nullable:
                raise NotColumnarError(f"{name} must have a value and has none")
            arrays.append(array)
            fields.append(pa.field(name, kind, nullable=nullable))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _array(
        self,
        name: str,
        column: TColumnSchema,
        kind: pa.DataType,
        sheet: FlatTable,
        own: dict[str, pa.Array],
    ) -> pa.Array:
        if name in own:
            return own[name].cast(kind)
        if name in sheet.columns:
            return to_array(sheet.columns[name], column, kind)
        return pa.nulls(sheet.length, kind)

    def _own_columns(self, sheet: FlatTable, made: dict[str, pa.Table]) -> dict[str, pa.Array]:
        """The columns that dlt adds: a row's identity, its load, its place below its parents."""
        names = self._rules.normalizer
        own: dict[str, pa.Array] = {names.c_dlt_id: random_ids(sheet.length)}
        if sheet.parent is None:
            own[names.c_dlt_load_id] = pa.repeat(pa.scalar(self._load_id), sheet.length)
            return own
        ids = made[sheet.parent][names.c_dlt_id]
        roots = made[self._table][names.c_dlt_id]
        own[names.c_dlt_parent_id] = ids.take(pa.array(sheet.parents, pa.int64())).combine_chunks()
        own[names.c_dlt_root_id] = roots.take(
            pa.array(sheet.root_rows, pa.int64())
        ).combine_chunks()
        own[names.c_dlt_list_idx] = pa.array(sheet.positions, pa.int64())
        return own

    def _kind(self, column: TColumnSchema) -> pa.DataType:
        key = f"{column['data_type']} {column.get('precision')} {column.get('scale')} {column.get('timezone')}"
        if key not in self._kinds:
            self._kinds[key] = dlt_compat.get_py_arrow_datatype(column, self._caps, _UTC)
        return self._kinds[key]
