"""Write a resource's pages as columns, as long as the tables are those that dlt makes of its rows.

Names, types and new columns are dlt's. If that is not certain for a page (a value of another type
than its column, a number beyond 64 bits, ...), dlt loads it row by row, and with it all pages that
follow in the load: dlt infers types in the order of the rows. The columns go to parquet files, in
bounded batches, which join dlt's load package.
"""

import base64
import secrets
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import dlt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns

from restsource_dagster.engine import dlt_compat
from restsource_dagster.engine.columnar.flatten import (
    ColumnValues,
    FlatTable,
    NotColumnarError,
    SchemaRules,
    flatten_records,
    is_verified,
)
from restsource_dagster.engine.dlt_compat import (
    Container,
    UnsupportedDltError,
    get_context_timezone_name,
)
from restsource_dagster.engine.http.json_body import UnverifiedRecords

__all__ = [
    "ColumnLoader",
    "FlattenedRecords",
    "ParquetFiles",
    "SchemaLearner",
    "TableWriter",
    "renew_normalizer",
]

_UTC = "UTC"
_ROW_GROUP_ROWS = 60_000
_ROW_GROUP_BYTES = 32 * 1024 * 1024


@dataclass
class _ParquetFile:
    """One open file. A table has several if its columns change during the load."""

    table: str
    writer: pq.ParquetWriter
    path: Path
    waiting: list[pa.Table] = field(default_factory=list)
    """Rows of the next row group, with their number and size in memory."""
    rows: int = 0
    bytes: int = 0

    def add(self, rows: pa.Table) -> None:
        self.waiting.append(rows)
        self.rows += rows.num_rows
        self.bytes += rows.nbytes
        if self.rows >= _ROW_GROUP_ROWS or self.bytes >= _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting), row_group_size=self.rows)
        self.waiting, self.rows, self.bytes = [], 0, 0

    def close(self) -> None:
        self.flush()
        self.writer.close()


