"""The template `zendesk` leaves the tables that the API has, run after run."""

import json
from typing import Any

import pytest

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.templates.zendesk import ACCESS_TOKEN, LISTS, START, Zendesk

ENVIRONMENT = {"ZENDESK_TOKEN": "t0ken"}


def connector_of(api: ApiServer, settings: Settings, **inputs: Any) -> Connector:
    """The connector of a file that uses the template at the server's address."""
    file = {
        "template": "zendesk",
        "inputs": {
            "subdomain": "acme",
            "email": "ann@acme.example",
            "token": "${ZENDESK_TOKEN}",
            "start": START,
            "requests_per_minute": 10_000,
            "exports_per_minute": 10_000,
            **inputs,
        },
        "client": {"base_url": f"{api.url}/api/v2"},
        "schedule": {"mode": "manual"},
    }
    settings.configs.mkdir(exist_ok=True)
    (settings.configs / "desk.json").write_text(json.dumps(file))
    connector = load_file(settings.configs / "desk.json").connector
    assert connector is not None
    return connector


def ids(settings: Settings, table: str, columns: str = "id") -> list[Any]:
    rows = query(settings, f"SELECT {columns} FROM desk.{table} ORDER BY ALL")
    return [row[0] if len(row) == 1 else row for row in rows]


EXPORTS = (
    "tickets",
    "ticket_comments",
    "ticket_events",
    "ticket_metric_events",
    "users",
    "organizations",
)


@pytest.mark.parametrize("seed", range(2))
def test_tables_are_those_of_the_api_after_each_run(
    api: ApiServer, settings: Settings, seed: int
) -> None:
    connector, desk = connector_of(api, settings), Zendesk(api, seed)
    for changes in (60, 30, 0):
        desk.change(changes)
        api.seen.clear()
        outcomes = load(connector, settings, resources=EXPORTS, environment=ENVIRONMENT)
        assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []
        living = {key: one for key, one in desk.tickets.items() if one["status"] != "deleted"}
        assert ids(settings, "tickets", "id, subject") == sorted(
            (key, one["subject"]) for key, one in living.items()
        )
        for key in desk.tickets.keys() - living.keys():
            # it would be refused
            assert not api.asked(f"/api/v2/tickets/{key}/comments.json")
        comments = [one["id"] for key in living for one in desk.comments[key]]
        assert ids(settings, "ticket_comments") == sorted(comments)
        assert dict(ids(settings, "ticket_events", "id, ticket_id")) == desk.child_events
        assert ids(settings, "ticket_metric_events") == sorted(desk.metric_events)
        for table in ("users", "organizations"):
            records = getattr(desk, table)
            truth = sorted((key, one["name"]) for key, one in records.items())
            assert ids(settings, table, "id, name") == truth, table


def test_lists_are_those_of_the_api_after_each_run(api: ApiServer, settings: Settings) -> None:
    connector, desk = connector_of(api, settings), Zendesk(api, 3)
    lists = [resource.name for resource in connector.resources if resource.name not in EXPORTS]
    for _ in range(2):
        desk.change(150)
        outcomes = load(connector, settings, resources=lists, environment=ENVIRONMENT)
        assert [outcome.failure for outcome in outcomes.values() if outcome.failed] == []
        for table in LISTS:
            assert ids(settings, table) == sorted(desk.living(table)), table
    assert len(desk.living("groups")) < len(desk.lists["groups"])
    assert ids(settings, "tags", "name") == ["vip"]
    assert ids(settings, "ticket_forms") == [1]
    assert ids(settings, "custom_objects", "key") == sorted(desk.objects)
    records = {key for each in desk.objects.values() for key in each}
    assert len(records) > 7  # more than a page
    assert ids(settings, "custom_object_records") == sorted(records)


def test_an_access_token_of_oauth_takes_the_place_of_email_and_api_token(
    api: ApiServer, settings: Settings
) -> None:
    desk = Zendesk(api, 0)
    file = {
        "template": "zendesk",
        "inputs": {"subdomain": "acme"},
        "client": {
            "base_url": f"{api.url}/api/v2",
            "auth": {"type": "bearer", "token": ACCESS_TOKEN},
        },
        "schedule": {"mode": "manual"},
        "resources": ["groups"],
    }
    settings.configs.mkdir()
    (settings.configs / "desk.json").write_text(json.dumps(file))
    connector = load_file(settings.configs / "desk.json").connector
    assert connector is not None
    outcomes = load(connector, settings)
    assert outcomes["groups"].failure is None
    assert ids(settings, "groups") == sorted(desk.living("groups"))


def test_deleted_tickets_may_stay_with_a_flag(api: ApiServer, settings: Settings) -> None:
    connector, desk = connector_of(api, settings, remove_deleted=False), Zendesk(api, 1)
    for _ in range(2):
        desk.change(40)
        load(connector, settings, resources=["tickets"], environment=ENVIRONMENT)
    deleted = [key for key, one in desk.tickets.items() if one["status"] == "deleted"]
    assert deleted
    assert ids(settings, "tickets") == sorted(desk.tickets)
    assert ids(settings, "tickets WHERE is_deleted") == sorted(deleted)


def test_each_ticket_of_each_page_and_run_has_what_is_loaded_at_its_side(
    api: ApiServer, settings: Settings
) -> None:
    connector = connector_of(api, settings, ticket_side_loads="metric_sets,comment_count")
    desk = Zendesk(api, 1)
    for changes in (60, 20):
        desk.change(changes)
        load(connector, settings, resources=["tickets"], environment=ENVIRONMENT)
    living = [key for key, one in desk.tickets.items() if one["status"] != "deleted"]
    assert len(living) > 7  # more than a page
    truth = sorted((key, key % 5) for key in living)
    assert ids(settings, "tickets", "id, metric_set__reopens") == truth


def test_exports_keep_to_their_limit_beside_that_of_the_account(
    api: ApiServer, settings: Settings
) -> None:
    limits = connector_of(api, settings, exports_per_minute=10).http.rate_limits
    assert [(one.requests, one.per, one.match) for one in limits] == [
        (10_000, "60s", "*"),
        (10, "60s", "incremental/*"),
    ]
