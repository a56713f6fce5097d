"""Several connectors, and people, use one database."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from restsource_dagster.engine.destination.warehouse import DuckDBFile
from restsource_dagster.engine.errors import DatabaseBusyError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.event_files import EVENTS, file_of
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, Background


@pytest.mark.faults(row=6)
def test_connectors_in_several_processes_load_into_one_database(
    api: ApiServer, tmp_path: Path
) -> None:
    names = ["alpha", "beta", "gamma"]
    api.answers["/events"] = [{"id": n, "at": n, "list": [1]} for n in range(50)]
    api.answers["/things"] = [{"id": n} for n in range(50)]
    things = {"name": "things", "primary_key": "id"}
    nurseries = [Nursery() for _ in names]
    for _ in range(2):
        runs = [
            nursery.start(file_of(api, name, EVENTS, things), tmp_path)
            for nursery, name in zip(nurseries, names, strict=True)
        ]
        assert [run.end()["ended"] for run in runs] == [0, 0, 0], [run.told for run in runs]
    for nursery, name in zip(nurseries, names, strict=True):
        nursery.__exit__()
        counts = f"(SELECT count(*) FROM {name}.events), (SELECT count(*) FROM {name}.things)"
        assert query(make_settings(tmp_path), f"SELECT {counts}") == [(50, 50)]


PERSON = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
sys.stdin.readline()
connection.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@contextmanager
def person(settings: Settings, mode: str) -> Iterator["subprocess.Popen[str]"]:
    """Somebody who has the database open in a program of their own."""
    program = subprocess.Popen(
        [sys.executable, "-c", PERSON, str(settings.data_dir / "warehouse.duckdb"), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "open\n"
    try:
        yield program
    finally:
        program.kill()
        program.wait(PATIENCE_SECONDS)


@pytest.fixture
def loaded(api: ApiServer, settings: Settings) -> Settings:
    """Settings whose database exists."""
    api.answers["/events"] = [{"id": 1, "at": 1}]
    load(make_connector(api.url, EVENTS), settings)
    return settings


@pytest.mark.faults(row=6)
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_run_waits_for_a_person_who_has_the_database_open_and_names_the_program(
    api: ApiServer, loaded: Settings, mode: str
) -> None:
    notes = Notes()
    with person(loaded, mode) as program:
        run = Background(load, make_connector(api.url, EVENTS), loaded, observer=notes)
        assert "waiting for" in notes.wait_for(f"(PID {program.pid}) has it open")
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
        assert not run.result()["events"].failed


@pytest.mark.faults(row=6)
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_run_gives_up_after_the_limit_and_names_the_program(
    api: ApiServer, loaded: Settings, mode: str
) -> None:
    impatient = loaded.model_copy(update={"lock_wait_seconds": 0.3})
    with person(loaded, mode) as program:
        outcome = load(make_connector(api.url, EVENTS), impatient)["events"]
    assert outcome.failure is not None
    assert (
        f"was still held by {Path(sys.executable).resolve().name} (PID {program.pid})"
        in outcome.failure.message
    )
    assert not load(make_connector(api.url, EVENTS), loaded)["events"].failed


@pytest.mark.faults(row=6)
def test_a_run_of_many_resources_waits_once(api: ApiServer, loaded: Settings) -> None:
    impatient = loaded.model_copy(update={"lock_wait_seconds": 3.0})
    connector = make_connector(api.url, EVENTS, "things", "countries", "towns")
    notes = Notes()
    with person(loaded, "read"):
        outcomes = load(connector, impatient, observer=notes)
    assert all("was still held by" in str(outcome.failure) for outcome in outcomes.values())
    # Whoever waits for longer than a second says so.
    assert len([message for message in notes.messages if "waiting for" in message]) == 1


@pytest.mark.faults(row=6)
def test_a_run_waits_for_a_reader_in_the_same_process(api: ApiServer, loaded: Settings) -> None:
    notes = Notes()
    connector = make_connector(api.url, EVENTS)
    reader = duckdb.connect(str(loaded.data_dir / "warehouse.duckdb"), read_only=True)
    run = Background(load, connector, loaded, observer=notes)
    notes.wait_for("this process itself, with other settings, has it open")
    reader.close()
    assert not run.result()["events"].failed
    assert query(loaded, "SELECT id FROM shop.events") == [(1,)]


HAMMER = """
import duckdb, sys, time
print("open", flush=True)
while True:
    try:
        with duckdb.connect(sys.argv[1]) as connection:
            connection.execute("SELECT 1").fetchall()
    except duckdb.IOException:
        pass
"""


@pytest.mark.faults(row=6)
def test_a_program_that_reopens_the_database_fails_no_run(api: ApiServer, loaded: Settings) -> None:
    """There is no moment in which dlt opens the file and it is not ours already."""
    program = subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(loaded.data_dir / "warehouse.duckdb")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()
    api.answers["/things"] = [{"id": 1, "list": [1]}]
    things = {"name": "things", "primary_key": "id"}
    try:
        for _ in range(2):
            outcomes = load(make_connector(api.url, EVENTS, things, "countries"), loaded)
            assert outcomes["countries"].failure is not None  # the API has no such path
            for name in ("events", "things"):
                assert outcomes[name].failure is None, outcomes[name].failure
    finally:
        program.kill()
        program.wait(PATIENCE_SECONDS)


class Opener(Notes):
    """Opens the database from another process whenever rows are extracted or normalized."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._database = str(settings.data_dir / "warehouse.duckdb")
        self.opened: list[str] = []

    def phase(self, family: str, phase: str) -> None:
        if phase == "load":
            return
        code = "import duckdb, sys; duckdb.connect(sys.argv[1]).close()"
        subprocess.run([sys.executable, "-c", code, self._database], check=True)
        self.opened.append(f"{family} {phase}")


@pytest.mark.faults(row=6)
def test_the_database_is_free_while_rows_are_extracted_and_normalized(
    api: ApiServer, loaded: Settings
) -> None:
    opener = Opener(loaded)
    api.answers["/things"] = [{"id": 1}]
    outcomes = load(make_connector(api.url, EVENTS, "things"), loaded, observer=opener)
    assert not any(outcome.failed for outcome in outcomes.values())
    names, phases = ("events", "things"), ("extract", "normalize")
    assert sorted(opener.opened) == [f"{name} {phase}" for name in names for phase in phases]


@pytest.mark.faults(row=6)
def test_the_limit_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    duckdb.connect(str(path)).close()
    reader = duckdb.connect(str(path), read_only=True)
    warehouse = DuckDBFile(path, wait_seconds=3.0)
    notes = Notes()
    with pytest.raises(DatabaseBusyError, match="after 3 s"), warehouse.locked(notes.message):
        pass
    assert len(notes.messages) == 1  # it waited, for longer than a second
    reader.close()
