"""Sessions of runs in Postgres: a run that stands still gives up what it holds there."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dlt
import psycopg
import psycopg2.errors
import pytest

from restsource_dagster.engine.destination import postgres_client
from restsource_dagster.engine.destination.pipeline import PipelineManager
from restsource_dagster.engine.destination.postgres_client import DatabaseLockedError
from restsource_dagster.engine.destination.warehouse import OtherDestination
from restsource_dagster.engine.dlt_compat import DestinationTransientException
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.run.outcome import root_cause
from restsource_dagster.engine.run_progress import Progress, SilentObserver
from restsource_dagster.settings import Settings
from restsource_dagster.state.state_errors import LeaseLostError
from restsource_dagster_tests.destinations import url_of
from restsource_dagster_tests.faults.event_files import file_of
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("destination", ["postgres"], indirect=True)
ORDERS: dict[str, Any] = {"name": "orders", "primary_key": "id"}
APPENDED: dict[str, Any] = {"name": "orders", "write_disposition": "append"}


@contextmanager
def locked_row(url: str, statement: str) -> Iterator[psycopg.Connection]:
    """Another program that has changed a row and doesn't end its transaction."""
    with psycopg.connect(url, application_name="someone else") as connection:
        connection.execute(statement)
        yield connection
        connection.rollback()


def waiting_sessions(url: str) -> list[Any]:
    """The sessions that wait for a lock."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "SELECT application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ).fetchall()


@pytest.mark.faults(row=5)
def test_a_run_that_stands_still_in_a_transaction_holds_up_nobody(
    api: ApiServer, tmp_path: Path, nursery: Nursery, postgres_url: str
) -> None:
    """Its machine is suspended while it merges rows: it has changed some, and does not commit."""

    def of_machine(disk: str) -> dict[str, Any]:
        return {
            "state_dir": str(tmp_path / "disks" / disk),
            "state": postgres_url,
            "lease_seconds": 0.5,
        }

    def settings(disk: str) -> Settings:
        changes = {**of_machine(disk), "lease_seconds": 60}
        return Settings.model_validate({**make_settings(tmp_path).model_dump(), **changes})

    connector = make_connector(api.url, ORDERS)
    api.answers["/orders"] = [{"id": 1, "v": 1}, {"id": 2, "v": 1}]
    assert not load(connector, settings("1"))["orders"].failed
    url = url_of(settings("1").data_dir)[1]
    api.answers["/orders"] = [{"id": 1, "v": 2}, {"id": 2, "v": 2}]
    with locked_row(url, "UPDATE shop.orders SET v = v WHERE id = 2"):
        stopped = nursery.start(file_of(api, "shop", ORDERS), tmp_path, settings=of_machine("1"))
        wait_until(lambda: waiting_sessions(url), "a run that waits for the row")
        os.kill(stopped.pid, signal.SIGSTOP)
    api.answers["/orders"] = [{"id": 1, "v": 3}, {"id": 2, "v": 3}]
    assert not load(connector, settings("2"))["orders"].failed
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.end()["ended"] != 0
    failures = [event["failure"] for event in stopped.told if event.get("failure")]
    assert "stood still for longer than" in failures[0]
    assert query(settings("1"), "SELECT id, v FROM shop.orders ORDER BY 1") == [(1, 3), (2, 3)]


@pytest.mark.faults(row=5)
def test_rows_that_a_stopped_run_has_sent_are_not_stored_after_its_successor(
    api: ApiServer, settings: Settings
) -> None:
    """A COPY waits for its client as long as the connection lasts: no limit of the server ends it."""
    connector = make_connector(api.url, APPENDED)
    api.answers["/orders"] = [{"id": 1}]
    assert not load(connector, settings)["orders"].failed
    url = url_of(settings.data_dir)[1]
    # the name that a session of a run in another process has
    with psycopg.connect(url, application_name="restsource:0123abcd:shop") as stopped:
        statement = "COPY shop.orders (id, _dlt_load_id, _dlt_id) FROM STDIN"
        ended = pytest.raises(psycopg.OperationalError, match="terminat")
        with ended, stopped.cursor().copy(statement) as copy:
            copy.write("7\tx\ty\n")
            assert not load(connector, settings)["orders"].failed
            copy.write("".join(f"8\tx\tz{n}\n" for n in range(100_000)))
    assert query(settings, "SELECT id FROM shop.orders") == [(1,), (1,)]


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_a_lock_that_is_not_freed_fails_the_run_and_its_holder_is_named(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    patient = settings.model_copy(update={"lock_wait_seconds": 0.2})
    connector = make_connector(api.url, {**ORDERS, "mode": mode})
    api.answers["/orders"] = [{"id": 1, "v": 1}]
    assert not load(connector, settings)["orders"].failed
    url = url_of(settings.data_dir)[1]
    holders = {
        "UPDATE shop.orders SET v = v": [{"id": 1, "v": 2}],
        # a new column needs the table for itself
        "SELECT * FROM shop.orders": [{"id": 1, "v": 2, "new": 1}],
        "LOCK shop._dlt_pipeline_state": [{"id": 1, "v": 3, "new": 1}],
    }
    for statement, rows in holders.items():
        api.answers["/orders"] = rows
        with locked_row(url, statement) as holder:
            failure = load(connector, patient)["orders"].failure
            assert failure is not None
            assert "after 0.2 s (RESTSOURCE_LOCK_WAIT_SECONDS)" in failure.message
            assert f"session {holder.info.backend_pid} (someone else" in failure.message
            assert statement in failure.message
    assert not load(connector, patient)["orders"].failed


@pytest.mark.parametrize("options", ["", "?options=-cidle_in_transaction_session_timeout%3D5s"])
def test_a_session_of_a_run_has_a_name_and_limits(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    """What the address of the database says itself is in force."""
    name, url = url_of(settings.data_dir)
    monkeypatch.setenv(f"DESTINATION__{name.upper()}__CREDENTIALS", url + options)
    destination = OtherDestination(name, wait_seconds=2).destination()
    pipeline = dlt.pipeline("shop", str(tmp_path), destination=destination, dataset_name="shop")
    with pipeline.sql_client() as client:

        def shown(setting: str) -> Any:
            return (client.execute_sql(f"SHOW {setting}") or [[None]])[0][0]

        assert shown("idle_in_transaction_session_timeout") == ("5s" if options else "30s")
        assert shown("lock_timeout") == "2s"
        assert shown("application_name").startswith("restsource:")
        assert shown("application_name").endswith(":shop")


def open_sessions(url: str) -> list[str]:
    """The sessions of runs that load the dataset `shop`."""
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT application_name FROM pg_stat_activity WHERE application_name ~ '^restsource:.*:shop$'"
        return [name for (name,) in connection.execute(query)]


def test_an_error_that_may_pass_has_the_database_s_own_as_its_cause(
    settings: Settings, tmp_path: Path
) -> None:
    """A run looks for the innermost error of a chain, to tell it."""
    destination = OtherDestination(url_of(settings.data_dir)[0]).destination()
    pipeline = dlt.pipeline("shop", str(tmp_path), destination=destination, dataset_name="shop")
    with pipeline.sql_client() as client, pytest.raises(DestinationTransientException) as caught:
        client.execute_sql("SELECT no_such_function()")
    assert isinstance(caught.value.__cause__, psycopg2.errors.UndefinedFunction)
    assert root_cause(caught.value)[1] is caught.value.__cause__


def test_a_session_that_opens_after_another_run_has_taken_over_is_not_used(
    settings: Settings, tmp_path: Path
) -> None:
    """The lease is checked once the session is open: before, a successor would not find it."""
    name, url = url_of(settings.data_dir)
    destination: Any = OtherDestination(name).destination()
    found: list[list[str]] = []

    def lost() -> None:
        found.append(open_sessions(url))
        raise LeaseLostError("this process stood still")

    destination.check_lease = lost
    pipeline = dlt.pipeline("shop", str(tmp_path), destination=destination, dataset_name="shop")
    with pytest.raises(LeaseLostError), pipeline.sql_client():
        pass
    assert [len(names) for names in found] == [1]
    wait_until(lambda: not open_sessions(url), "the end of the session")


def test_a_holder_whose_work_the_user_may_not_see_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres shows the statements of another user to administrators only."""
    name, url = url_of(settings.data_dir)
    plain = f"{url}?options=-crole%3Dpg_read_all_data"
    monkeypatch.setenv(f"DESTINATION__{name.upper()}__CREDENTIALS", plain)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute("CREATE TABLE shop.orders (id int)")
    destination = OtherDestination(name, wait_seconds=0.1).destination()
    pipeline = dlt.pipeline("shop", str(tmp_path), destination=destination, dataset_name="shop")
    with locked_row(url, "LOCK shop.orders") as holder, pipeline.sql_client() as client:
        said = rf"by session {holder.info.backend_pid} \(someone else, user \w+\)"
        with pytest.raises(DatabaseLockedError, match=said):
            client.execute_sql("SELECT * FROM shop.orders")


