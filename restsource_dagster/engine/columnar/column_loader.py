"""Stands between a resource's pages and dlt: takes what can be columns, passes on the rest."""

from collections.abc import Callable, Iterator
from typing import Any

import dlt
from dlt.common.destination import DestinationCapabilitiesContext

from restsource_dagster.engine.columnar.flatten import NotColumnarError
from restsource_dagster.engine.columnar.parquet_files import ParquetFiles
from restsource_dagster.engine.columnar.table_writer import TableWriter
from restsource_dagster.engine.columnar.verification import FlattenedRecords, is_verified
from restsource_dagster.engine.dlt_compat import Container, UnsupportedDltError
from restsource_dagster.engine.http.json_body import UnverifiedRecords

__all__ = ["ColumnLoader"]


class ColumnLoader:
    """The pages of one resource during one load.

    Once a page is left to dlt all others are: types are inferred in the order of the rows.
    """

    def __init__(self, table: str, parts: ParquetFiles, say: Callable[[str], None]) -> None:
        self._table = table
        self._parts = parts
        self._say = say
        self._writer: TableWriter | None = None
        self.refusal: str | None = None
        """Why rows are loaded as rows; None as long as they are not."""
        self.rows = 0
        """The rows taken."""

    def load(self, items: Iterator[Any]) -> Iterator[Any]:
        """Take what can be columns out of what a resource yields; the rest goes on.

        Run it where the resource runs, inside dlt's extraction.
        """
        for item in items:
            if item and self.refusal is None:
                if self._writer is None:
                    # so that the table is there with its hints when the first page is looked at
                    yield dlt.mark.materialize_table_schema()
                if self._take(item):
                    continue
            yield item

    def spread(self, records: UnverifiedRecords) -> FlattenedRecords | None:
        """A page as sheets, if it can be columns and reading it fast lost nothing."""
        if self._writer is None or self.refusal is not None:
            return None
        try:
            sheets = self._writer.spread(records)
        except NotColumnarError:
            return None  # said when the rows come by
        return FlattenedRecords.of(records, sheets) if is_verified(records, sheets) else None

    def _take(self, records: list[Any]) -> bool:
        try:
            self._writer = self._writer or self._opened()
            known = records.sheets if isinstance(records, FlattenedRecords) else None
            self._writer.write(records, known or self._writer.spread(records))
        except (NotColumnarError, UnsupportedDltError) as error:
            self._fall_back(str(error))
            return False
        self.rows += len(records)
        return True

    def _opened(self) -> TableWriter:
        schema = dlt.current.source_schema()
        return TableWriter(
            schema.naming.normalize_table_identifier(self._table),
            schema,
            Container()[DestinationCapabilitiesContext],
            dlt.current.load_package_state()["load_id"],
            self._parts,
        )

    def _fall_back(self, reason: str) -> None:
        if self.refusal is None:
            self.refusal = reason
            if self.rows:
                self._say(f"{self._table}: the rows that follow are loaded one by one: {reason}")
