"""Write the parquet files of one load in bounded batches, and move them into dlt's load package."""

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
        """Move all files into the extracted load package in that folder, as new load jobs."""
        for table in list(self._open):
            self._close_file(table)
        for path in self._done:
            path.replace(package / dlt_compat.PackageStorage.NEW_JOBS_FOLDER / path.name)
        self._done.clear()

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
