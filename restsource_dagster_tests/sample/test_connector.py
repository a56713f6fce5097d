"""The shipped connector, taken as it is to dlt itself."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from restsource_dagster_tests.servers.datasette import SampleServer

CONNECTOR = Path(__file__).resolve().parents[2] / "configs" / "nyc_flights.json"
TABLES = ("flights", "weather", "planes", "airports", "airlines")


def load(server: SampleServer, folder: Path) -> dict[str, int]:
    """Run dlt once and return the number of rows per table afterwards."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    text = CONNECTOR.read_text(encoding="utf-8")
    for name, value in server.environment.items():
        text = text.replace(f"${{{name}}}", value)
    whole = json.loads(text)
    config: Any = {key: whole[key] for key in ("client", "resource_defaults", "resources")}
    for resource in config["resources"]:
        resource["write_disposition"] = "merge"
    database = folder / "warehouse.duckdb"
    pipeline = dlt.pipeline(
        "nyc_flights",
        destination=dlt.destinations.duckdb(str(database)),
        pipelines_dir=str(folder / "pipelines"),
        dataset_name="nyc_flights",
    )
    pipeline.run(rest_api_source(config), loader_file_format="parquet")
    with duckdb.connect(str(database)) as connection:
        return {table: _count(connection, table) for table in TABLES}


def _count(connection: Any, table: str) -> int:
    query = f"select count(*) from nyc_flights.{table}"
    return int(connection.execute(query).fetchone()[0])


def test_dlt_loads_the_counts_of_the_api_and_later_only_adds_what_is_new(
    server: SampleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    first = load(server, tmp_path)
    assert first == {table: server.count(table) for table in TABLES}
    server.set_clock(datetime.now(UTC) + timedelta(hours=4))
    second = load(server, tmp_path)
    assert second == {table: server.count(table) for table in TABLES}
    assert second["flights"] > first["flights"]
    assert second["weather"] > first["weather"]