class ParquetFiles:
    """The files of one load in `folder`. Memory holds at most one row group per table.

    A `with` statement closes the files at its end. Files that were not moved stay in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, _ParquetFile] = {}
        self._done: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for table in list(self._open):
            self._close_file(table)

    def add(self, table: str, rows: pa.Table) -> None:
        """Write rows of a table."""
        file = self._open.get(table)
        # a parquet file has one schema: new columns begin a new file
        if file is None or file.writer.schema != rows.schema:
            self._close_file(table)
            file = self._open[table] = self._open_file(table, rows.schema)
        file.add(rows)

    @property
    def is_empty(self) -> bool:
        """True if no rows were written."""
        return not (self._open or self._done)

    def move_into(self, package: Path) -> None:
        """Move all files into the extracted load package in that folder, as new load jobs.

        No rows follow: Arrow gives the memory back that it took for them.
        """
        for table in list(self._open):
            self._close_file(table)
        for path in self._done:
            path.replace(package / dlt_compat.PackageStorage.NEW_JOBS_FOLDER / path.name)
        self._done.clear()
        # what Arrow keeps for later tables would add to what the database takes for the load
        pa.default_memory_pool().release_unused()

    def _open_file(self, table: str, schema: pa.Schema) -> _ParquetFile:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = dlt_compat.PackageStorage.build_job_file_name(
            table, dlt_compat.ParsedLoadJobFileName.new_file_id(), loader_file_format="parquet"
        )
        path = self._folder / name
        # the file is read once, a moment later: encoding it well costs more than reading it
        writer = pq.ParquetWriter(path, schema, compression="none", use_dictionary=False)
        return _ParquetFile(table, writer, path)

    def _close_file(self, table: str) -> None:
        file = self._open.pop(table, None)
        if file is not None:
            file.close()
            self._done.append(file.path)


class FlattenedRecords(list[Any]):
    """The records of a page with the tables that they flatten to."""

    tables: Sequence[FlatTable]

    @classmethod
    def of(cls, records: Sequence[Any], tables: Sequence[FlatTable]) -> "FlattenedRecords":
        """Return the records with their tables."""
        flattened = cls(records)
        flattened.tables = tables
        return flattened


class ColumnLoader:
    """Writes the pages of one resource during one load, and passes on those it leaves to dlt."""

    def __init__(self, table: str, files: ParquetFiles, notify: Callable[[str], None]) -> None:
        """`table` is the table's name as the file has it. `notify` gets messages for the run's log."""
        self._table = table
        self._files = files
        self._notify = notify
        self._writer: TableWriter | None = None
        self.refusal: str | None = None
        """Why rows are loaded one by one; None as long as they are written as columns."""
        self.rows = 0
        """The number of rows written as columns."""

    def load(self, pages: Iterator[Any]) -> Iterator[Any]:
        """Write pages as columns; yield those that dlt has to load row by row.

        Runs inside dlt's extraction of the resource.
        """
        for page in pages:
            # a page that dlt only gets for its hints is no list
            if isinstance(page, list) and page and self.refusal is None:
                if self._writer is None:
                    # dlt adds the table with its hints to the schema, where the writer looks it up
                    yield dlt.mark.materialize_table_schema()
                if self._write(page):
                    continue
            yield page

    def flatten(self, records: UnverifiedRecords) -> FlattenedRecords | None:
        """Return a page with its tables, if parsing it the fast way lost nothing.

        None if rows are loaded one by one, or if only Python's own parser can tell.
        """
        if self._writer is None or self.refusal is not None:
            return None
        try:
            tables = self._writer.flatten(records)
        except NotColumnarError:
            return None  # `load` meets the same error and reports it
        return FlattenedRecords.of(records, tables) if is_verified(records, tables) else None

    def _write(self, records: list[Any]) -> bool:
        """Return False if the page, and all that follow, are left to dlt."""
        try:
            self._writer = self._writer or self._open_writer()
            flattened = records.tables if isinstance(records, FlattenedRecords) else None
            self._writer.write(records, flattened or self._writer.flatten(records))
        except (NotColumnarError, UnsupportedDltError) as error:
            self._fall_back(str(error))
            return False
        self.rows += len(records)
        return True

    def _open_writer(self) -> "TableWriter":
        schema = dlt.current.source_schema()
        return TableWriter(
            dlt_compat.table_identifier(schema, self._table),
            schema,
            Container()[DestinationCapabilitiesContext],
            dlt.current.load_package_state()["load_id"],
            self._files,
        )

    def _fall_back(self, reason: str) -> None:
        self.refusal = reason
        if self.rows:
            self._notify(f"{self._table}: the rows that follow are loaded one by one: {reason}")


class TableWriter:
    """Writes the pages of a root table and of the tables nested in it."""

    def __init__(
        self,
        table: str,
        schema: Schema,
        caps: DestinationCapabilitiesContext,
        load_id: str,
        files: ParquetFiles,
    ) -> None:
        """`table` is in the schema. Raises `NotColumnarError` if its rows can't be columns."""
        row_id_type = dlt_compat.json_normalizer.get_root_row_id_type(schema, table)
        if row_id_type != "random":
            raise NotColumnarError("its rows are identified by a hash of their content")
        if get_context_timezone_name() != _UTC:
            raise NotColumnarError("dlt is configured with another time zone than UTC")
        self._table = table
        self._schema = schema
        self._caps = caps
        self._load_id = load_id
        self._files = files
        if table in schema.tables:  # not if its contract discards new tables
            renew_normalizer(schema, table)
        self._rules = SchemaRules(schema)
        self._learner = SchemaLearner(schema, caps)
        self._arrow_types: dict[str, pa.DataType] = {}

    def flatten(self, records: Sequence[Any]) -> list[FlatTable]:
        """Return the tables of a page. Raises `NotColumnarError`."""
        return flatten_records(self._table, records, self._rules)

    def write(self, records: Sequence[Any], tables: Sequence[FlatTable]) -> None:
        """Write the tables of a page.

        Raises `NotColumnarError` if one of them can't be written; then none of them is.
        """
        self._learn_columns(tables, records)
        # all tables first: if one can't be written, the whole page is left to dlt
        arrow_tables: dict[str, pa.Table] = {}
        for flat in tables:
            arrow_tables[flat.table] = self._arrow_table(flat, arrow_tables)
        for name, rows in arrow_tables.items():
            self._files.add(name, rows)

    def _learn_columns(self, tables: Sequence[FlatTable], records: Sequence[Any]) -> None:
        """Let dlt infer new columns from the first record that has a value for each."""
        shown = sorted({row for flat in tables for row in self._rows_with_new_columns(flat)})
        if shown:
            # the order of the rows decides the types, and nested fields may now have tables
            self._learner.show(self._table, [records[row] for row in shown])
            self._rules.clear_nesting_cache()

    def _rows_with_new_columns(self, flat: FlatTable) -> list[int]:
        known = self._columns(flat.table)
        # even a table without fields of its own needs the columns that dlt adds
        rows = [] if known else [flat.root_rows[0]]
        is_complete = dlt_compat.is_complete_column
        for name, column in flat.columns.items():
            if column.types and not (name in known and is_complete(known[name])):
                first = next(row for row, value in enumerate(column.values) if value is not None)
                rows.append(flat.root_rows[first])
        return rows

    def _columns(self, table: str) -> TTableSchemaColumns:
        found = self._schema.tables.get(table)
        return found["columns"] if found else {}

    def _arrow_table(self, flat: FlatTable, parents: dict[str, pa.Table]) -> pa.Table:
        """Return a table with all its columns, in the schema's order.

        `parents` are the page's tables that came before, by name.
        """
        known = self._columns(flat.table)
        if known and self._schema.tables[flat.table].get("parent") != flat.parent:
            raise NotColumnarError(f"{flat.table} is also a table of its own")
        for name, values in flat.columns.items():
            if values.types and name not in known:
                raise NotColumnarError(f"{flat.table} has no column {name}")
        added = self._dlt_columns(flat, parents)
        arrays, fields = [], []
        for name, column in known.items():
            if not dlt_compat.is_complete_column(column):
                if name in flat.columns and flat.columns[name].types:
                    raise NotColumnarError(f"dlt did not infer the type of {name}")
                continue
            arrow_type = self._arrow_type(column)
            array = self._array(name, column, arrow_type, flat, added)
            nullable = dlt_compat.is_nullable_column(column)
            if array.null_count and not nullable:
                raise NotColumnarError(f"{name} must have a value and has none")
            arrays.append(array)
            fields.append(pa.field(name, arrow_type, nullable=nullable))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _array(
        self,
        name: str,
        column: TColumnSchema,
        arrow_type: pa.DataType,
        flat: FlatTable,
        added: dict[str, pa.Array],
    ) -> pa.Array:
        # the schema decides the type also of dlt's own columns
        if name in added:
            return added[name].cast(arrow_type)
        if name in flat.columns:
            return _to_array(flat.columns[name], column, arrow_type)
        return pa.nulls(flat.length, arrow_type)

    def _dlt_columns(self, flat: FlatTable, parents: dict[str, pa.Table]) -> dict[str, pa.Array]:
        """Return the columns that dlt adds: a row's id, its load, and its place below its parents."""
        names = self._rules.normalizer
        added: dict[str, pa.Array] = {names.c_dlt_id: _random_ids(flat.length)}
        if flat.parent is None:
            added[names.c_dlt_load_id] = pa.repeat(pa.scalar(self._load_id), flat.length)
            return added
        ids = parents[flat.parent][names.c_dlt_id]
        root_ids = parents[self._table][names.c_dlt_id]
        parent_rows = pa.array(flat.parent_rows, pa.int64())
        root_rows = pa.array(flat.root_rows, pa.int64())
        # `take` of a table's column gives chunks, and the columns of this table are plain arrays
        added[names.c_dlt_parent_id] = ids.take(parent_rows).combine_chunks()
        added[names.c_dlt_root_id] = root_ids.take(root_rows).combine_chunks()
        added[names.c_dlt_list_idx] = pa.array(flat.positions, pa.int64())
        return added

    def _arrow_type(self, column: TColumnSchema) -> pa.DataType:
        key = f"{column['data_type']} {column.get('precision')} {column.get('scale')} {column.get('timezone')}"
        if key not in self._arrow_types:
            self._arrow_types[key] = dlt_compat.get_py_arrow_datatype(column, self._caps, _UTC)
        return self._arrow_types[key]


