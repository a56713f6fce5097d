"""Load parquet files into Postgres by COPY, each value as it is in the file.

dlt's own way for parquet needs the ADBC driver and makes json columns of jsonb ones; its way for csv
reads empty texts as nulls. Arrow writes a batch of rows as csv, in which all texts are in quotes: an
empty text is `""`, and what is not there is null.
"""

import io
from collections.abc import Iterator
from typing import Any, cast

import psycopg2
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from restsource_dagster.engine.dlt_compat import HasFollowupJobs, RunnableLoadJob

__all__ = ["CopyJob"]

_BATCH_ROWS = 5_000
_READ_BYTES = 128 * 1024
_CSV = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")


class CopyJob(RunnableLoadJob, HasFollowupJobs):
    """Copies one parquet file into its table, in one transaction."""

    def run(self) -> None:
        """Copy the rows. Raises dlt's errors of the destination."""
        client: Any = cast("Any", self._job_client).sql_client
        with pq.ParquetFile(self._file_path) as file:
            columns = ", ".join(map(client.escape_column_name, file.schema_arrow.names))
            table = client.make_qualified_table_name(self.load_table_name)
            statement = f"COPY {table} ({columns}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')"
            with client.begin_transaction():
                try:
                    with client.native_connection.cursor() as cursor:
                        cursor.copy_expert(statement, _CsvReader(file), size=_READ_BYTES)
                except psycopg2.Error as error:
                    # dlt tries again after errors that may pass, and only after those
                    raise client._make_database_exception(error) from error


class _CsvReader:
    """The rows of a parquet file as csv, batch by batch: the file object that psycopg2 reads."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._batches: Iterator[pa.RecordBatch] = file.iter_batches(_BATCH_ROWS)
        self._csv = io.BytesIO()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none after the last row."""
        while not (found := self._csv.read(size)):
            batch = next(self._batches, None)
            if batch is None:
                return b""
            self._csv = io.BytesIO()
            pyarrow.csv.write_csv(_printable(batch), self._csv, _CSV)
            self._csv.seek(0)
        return found


def _printable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with bytes written as Postgres reads them: `\\x` and two digits for each."""
    arrays = [
        pa.array([None if item is None else f"\\x{item.hex()}" for item in array.to_pylist()])
        if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)
        else array
        for array in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
