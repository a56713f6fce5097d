"""The template `pipedrive` leaves the tables that the API has, run after run."""

import json

from restsource_dagster.connector.loader import load_file
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.templates.histories import Difference
from restsource_dagster_tests.templates.pipedrive import Pipedrive


def test_tables_are_those_of_the_api_after_each_run(api: ApiServer, settings: Settings) -> None:
    world = Pipedrive(api, 0)
    settings.configs.mkdir()
    path = settings.configs / "crm.json"
    path.write_text(json.dumps(world.file))
    connector = load_file(path).connector
    assert connector is not None
    for changes in (40, 30, 0):
        world.change(changes)
        api.seen.clear()
        outcomes = load(connector, settings)
        assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []
        expected = world.expected()
        made = query(settings, "SELECT table_name FROM information_schema.tables")
        found = {
            table: query(settings, f"SELECT {columns} FROM crm.{table}") if (table,) in made else []
            for table, columns in world.columns.items()
        }
        assert Difference.between(expected, found) == []
    # at rest one page of deals, and one call for the products of all of those at the boundary
    assert len(api.asked("/api/v2/deals")) == len(api.asked("/api/v2/deals/products")) == 1
