"""The same file and the same well-behaved API through stock dlt and through us: the same rows."""

from pathlib import Path
from typing import Any, cast

import dlt
import duckdb
import pytest
from dlt.sources.rest_api import rest_api_source

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.destination.dlt_config import configure_dlt
from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.faults.shape_resources import CHILDREN, CURSORS, PAGES, SELECTORS
from restsource_dagster_tests.faults.shapes import Shapes
from restsource_dagster_tests.making import load, make_connector, reading, warehouse
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = [pytest.mark.faults(row=19), pytest.mark.on_destinations]

GROUPS = {
    "paginators": PAGES,
    "selectors": SELECTORS,
    "parents and children": CHILDREN,
    "cursors": CURSORS,
}


def load_with_stock_dlt(connector: Connector, destination: str, folder: Path) -> None:
    """Load into a DuckDB file, or into a schema beside ours."""
    configure_dlt()
    is_file = destination == "duckdb"
    path = str(folder / "theirs.duckdb")
    pipeline = dlt.pipeline(
        "shop",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.duckdb(path) if is_file else destination,
        dataset_name="stock",
    )
    source = rest_api_source(cast("Any", rest_api_config(connector)), name="shop", section="shop")
    pipeline.run(source, loader_file_format="parquet" if is_file else "insert_values")


def tables_of(connection: duckdb.DuckDBPyConnection, schema: str) -> dict[str, list[Any]]:
    """All rows of all tables, without what is dlt's or ours own."""
    found = {}
    tables = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = ? "
        "AND NOT starts_with(table_name, '_')",
        [schema],
    ).fetchall()
    for (table,) in tables:
        described = connection.execute(f'DESCRIBE "{schema}"."{table}"').fetchall()
        columns = [(name, kind) for name, kind, *_ in described if not name.startswith("_dlt")]
        names = ", ".join(f'"{name}"' for name, _ in sorted(columns))
        rows = connection.execute(f'SELECT {names} FROM "{schema}"."{table}"').fetchall()
        found[table] = [sorted(columns), sorted(rows, key=repr)]
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_a_well_behaved_api_gives_the_rows_that_stock_dlt_loads(
    api: ApiServer, settings: Settings, tmp_path: Path, destination: str, group: str
) -> None:
    shapes = Shapes(api, flat=group in ("cursors", "paginators"))
    connector = make_connector(api.url, *GROUPS[group])
    for _ in range(1 if group in ("paginators", "selectors") else 2):
        load_with_stock_dlt(connector, settings.destination, tmp_path)
        outcomes = load(connector, settings)
        failures = {name: outcome.failure for name, outcome in outcomes.items() if outcome.failed}
        assert failures == {}
        is_file = destination == "duckdb"
        with reading(tmp_path / "theirs.duckdb") if is_file else warehouse(settings) as connection:
            stock = tables_of(connection, "stock")
        with warehouse(settings) as connection:
            ours = tables_of(connection, "shop")
        assert set(ours) == set(stock)
        for table, content in stock.items():
            assert ours[table] == content, table
        shapes.grow()