_ID_CHARACTERS = 14  # the length of dlt's ten random bytes in base64, without padding
_ACCEPTED_TYPES: dict[str, frozenset[type]] = {
    "text": frozenset({str}),
    "bigint": frozenset({int}),
    "double": frozenset({float, int}),
    "bool": frozenset({bool}),
    "timestamp": frozenset({str}),
    "json": frozenset({dict, list}),
}


def _to_array(
    column_values: ColumnValues, column: TColumnSchema, arrow_type: pa.DataType
) -> pa.Array:
    """Return the values as an array of `arrow_type`, which is the type of dlt's `column`.

    Raises `NotColumnarError` if dlt would convert a value, store it in a variant column, or refuse
    it.
    """
    name, data_type = column["name"], str(column["data_type"])
    if not column_values.types:
        return pa.nulls(len(column_values.values), arrow_type)
    if not column_values.types <= _ACCEPTED_TYPES.get(data_type, frozenset()):
        found = ", ".join(sorted(type_.__name__ for type_ in column_values.types))
        raise NotColumnarError(f"{name} is {data_type} and got {found}")
    try:
        if data_type == "timestamp":
            array = _timestamp_array(column_values.values, arrow_type)
        elif data_type == "json":
            array = pa.array(column_values.texts, arrow_type)
        else:
            array = pa.array(column_values.values, arrow_type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise NotColumnarError(f"{name} is {data_type}: {error}") from None
    # JSON has no such numbers; Python's parser and dlt read `1e999` as infinity
    if data_type == "double" and not pc.all(pc.is_finite(array)).as_py():
        raise NotColumnarError(f"{name} has a number that is not finite")
    return array


def _random_ids(count: int) -> pa.Array:
    """Return row ids like dlt's own: random, in base64."""
    # one text for all ids, which Arrow cuts by offsets: far faster than a text for each
    text = base64.b64encode(secrets.token_bytes(count * _ID_CHARACTERS * 3 // 4 + 3))
    return pa.StringArray.from_buffers(count, _id_offsets(count), pa.py_buffer(text))


@lru_cache(maxsize=16)  # pages are of few sizes
def _id_offsets(count: int) -> pa.Buffer:
    """Return where each id starts in the text, and the end of the last."""
    return pa.array(range(0, (count + 1) * _ID_CHARACTERS, _ID_CHARACTERS), pa.int32()).buffers()[1]


def _timestamp_array(values: Sequence[Any], arrow_type: pa.TimestampType) -> pa.Array:
    """Return texts in ISO 8601 as moments. A text without a zone is UTC, as for dlt.

    Arrow parses texts with a zone only as moments, and texts without only as local times. So a
    column that mixes them raises `ArrowInvalid`.
    """
    texts = pa.array(values, pa.string())
    if arrow_type.tz is None:
        raise NotColumnarError("a time without a zone")
    try:
        return pc.cast(texts, arrow_type)
    except pa.ArrowInvalid:
        return pc.assume_timezone(pc.cast(texts, pa.timestamp(arrow_type.unit)), arrow_type.tz)


def renew_normalizer(schema: Schema, table: str) -> None:
    """Make dlt's normalizer know a table that came into the schema after the normalizer was made.

    `Schema.update_normalizers` does the same for all tables, in a time that grows with the square of
    their number.
    """
    schema.data_item_normalizer.extend_table(table)
    # a normalizer reads which keys it hands down to nested tables only when it is made
    schema.data_item_normalizer = type(schema.data_item_normalizer)(schema)


class SchemaLearner:
    """Lets a schema learn from rows what dlt's normalizer would, without writing them.

    dlt has no public way to do that, so a version of dlt may lack it: see dlt_compat.py.
    """

    def __init__(self, schema: Schema, caps: DestinationCapabilitiesContext) -> None:
        """Raises `NotColumnarError` if this version of dlt can't."""
        config = dlt_compat.NormalizeConfiguration()
        config.destination_capabilities = caps
        # storages are for writing, which `skip_write` leaves out
        no_storage: Any = None
        try:
            self._normalizer = dlt_compat.JsonLItemsNormalizer(
                no_storage, no_storage, no_storage, schema, "", config
            )
            self._learn = self._normalizer._normalize_chunk
        except (TypeError, AttributeError) as error:
            raise NotColumnarError(
                f"this version of dlt does not show its inference: {error}"
            ) from None

    def show(self, table: str, rows: Sequence[Any]) -> None:
        """Let the schema learn from rows of a root table, in their order.

        Raises `NotColumnarError` for rows that dlt refuses. When dlt loads them it refuses them
        again, with its own error.
        """
        try:
            # dlt's normalizer changes the rows that it is given
            self._learn(table, deepcopy(list(rows)), may_have_pua=False, skip_write=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, dlt raises it again row by row
            raise NotColumnarError(f"dlt refuses a row: {error}") from None
