"""Runs of one connector at the same moment."""

import threading
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.errors import ConnectorBusyError
from restsource_dagster.engine.run.workspace import connector_workspace
from restsource_dagster.state.store import open_state
from restsource_dagster_tests.faults.event_files import EVENTS, file_of
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, Background, wait_for


class Gate:
    """An API of events that holds its responses back until it is opened."""

    def __init__(self, api: ApiServer) -> None:
        self._asked = threading.Event()
        self._opened = threading.Event()
        api.answers["/events"] = self._answer

    def wait_until_asked(self) -> None:
        """Wait for the first request."""
        wait_for(self._asked, "a request for events")

    def open(self) -> None:
        """Answer all requests."""
        self._opened.set()

    def _answer(self, _: Seen) -> Any:
        self._asked.set()
        self._opened.wait(PATIENCE_SECONDS)
        return [{"id": 1, "at": 1}, {"id": 2, "at": 2}]


# --- two runs of one connector ------------------------------------------------------------------


@pytest.mark.faults(row=5)
def test_a_second_run_of_a_connector_waits_names_the_first_and_loads_nothing_twice(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    gate, notes, settings = Gate(api), Notes(), make_settings(tmp_path)
    first = nursery.start(file_of(api), tmp_path)
    gate.wait_until_asked()
    second = Background(load, make_connector(api.url, EVENTS), settings, observer=notes)
    message = notes.wait_for("another run of shop is in progress")
    assert f"PID {first.pid}, since 20" in message
    assert len(api.seen) == 1
    gate.open()
    assert first.end()["ended"] == 0
    assert not second.result()["events"].failed
    assert query(settings, "SELECT id FROM shop.events ORDER BY id") == [(1,), (2,)]


@pytest.mark.faults(row=5)
def test_a_second_run_is_refused_when_the_first_does_not_end(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    gate = Gate(api)
    first = nursery.start(file_of(api), tmp_path)
    gate.wait_until_asked()
    settings = make_settings(tmp_path).model_copy(update={"lock_wait_seconds": 0.2})
    with pytest.raises(ConnectorBusyError, match=rf"another run of shop \(PID {first.pid}, since"):
        load(make_connector(api.url, EVENTS), settings)
    assert len(api.seen) == 1
    gate.open()
    assert first.end()["ended"] == 0


@pytest.mark.faults(row=5)
def test_a_killed_run_frees_the_connector_at_once(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    gate, settings = Gate(api), make_settings(tmp_path)
    first = nursery.start(file_of(api), tmp_path)
    gate.wait_until_asked()
    first.kill()
    first.end()
    gate.open()
    impatient = settings.model_copy(update={"lock_wait_seconds": 0.0})
    assert not load(make_connector(api.url, EVENTS), impatient)["events"].failed
    assert query(settings, "SELECT id FROM shop.events ORDER BY id") == [(1,), (2,)]
    assert list((settings.state_dir / "work").rglob("run-*")) == []


@pytest.mark.faults(row=5)
def test_many_runs_of_a_connector_at_once_load_each_row_once(
    api: ApiServer, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path)
    connector = make_connector(api.url, EVENTS)
    api.answers["/events"] = lambda _: [{"id": n, "at": n} for n in range(len(api.seen))]
    for run in [Background(load, connector, settings) for _ in range(5)]:
        run.result()
    assert query(settings, "SELECT id FROM shop.events ORDER BY id") == [(n,) for n in range(5)]


@pytest.mark.faults(row=5)
def test_the_lock_of_one_connector_does_not_delay_another(tmp_path: Path) -> None:
    settings = make_settings(tmp_path).model_copy(update={"lock_wait_seconds": 0.0})
    with (
        connector_workspace(settings, open_state(settings), "one", print) as one,
        connector_workspace(settings, open_state(settings), "other", print) as other,
    ):
        assert one.folder.is_dir()
        assert other.folder.is_dir()
    assert not one.folder.exists()
