"""What decides whether rows are replaced is checked before a row is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.sql_jobs import SqlStagingCopyFollowupJob
from dlt.pipeline.exceptions import PipelineStepFailed

from restsource_dagster.engine.destination import replace_rows, sql_destinations
from restsource_dagster.engine.destination.sql_destinations import can_replace_rows
from restsource_dagster.engine.destination.warehouse import DuckDBFile, OtherDestination
from restsource_dagster.settings import Settings
from restsource_dagster.state.state_errors import LeaseLostError
from restsource_dagster_tests.engine.windowed import (
    Events,
    day,
    event,
    load_window,
    stored,
    window_of,
)
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.api import ApiServer


def failure_of_a_replacing_load(api: ApiServer, settings: Settings) -> str:
    """Load a window of an appended table again; return why it failed. The rows are as before."""
    events = Events(api, event(1), event(2), event(3))
    connector = events.connector(backfill={"start": "2024-01-01", "partition": "daily"})
    load(connector, settings, resources=["events"])
    before = stored(settings)
    outcome = load_window(connector, settings, window_of(day(1), day(2)))["events"]
    assert stored(settings) == before
    assert outcome.failure is not None
    return outcome.failure.message


def test_a_load_with_a_client_that_does_not_replace_rows_is_refused(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a version of dlt no longer asked a destination for its `client_class`."""
    monkeypatch.setattr(sql_destinations.DuckDBDestination, "client_class", DuckDbClient)
    shown = failure_of_a_replacing_load(api, settings)
    assert f"dlt {dlt.__version__}" in shown
    assert "does not load with the client that replaces rows" in shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("_CLIENT_HOOKS", "its SQL clients have no method 'renamed'"),
        ("_JOB_ATTRIBUTES", "its SQL jobs have no attribute 'renamed'"),
    ],
)
def test_a_load_without_what_the_replacement_needs_is_refused(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    monkeypatch.setattr(replace_rows, name, ("renamed",))
    assert shown in failure_of_a_replacing_load(api, settings)


def test_a_load_whose_staged_rows_would_stay_there_is_refused(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: Any) -> Sequence[str]:
        return []

    monkeypatch.setattr(SqlStagingCopyFollowupJob, "generate_sql", nothing)
    assert "no statement that copies staged rows" in failure_of_a_replacing_load(api, settings)


@pytest.mark.parametrize("name", ["postgres", "sqlalchemy", "motherduck", "ducklake", "redshift"])
def test_a_database_with_transactions_replaces_rows(name: str) -> None:
    """dlt leaves `supports_transactions` unset for all of them but one, and replaces by truncating."""
    made: Any = OtherDestination(name).destination()
    assert can_replace_rows(made)
    assert made.caps_params["supports_transactions"]
    assert made.config_params["replace_strategy"] == "insert-from-staging"
    assert made.destination_name == name


@pytest.mark.parametrize("name", ["filesystem", "dremio", "dummy"])
def test_a_destination_without_transactions_replaces_no_rows(name: str) -> None:
    assert not can_replace_rows(OtherDestination(name).destination())


@pytest.mark.parametrize("name", ["filesystem", "sqlalchemy"])
def test_a_load_ends_before_its_next_file_when_another_run_has_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With transactions or without."""
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", tmp_path.as_uri())
    monkeypatch.setenv("DESTINATION__SQLALCHEMY__CREDENTIALS", f"sqlite:///{tmp_path / 'one.db'}")

    def taken_over() -> None:
        raise LeaseLostError("another one has taken over")

    destination: Any = OtherDestination(name).destination()
    destination.check_lease = taken_over
    pipeline = dlt.pipeline("shop", str(tmp_path / "work"), destination=destination)
    with pytest.raises(PipelineStepFailed, match="another one has taken over"):
        pipeline.run([{"id": 1}], table_name="orders", dataset_name="shop")
    assert not list((tmp_path / "shop" / "orders").glob("*"))


def test_a_destination_of_dlts_own_class_replaces_no_rows() -> None:
    theirs: Any = dlt.destinations.duckdb()
    assert not can_replace_rows(theirs)


def test_dlt_stores_the_name_of_its_own_destination(settings: Settings) -> None:
    pairs: list[tuple[Any, Any]] = [
        (DuckDBFile(settings.data_dir / "own.duckdb").destination(), dlt.destinations.duckdb()),
        (OtherDestination("postgres").destination(), dlt.destinations.postgres()),
        (OtherDestination("sqlalchemy").destination(), dlt.destinations.sqlalchemy()),
    ]
    for own, theirs in pairs:
        assert own.destination_type == theirs.destination_type
        assert own.destination_name == theirs.destination_name


def test_capabilities_are_copies_of_what_was_resolved_once(settings: Settings) -> None:
    own = DuckDBFile(settings.data_dir / "own.duckdb").destination()
    changed = own.capabilities()
    changed.supports_transactions = False
    assert own.capabilities().supports_transactions


def test_the_configuration_is_resolved_once_for_each_dataset(settings: Settings) -> None:
    """All clients of a dataset share the connections of one; another dataset has its own name."""
    own: Any = DuckDBFile(settings.data_dir / "own.duckdb").destination()

    def configuration(dataset: str) -> Any:
        initial = own.spec()
        initial.dataset_name = dataset
        return own.client(dlt.Schema("shop"), initial).config

    first = configuration("shop")
    assert configuration("shop") is first
    assert (configuration("crm").dataset_name, first.dataset_name) == ("crm", "shop")
