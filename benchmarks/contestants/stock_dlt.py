"""Stock dlt: its `rest_api` source and a pipeline, as in its documentation."""

from typing import Any

import dlt
import duckdb  # noqa: F401 - imported before the clock starts
import pyarrow.parquet  # noqa: F401 - imported before the clock starts
from dlt.destinations import duckdb as duckdb_destination
from dlt.sources.rest_api import rest_api_source

from benchmarks.contestants.clock import Clock, read_orders


def main() -> None:
    """Load the API once."""
    orders = read_orders()
    clock = Clock()
    config: Any = {
        "client": {**orders.get("client", {}), "base_url": orders["base_url"]},
        "resources": orders["resources"],
    }
    source = rest_api_source(
        config,
        name="shop",
        **orders.get("source", {}),
    )
    pipeline = dlt.pipeline(
        "shop",
        destination=_destination(orders),
        dataset_name="shop",
        pipelines_dir=f"{orders['folder']}/pipelines",
    )
    file_format: Any = orders.get("loader_file_format")
    pipeline.run(source, loader_file_format=file_format)
    clock.stop(orders, extract_wall=_seconds_of(pipeline, "extract"))


def _destination(orders: dict[str, Any]) -> Any:
    """Return the DuckDB file, or dlt's name of a destination whose credentials are in the environment."""
    name = orders.get("destination", "duckdb")
    return duckdb_destination(orders["database"]) if name == "duckdb" else name


def _seconds_of(pipeline: dlt.Pipeline, step: str) -> float:
    """Return the seconds of a step in dlt's own trace."""
    trace = pipeline.last_trace
    assert trace is not None
    [found] = [one for one in trace.steps if one.step == step]
    assert found.finished_at is not None
    return (found.finished_at - found.started_at).total_seconds()


if __name__ == "__main__":
    main()
