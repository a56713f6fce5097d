"""The smaller templates leave the tables that their APIs have, run after run, through their refusals."""

import json

import pytest

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.templates.gallery import GALLERY
from restsource_dagster_tests.templates.histories import Difference, Tables
from restsource_dagster_tests.templates.stand_ins import TOKEN, StandIn

RIGHT, WRONG = {"TOKEN": TOKEN}, {"TOKEN": "an0ther"}


def connector_of(world: StandIn, settings: Settings) -> Connector:
    settings.configs.mkdir()
    path = settings.configs / "world.json"
    path.write_text(json.dumps(world.file).replace(TOKEN, "${TOKEN}"))
    loaded = load_file(path)
    assert loaded.connector is not None, loaded.problems
    return loaded.connector


def found_tables(world: StandIn, settings: Settings) -> Tables:
    made = query(settings, "SELECT table_name FROM information_schema.tables")
    return {
        table: query(settings, f"SELECT {columns} FROM world.{table}")
        if (table.split()[0],) in made
        else []
        for table, columns in world.columns.items()
    }


def failures(
    connector: Connector, settings: Settings, environment: dict[str, str] = RIGHT, *names: str
) -> list[str]:
    outcomes = load(connector, settings, environment=environment, resources=names or None)
    return [str(outcome.failure) for outcome in outcomes.values() if outcome.failed]


@pytest.mark.parametrize("make_world", GALLERY, ids=lambda one: one.template)
def test_tables_are_those_of_the_api_after_each_run(
    api: ApiServer, settings: Settings, make_world: type[StandIn]
) -> None:
    world = make_world(api, 0)
    connector = connector_of(world, settings)
    world.change(60)
    (refused,) = failures(connector, settings, WRONG, connector.resources[0].name)
    assert world.refusal in refused
    world.busy = 1
    assert failures(connector, settings) == []
    assert world.busy == 0
    assert Difference.between(world.expected(), found_tables(world, settings)) == []
    world.change(40)
    if world.expired_cursor is not None:
        # a run that meets an expired cursor fails, and the next one begins anew
        world.has_expired = True
        assert failures(connector, settings)
        world.has_expired = False
    assert failures(connector, settings) == []
    assert Difference.between(world.expected(), found_tables(world, settings)) == []
