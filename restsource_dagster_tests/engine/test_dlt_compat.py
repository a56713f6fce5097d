"""Each undocumented part of dlt that the engine uses, as the installed version has it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa

from restsource_dagster.engine.dlt_compat import count_normalized_rows, get_context_timezone_name


def test_get_context_timezone_name_is_utc_by_default() -> None:
    assert get_context_timezone_name() == "UTC"


def test_count_normalized_rows_counts_every_file_of_a_table(tmp_path: Path) -> None:
    """Files of other tables come between the two of `orders`."""

    def orders() -> Iterator[Any]:
        yield pa.table({"id": [1, 2]})
        yield [{"id": 3}]

    pipeline = dlt.pipeline("counted", pipelines_dir=str(tmp_path), destination="duckdb")
    resources = [dlt.resource(orders), dlt.resource([{"id": 1}], name="parts")]
    pipeline.extract(resources, loader_file_format="parquet")
    counts = count_normalized_rows(pipeline.normalize())
    assert (counts["orders"], counts["parts"]) == (3, 1)
