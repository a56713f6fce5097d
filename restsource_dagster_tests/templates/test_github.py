"""The template `github` leaves the tables that the API has, run after run."""

import json

import pytest

from restsource_dagster.connector.loader import load_file
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.templates.github import TABLES, GitHub


@pytest.mark.parametrize("seed", range(2))
def test_tables_are_those_of_the_api_after_each_run(
    api: ApiServer, settings: Settings, seed: int
) -> None:
    file = {
        "template": "github",
        "inputs": {
            "owner": "acme",
            "repo": "rocket",
            "token": "${GITHUB_TOKEN}",
            "base_url": api.url,
        },
        "schedule": {"mode": "manual"},
        "resource_defaults": {"endpoint": {"params": {"per_page": 7}}},
    }
    settings.configs.mkdir()
    (settings.configs / "rocket.json").write_text(json.dumps(file))
    connector = load_file(settings.configs / "rocket.json").connector
    assert connector is not None
    github = GitHub(api, seed)
    for changes in (80, 30, 0):
        github.change(changes)
        api.seen.clear()
        outcomes = load(connector, settings, environment={"GITHUB_TOKEN": "t0ken"})
        assert [outcome.failure for outcome in outcomes.values() if outcome.failure] == []
        for table, name in TABLES.items():
            if table == "commits":
                columns = "sha, commit__message"
                truth = [
                    (one["sha"], one["commit"]["message"]) for one in github.lists[name].values()
                ]
            else:
                columns = "id, body"
                truth = [(one["id"], one["body"]) for one in github.lists[name].values()]
            stored = query(settings, f"SELECT {columns} FROM rocket.{table}")
            assert sorted(stored) == sorted(truth), table
    # at rest one page of each list that is read from its cursor
    for name in ("issues", "issues/comments", "pulls/comments", "commits"):
        assert len(api.asked(f"/repos/acme/rocket/{name}")) == 1, name
