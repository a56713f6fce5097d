"""Parquet files of one load, by table: written in bounded batches, then given to dlt's package."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from restsource_dagster.engine import dlt_compat

__all__ = ["ParquetFiles"]

_ROW_GROUP_ROWS = 60_000
_ROW_GROUP_BYTES = 32 * 1024 * 1024


@dataclass
class _ParquetFile:
    """One file. A table has several if its columns change on the way."""

    table: str
    writer: pq.ParquetWriter
    path: Path
    waiting: list[pa.Table] = field(default_factory=list)
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
    """The files of one load in `folder`. Memory holds no more than one row group per table.

    A `with` statement; its end closes the files. Those that were not moved stay where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, _ParquetFile] = {}
        self._done: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for table in list(self._open):
            self._finish(table)

    def add(self, table: str, rows: pa.Table) -> None:
        """Write rows of a table."""
        part = self._open.get(table)
        if part is None or part.writer.schema != rows.schema:
            self._finish(table)
            part = self._open[table] = self._new(table, rows.schema)
        part.add(rows)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        return not (self._open or self._done)

    def move_into(self, package: Path) -> None:
        """Give all files to the extracted load package in that folder."""
        for table in list(self._open):
            self._finish(table)
        for path in self._done:
            path.replace(package / dlt_compat.PackageStorage.NEW_JOBS_FOLDER / path.name)
        self._done.clear()

    def _new(self, table: str, schema: pa.Schema) -> _ParquetFile:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = dlt_compat.PackageStorage.build_job_file_name(
            table, dlt_compat.ParsedLoadJobFileName.new_file_id(), loader_file_format="parquet"
        )
        path = self._folder / name
        writer = pq.ParquetWriter(path, schema, compression="none", use_dictionary=False)
        return _ParquetFile(table, writer, path)

    def _finish(self, table: str) -> None:
        part = self._open.pop(table, None)
        if part is not None:
            part.close()
            self._done.append(part.path)
