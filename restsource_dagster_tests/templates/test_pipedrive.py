"""The template `pipedrive` leaves the tables that the API has, run after run."""

import json

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.templates.histories import Difference
from restsource_dagster_tests.templates.pipedrive import Pipedrive


def connector_of(world: Pipedrive, settings: Settings) -> Connector:
    settings.configs.mkdir()
    path = settings.configs / "crm.json"
    path.write_text(json.dumps(world.file))
    connector = load_file(path).connector
    assert connector is not None
    return connector


def test_tables_are_those_of_the_api_after_each_run(api: ApiServer, settings: Settings) -> None:
    world = Pipedrive(api, 0, resources=["*"])
    connector = connector_of(world, settings)
    for changes in (40, 30, 0):
        world.change(changes)
        world.busy = 2
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
    answered = len(api.asked("/api/v2/deals")) + len(api.asked("/api/v2/deals/products")) - 2
    assert answered <= 2  # those that were too many


def test_a_run_without_tokens_asks_no_further_and_the_next_day_loads_all(
    api: ApiServer, settings: Settings
) -> None:
    world = Pipedrive(api, 1, resources=["*"])
    connector = connector_of(world, settings)
    world.change(80)
    # a list that never had a row has no table
    lists = [name for name in ("persons", "products", "stages", "leads") if world.lists[name]]
    world.tokens = 25
    outcomes = load(connector, settings, resources=lists)
    failed = {name: str(outcome.failure) for name, outcome in outcomes.items() if outcome.failed}
    assert failed
    assert all("3600" in told or "3,600" in told for told in failed.values()), failed
    # nobody is locked out: a refusal is not answered with more requests
    assert world.refused_in_a_row <= len(lists)
    world.tokens = 10_000
    outcomes = load(connector, settings, resources=lists)
    assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []
    for name in lists:
        stored = query(settings, f"SELECT id FROM crm.{name}")
        assert sorted(stored) == sorted((key,) for key in world.lists[name]), name
