"""The template `pipedrive` leaves the tables that the API has, run after run."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.templates import find_shipped_template
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.servers.authlib_server import CLIENT_ID, CLIENT_SECRET, OAuthServer
from restsource_dagster_tests.servers.faults import FaultServer
from restsource_dagster_tests.templates.histories import Difference
from restsource_dagster_tests.templates.pipedrive import Pipedrive


def connector_of(settings: Settings, file: Mapping[str, Any]) -> Connector:
    settings.configs.mkdir()
    path = settings.configs / "crm.json"
    path.write_text(json.dumps(file))
    connector = load_file(path).connector
    assert connector is not None
    return connector


def test_tables_are_those_of_the_api_after_each_run(api: ApiServer, settings: Settings) -> None:
    world = Pipedrive(api, 0, resources=["*"])
    connector = connector_of(settings, world.file)
    for changes in (40, 30, 0):
        world.change(changes)
        world.busy = 2
        api.seen.clear()
        outcomes = load(connector, settings)
        assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []
        gone = [key for key, one in world.deals.items() if one["status"] == "deleted"]
        assert not any(api.asked(f"/api/v1/deals/{key}/participants") for key in gone)
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
    connector = connector_of(settings, world.file)
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


def test_no_more_tokens_of_a_day_are_spent_than_the_file_allows(
    api: ApiServer, settings: Settings
) -> None:
    """The next day's run goes on; the API, which has as many tokens, refuses nothing."""
    world = Pipedrive(
        api, 0, resources=["deals", "deal_participants", "archived_deals", "deal_fields"]
    )
    budget = 300
    inputs = {**world.file["inputs"], "tokens_per_day": budget}
    connector = connector_of(settings, {**world.file, "inputs": inputs})
    world.change(40)
    ended = []
    for _ in range(30):
        world.tokens = budget
        outcomes = load(connector, settings)
        failed = [str(one.failure) for one in outcomes.values() if one.failed]
        assert all("the limit of 300 in 86,400 s" in told for told in failed), failed
        assert world.refused_in_a_row == 0
        ended.append(not failed)
        if not failed:
            break
        # a day passes
        shutil.rmtree(settings.state_dir / "requests")
    assert ended[0] is False
    assert ended[-1] is True
    expected = world.expected()
    found = {
        table: query(settings, f"SELECT {columns} FROM crm.{table}")
        for table, columns in world.columns.items()
    }
    assert Difference.between(expected, found) == []


def test_tokens_of_oauth_take_the_place_of_the_api_token(
    api: ApiServer, settings: Settings
) -> None:
    world = Pipedrive(api, 0, resources=["notes", "stages"])
    with FaultServer() as place:
        desk = OAuthServer(place, "client_secret_basic")
        world.access_tokens = desk.access_tokens
        login = {
            "type": "oauth2_refresh_token",
            "access_token_url": desk.token_url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "client_authentication": "basic",
            "refresh_token": "c4n4ry-refresh-0",
        }
        inputs = {name: text for name, text in world.file["inputs"].items() if name != "token"}
        client = {**world.file["client"], "auth": login}
        connector = connector_of(settings, {**world.file, "inputs": inputs, "client": client})
        for refreshes in (1, 2):
            world.change(40)
            outcomes = load(connector, settings)
            assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []
            # a list that never had a row has no table
            for name in filter(world.lists.get, ("notes", "stages")):
                stored = query(settings, f"SELECT id FROM crm.{name}")
                assert sorted(stored) == sorted((key,) for key in world.lists[name]), name
            assert len(desk.refreshes) == refreshes
            # Pipedrive's last for an hour
            desk.access_tokens.clear()
    assert not any("x-api-token" in seen.headers for seen in api.seen)


def test_lists_may_be_read_by_what_changed(api: ApiServer, settings: Settings) -> None:
    (limit,) = [one for one in find_shipped_template("pipedrive").head.limits if "override" in one]
    changes_only = json.loads(limit[limit.index("{") : limit.rindex("}") + 1])
    lists = ("persons", "organizations", "activities")
    resources = [{**changes_only, "name": name} for name in lists]
    world = Pipedrive(api, 0, [*resources, "person_fields", "organization_fields"])
    connector = connector_of(settings, world.file)
    known: dict[str, dict[int, str]] = {name: {} for name in lists}
    for changes in (60, 60, 0):
        world.change(changes)
        api.seen.clear()
        outcomes = load(connector, settings)
        assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []
        for name in lists:
            # what is deleted stays, as the API doesn't tell it
            known[name] |= {key: one["name"] for key, one in world.lists[name].items()}
        for name in filter(known.get, lists):
            stored = query(settings, f"SELECT id, name FROM crm.{name}")
            assert sorted(stored) == sorted(known[name].items()), name
    assert [len(api.asked(f"/api/v2/{name}")) for name in lists] == [1, 1, 1]
