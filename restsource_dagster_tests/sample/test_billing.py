"""The sample's second database, and the connector of the tutorial that loads it."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.connector.loader import load_file
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.datasette import ROOT, serve_sample
from sample.billing import CUSTOMERS, INVOICES, seed_billing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def billing(tmp_path: Path) -> Path:
    database = tmp_path / "billing.db"
    seed_billing(database, now=NOW)
    set_clock(database, NOW)
    return database


def set_clock(database: Path, moment: datetime) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update clock set moment = ?", (f"{moment:%Y-%m-%dT%H:%M:%S}",))


def ask(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def test_customers_are_there_and_invoices_appear_as_time_passes(billing: Path) -> None:
    assert ask(billing, "select count(*) from customers") == [(CUSTOMERS,)]
    [(at_first,)] = ask(billing, "select count(*) from invoices")
    assert 0 < at_first < INVOICES
    set_clock(billing, NOW + timedelta(days=1))
    [(a_day_later,)] = ask(billing, "select count(*) from invoices")
    assert a_day_later > at_first


def test_seeding_again_leaves_the_database_as_it_is(billing: Path) -> None:
    before = billing.stat().st_mtime_ns
    seed_billing(billing, now=NOW + timedelta(days=5))
    assert billing.stat().st_mtime_ns == before


def test_the_tutorials_connector_loads_everything_and_then_what_is_new(
    billing: Path, settings: Settings, tmp_path: Path
) -> None:
    connector = load_file(ROOT / "docs/examples/billing.json").connector
    assert connector is not None
    with serve_sample(billing, tmp_path / "served", billing) as server:
        first = load(connector, settings, environment=server.environment)
        set_clock(billing, NOW + timedelta(days=1))
        second = load(connector, settings, environment=server.environment)
        [(expected,)] = ask(billing, "select count(*) from invoices")
    assert not any(outcome.failed for outcome in (*first.values(), *second.values()))
    assert query(settings, "select count(*) from billing.invoices") == [(expected,)]
    assert second["invoices"].rows_loaded < first["invoices"].rows_loaded / 10
    assert first["invoices"].usage.requests > 10
