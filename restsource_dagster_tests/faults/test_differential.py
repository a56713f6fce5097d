"""The same file and the same well-behaved API through stock dlt and through us: the same rows."""

from pathlib import Path
from typing import Any, cast

import dlt
import pytest
from dlt.sources.rest_api import rest_api_source

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.destination.dlt_config import configure_dlt
from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.faults.shape_resources import CHILDREN, CURSORS, PAGES, SELECTORS
from restsource_dagster_tests.faults.shapes import Shapes
from restsource_dagster_tests.making import load, make_connector, reading
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=19)

GROUPS = {
    "paginators": PAGES,
    "selectors": SELECTORS,
    "parents and children": CHILDREN,
    "cursors": CURSORS,
}


def load_with_stock_dlt(connector: Connector, folder: Path) -> None:
    configure_dlt()
    pipeline = dlt.pipeline(
        "shop",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.duckdb(str(folder / "stock.duckdb")),
        dataset_name="shop",
    )
    source = rest_api_source(cast("Any", rest_api_config(connector)), name="shop", section="shop")
    pipeline.run(source, loader_file_format="parquet")


def tables_of(database: Path) -> dict[str, list[Any]]:
    """All rows of all tables, without what is dlt's or ours own."""
    found = {}
    with reading(database) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' "
            "AND NOT starts_with(table_name, '_')"
        ).fetchall()
        for (table,) in tables:
            described = connection.execute(f'DESCRIBE shop."{table}"').fetchall()
            columns = [(name, kind) for name, kind, *_ in described if not name.startswith("_dlt")]
            names = ", ".join(f'"{name}"' for name, _ in sorted(columns))
            rows = connection.execute(f'SELECT {names} FROM shop."{table}"').fetchall()
            found[table] = [sorted(columns), sorted(rows, key=repr)]
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_a_well_behaved_api_gives_the_rows_that_stock_dlt_loads(
    api: ApiServer, settings: Settings, tmp_path: Path, group: str
) -> None:
    shapes = Shapes(api, flat=group in ("cursors", "paginators"))
    connector = make_connector(api.url, *GROUPS[group])
    for _ in range(1 if group in ("paginators", "selectors") else 2):
        load_with_stock_dlt(connector, tmp_path)
        outcomes = load(connector, settings)
        failures = {name: outcome.failure for name, outcome in outcomes.items() if outcome.failed}
        assert failures == {}
        stock = tables_of(tmp_path / "stock.duckdb")
        ours = tables_of(settings.data_dir / "warehouse.duckdb")
        assert set(ours) == set(stock)
        for table, content in stock.items():
            assert ours[table] == content, table
        shapes.grow()