def test_a_locked_table_says_nothing_about_other_tables(settings: Settings, tmp_path: Path) -> None:
    name, url = url_of(settings.data_dir)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute("CREATE TABLE shop.orders AS SELECT 1 AS id")
        connection.execute("CREATE TABLE shop.users AS SELECT 1 AS id")
    warehouse = OtherDestination(name, wait_seconds=0.1)
    progress = Progress(SilentObserver(), Redactor())
    pipelines = PipelineManager("shop", warehouse, progress, tmp_path, dataset="shop")
    with locked_row(url, "LOCK shop.orders"):
        with pytest.raises(DatabaseLockedError):
            pipelines.count_rows("orders")
        assert pipelines.count_rows("users") == 1


def test_a_run_stores_nothing_while_a_session_of_an_earlier_one_does_not_end(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's process of it hangs, so what it was told may be stored later."""
    monkeypatch.setattr(postgres_client, "_END_SECONDS", 0.2)
    connector = make_connector(api.url, APPENDED)
    api.answers["/orders"] = [{"id": 1}]
    assert not load(connector, settings)["orders"].failed
    url = url_of(settings.data_dir)[1]
    with psycopg.connect(url, application_name="restsource:0123abcd:shop") as stopped:
        process = stopped.info.backend_pid
        os.kill(process, signal.SIGSTOP)
        try:
            failure = load(connector, settings)["orders"].failure
        finally:
            os.kill(process, signal.SIGCONT)
    assert failure is not None
    assert f"still open after 0.2 s: {process}" in failure.message
    assert query(settings, "SELECT id FROM shop.orders") == [(1,)]


def test_a_run_whose_session_its_successor_has_ended_says_that_it_stood_still(
    settings: Settings, tmp_path: Path
) -> None:
    """The error of the ended session is further in, and says nothing to a person."""
    name, url = url_of(settings.data_dir)
    destination: Any = OtherDestination(name).destination()
    lost: list[str] = []

    def check_lease() -> None:
        if lost:
            raise LeaseLostError(lost[0])

    destination.check_lease = check_lease
    pipeline = dlt.pipeline("shop", str(tmp_path), destination=destination, dataset_name="shop")
    with pipeline.sql_client() as client:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s",
                open_sessions(url),
            )
        lost.append("this process stood still")
        with pytest.raises(LeaseLostError) as caught:
            client.execute_sql("SELECT 1")
    assert root_cause(caught.value)[1] is caught.value
