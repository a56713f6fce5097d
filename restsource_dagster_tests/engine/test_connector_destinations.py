"""Connectors of one folder that load into several destinations: the file names one, or the settings do."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from restsource_dagster.engine.run.reset import reset_resources
from restsource_dagster.settings import Settings, destination_type
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

ORDERS: dict[str, Any] = {"name": "orders", "primary_key": "id"}


def test_two_connectors_load_into_two_destinations(
    api: ApiServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive.db"
    monkeypatch.setenv("DESTINATION__ARCHIVE__DESTINATION_TYPE", "duckdb")
    monkeypatch.setenv("DESTINATION__ARCHIVE__CREDENTIALS", f"duckdb:///{archive}")
    api.answers["/orders"] = [{"id": 1, "v": 1}]
    live = make_connector(api.url, ORDERS)
    kept = replace(make_connector(api.url, ORDERS, name="kept"), destination="archive")
    for connector in (live, kept):
        outcome = load(connector, settings)["orders"]
        assert outcome.failure is None
        assert outcome.row_count == 1
        # the type's own checks are asked
        assert outcome.facts is not None
        assert outcome.facts.key is not None
    assert outcome.destination == "archive"
    assert query(
        settings,
        "SELECT DISTINCT schema_name FROM information_schema.schemata WHERE "
        "schema_name IN ('shop', 'kept')",
    ) == [("shop",)]
    with duckdb.connect(str(archive)) as connection:
        assert connection.execute("SELECT id FROM kept.orders").fetchall() == [(1,)]
    assert reset_resources(kept, None, settings, environment=dict(os.environ)) == ("orders",)
    with duckdb.connect(str(archive)) as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("SELECT id FROM kept.orders")
    assert query(settings, "SELECT id FROM shop.orders") == [(1,)]


def test_the_type_of_a_destination_is_found_where_dlt_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / ".dlt").mkdir()
    file = tmp_path / ".dlt" / "config.toml"
    file.write_text('[destination.crm]\ndestination_type = "postgres"\n')
    assert destination_type("crm") == "postgres"
    assert destination_type("duckdb") == "duckdb"
    file.write_text('[destination.crm]\ndestination_type = "dlt.destinations.clickhouse"\n')
    assert destination_type("crm") == "clickhouse"
    monkeypatch.setenv("DESTINATION__CRM__DESTINATION_TYPE", "mssql")
    assert destination_type("crm") == "mssql"
    file.write_text("[destination")
    assert destination_type("other") == "other"
