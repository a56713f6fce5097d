"""Pages written as columns, as long as that makes no difference to the tables.

Rows and columns lead to the same tables: names, types and new columns are dlt's. A page of which
that is not certain (a value of another type than its column, a number beyond 64 bits, ...) is left
to dlt's rows, and so are all that follow it in that load, since dlt infers types in the order of
the rows.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.libs.pyarrow import get_py_arrow_datatype
from dlt.common.normalizers.json import helpers
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns
from dlt.common.schema.utils import is_complete_column, is_nullable_column
from dlt.common.time import get_context_timezone_name

from restsource_dagster.engine.columnar.arrays import random_ids, to_array
from restsource_dagster.engine.columnar.errors import NotColumnarError
from restsource_dagster.engine.columnar.learner import Learner
from restsource_dagster.engine.columnar.parts import Parts
from restsource_dagster.engine.columnar.rules import SchemaRules
from restsource_dagster.engine.columnar.sheets import Sheet, spread

__all__ = ["TableWriter"]

_UTC = "UTC"


class TableWriter:
    """Writes the pages of one root table and those nested in it."""

    def __init__(
        self,
        table: str,
        schema: Schema,
        caps: DestinationCapabilitiesContext,
        load_id: str,
        parts: Parts,
    ) -> None:
        """`table` is in the schema already. Raises `NotColumnarError` if its rows can't be columns."""
        if helpers.get_root_row_id_type(schema, table) != "random":
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
        self._learner = Learner(schema, caps)
        self._kinds: dict[str, pa.DataType] = {}

    def spread(self, records: Sequence[Any]) -> list[Sheet]:
        """The sheets of a page. Raises `NotColumnarError`."""
        return spread(self._table, records, self._rules)

    def write(self, records: Sequence[Any], sheets: Sequence[Sheet]) -> None:
        """Write a page that was spread, or nothing of it: raises `NotColumnarError`."""
        self._learn(sheets, records)
        made: dict[str, pa.Table] = {}
        for sheet in sheets:
            made[sheet.table] = self._made(sheet, made)
        for name, rows in made.items():
            self._parts.add(name, rows)

    def _learn(self, sheets: Sequence[Sheet], records: Sequence[Any]) -> None:
        """Show dlt the first row that has a value in a column it does not know."""
        shown = sorted({row for sheet in sheets for row in self._new_in(sheet)})
        if shown:
            self._learner.show(self._table, [records[row] for row in shown])
            self._rules.forget()

    def _new_in(self, sheet: Sheet) -> list[int]:
        known = self._columns(sheet.table)
        # a table without columns of its own has at least those that dlt adds
        rows = [] if known else [sheet.roots[0]]
        for name, cells in sheet.columns.items():
            if cells.types and not (name in known and is_complete_column(known[name])):
                first = next(at for at, value in enumerate(cells.values) if value is not None)
                rows.append(sheet.roots[first])
        return rows

    def _columns(self, table: str) -> TTableSchemaColumns:
        found = self._schema.tables.get(table)
        return found["columns"] if found else {}

    def _made(self, sheet: Sheet, made: dict[str, pa.Table]) -> pa.Table:
        """The rows of a sheet with all columns of its table, in the schema's order."""
        known = self._columns(sheet.table)
        for name, cells in sheet.columns.items():
            if cells.types and name not in known:
                raise NotColumnarError(f"{sheet.table} has no column {name}")
        own = self._own_columns(sheet, made)
        arrays, fields = [], []
        for name, column in known.items():
            if not is_complete_column(column):
                if name in sheet.columns and sheet.columns[name].types:
                    raise NotColumnarError(f"dlt did not infer the type of {name}")
                continue
            kind = self._kind(column)
            array = self._array(name, column, kind, sheet, own)
            nullable = is_nullable_column(column)
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
        sheet: Sheet,
        own: dict[str, pa.Array],
    ) -> pa.Array:
        if name in own:
            return own[name].cast(kind)
        if name in sheet.columns:
            return to_array(sheet.columns[name], column, kind)
        return pa.nulls(sheet.length, kind)

    def _own_columns(self, sheet: Sheet, made: dict[str, pa.Table]) -> dict[str, pa.Array]:
        """The columns that dlt adds: a row's identity, its load, its place below its parents."""
        names = self._rules.normalizer
        own: dict[str, pa.Array] = {names.c_dlt_id: random_ids(sheet.length)}
        if sheet.parent is None:
            own[names.c_dlt_load_id] = pa.repeat(pa.scalar(self._load_id), sheet.length)
            return own
        ids = made[sheet.parent][names.c_dlt_id]
        roots = made[self._table][names.c_dlt_id]
        own[names.c_dlt_parent_id] = ids.take(pa.array(sheet.parents, pa.int64())).combine_chunks()
        own[names.c_dlt_root_id] = roots.take(pa.array(sheet.roots, pa.int64())).combine_chunks()
        own[names.c_dlt_list_idx] = pa.array(sheet.positions, pa.int64())
        return own

    def _kind(self, column: TColumnSchema) -> pa.DataType:
        key = f"{column['data_type']} {column.get('precision')} {column.get('scale')} {column.get('timezone')}"
        if key not in self._kinds:
            self._kinds[key] = get_py_arrow_datatype(column, self._caps, _UTC)
        return self._kinds[key]
