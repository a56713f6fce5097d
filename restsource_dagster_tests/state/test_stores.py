"""The state store: the same promises of a folder and of a database, then those of the database alone."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text as sql

from restsource_dagster.cli import main
from restsource_dagster.engine.http.request_log import RequestLog
from restsource_dagster.engine.http.waits import RequestLimit, SentRequest
from restsource_dagster.orchestration.code_location import build_definitions
from restsource_dagster.settings import Settings
from restsource_dagster.state.database import DatabaseLease
from restsource_dagster.state.state_errors import LeaseLostError, StateError
from restsource_dagster.state.store import StateKind, StateStore, open_state
from restsource_dagster_tests.orchestration.shop import write_connector
from restsource_dagster_tests.ports import closed_port
from restsource_dagster_tests.servers.postgres import POSTGRES_PASSWORD
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_until

KEY = Fernet.generate_key().decode()
KINDS: list[StateKind] = ["tokens", "jobs", "template_versions"]
WRITTEN_ONCE: list[StateKind] = ["created_at", "live_starts"]
MakeSettings = Callable[..., Settings]
"""Settings of a machine, whose disk has the given name."""


@pytest.fixture(params=["folder", "database"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSettings:
    """The machines of a project: with a folder they are processes of one machine."""
    if request.param == "folder":
        return lambda _="": Settings(state_dir=tmp_path / "state", token_key=SecretStr(KEY))
    url = request.getfixturevalue("postgres_url")
    return lambda disk="": with_database(tmp_path / f"disk{disk}", url)


@pytest.fixture
def database(postgres_url: str, tmp_path: Path) -> MakeSettings:
    return lambda disk="", **more: with_database(tmp_path / f"disk{disk}", postgres_url, **more)


def with_database(disk: Path, url: str, **more: object) -> Settings:
    values = {"lease_seconds": 0.5, "token_key": SecretStr(KEY), **more}
    return Settings(state_dir=disk, state=SecretStr(url), **values)  # type: ignore[arg-type]


HOLDER = """
import sys
from pathlib import Path
from pydantic import SecretStr
from restsource_dagster.cli import main
from restsource_dagster.orchestration.code_location import build_definitions
from restsource_dagster.settings import Settings
from restsource_dagster.state.state_errors import LeaseLostError
from restsource_dagster.state.store import open_state

folder, url, seconds = sys.argv[1:]
settings = Settings(state_dir=Path(folder), state=SecretStr(url), lease_seconds=float(seconds))
state = open_state(settings)
lease = state.lease("runs", "shop")
assert lease.acquire(0)
print("held", flush=True)
sys.stdin.readline()
for attempt in (lease.check, lambda: state.write("jobs", "shop/a", "late", lease)):
    try:
        attempt()
        print("stored", flush=True)
    except LeaseLostError:
        print("lost", flush=True)
lease.release()
"""


@pytest.fixture
def start_holder() -> Iterator[Callable[[Settings], subprocess.Popen[str]]]:
    """Starts a process that has the lease of `shop`, until it gets a line."""
    started: list[subprocess.Popen[str]] = []

    def start(settings: Settings) -> subprocess.Popen[str]:
        url = settings.state.get_secret_value()
        arguments = [str(settings.state_dir), url, str(settings.lease_seconds)]
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        return holder

    yield start
    for holder in started:
        holder.kill()
        holder.communicate()


class TestEveryStore:
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_one_machine_writes_all_read(self, machine: MakeSettings, kind: StateKind) -> None:
        one, other = open_state(machine("1")), open_state(machine("2"))
        assert other.read(kind, "shop/orders") is None
        for text in ("first", "second é"):
            one.write(kind, "shop/orders", text)
            stored = other.read(kind, "shop/orders")
            assert stored is not None
            assert stored.content.decode() == text
        assert list(other.names(kind)) == ["shop/orders"]
        other.delete(kind, "shop/orders")
        assert not one.names(kind)
        assert one.read(kind, "shop/orders") is None
        one.delete(kind, "shop/orders")

    @pytest.mark.parametrize("kind", WRITTEN_ONCE)
    def test_what_is_written_once_stays(self, machine: MakeSettings, kind: StateKind) -> None:
        one, other = open_state(machine("1")), open_state(machine("2"))
        assert other.read(kind, "shop") is None
        one.write_once(kind, "shop", "first")
        other.write_once(kind, "shop", "second")
        for state in (one, other):
            stored = state.read(kind, "shop")
            assert stored is not None
            assert stored.content == b"first"

    def test_one_holder_at_a_time_has_a_lease(self, machine: MakeSettings) -> None:
        one, other, third = (
            open_state(machine(disk)).lease("runs", name)
            for disk, name in [("1", "shop"), ("2", "shop"), ("2", "crm")]
        )
        assert one.acquire(0)
        assert not other.acquire(0.7)  # longer than a lease lasts that is not renewed
        assert f"PID {os.getpid()}" in other.holder()
        assert third.acquire(0)
        one.check()
        one.release()
        assert other.acquire(0)
        other.check()
        other.release()
        third.release()

    def test_a_holder_that_dies_is_replaced(
        self,
        machine: MakeSettings,
        start_holder: Callable[[Settings], "subprocess.Popen[str]"],
    ) -> None:
        holder = start_holder(machine("1"))
        lease = open_state(machine("2")).lease("runs", "shop")
        assert not lease.acquire(0)
        holder.kill()
        holder.wait()
        assert lease.acquire(PATIENCE_SECONDS)
        lease.release()

    def test_machines_share_a_budget(self, machine: MakeSettings) -> None:
        one, other = (RequestLog(open_state(machine(disk)).requests("api")) for disk in "12")
        limits = [RequestLimit(2, 60.0, "orders*", "shop/orders"), RequestLimit(3, 60.0)]
        number, wait = one.take(SentRequest("orders_/1", "shop/orders"), limits)
        assert wait == 0
        one.note_response(number)
        assert other.take(SentRequest("orders", "shop/orders"), limits)[1] == 0
        assert 50 < one.take(SentRequest("orders", "shop/orders"), limits)[1] <= 60
        assert other.take(SentRequest("lines", "shop/lines"), limits)[1] == 0
        assert one.take(SentRequest("lines", "shop/lines"), limits)[1] > 50
        budget = RequestLimit(50, 60.0, "b_*", costs=(("b_/dear*", 20), ("b_*", 10)))
        assert one.take(SentRequest("b_/dear", "shop/b"), [budget])[1] == 0
        assert other.take(SentRequest("b_/dear_", "shop/b"), [budget])[1] == 0
        assert one.take(SentRequest("b_/dear", "shop/b"), [budget])[1] > 50
        assert other.take(SentRequest("b_/cheap", "shop/b"), [budget])[1] == 0
        assert one.take(SentRequest("b_/cheap", "shop/b"), [budget])[1] > 50
        other.pause(500)
        assert one.take(SentRequest("lines", "shop/lines"), [])[1] > 450
        one.close()
        other.close()


class TestDatabase:
    def test_a_holder_that_stood_still_can_not_write_after_its_successor(
        self,
        database: MakeSettings,
        start_holder: Callable[[Settings], "subprocess.Popen[str]"],
    ) -> None:
        stopped = start_holder(database("1"))
        os.kill(stopped.pid, signal.SIGSTOP)
        successor = open_state(database("2"))
        lease = successor.lease("runs", "shop")
        assert lease.acquire(PATIENCE_SECONDS)
        successor.write("jobs", "shop/a", "mine", lease)
        os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.communicate("go\n", PATIENCE_SECONDS)[0] == "lost\nlost\n"
        lease.check()
        stored = successor.read("jobs", "shop/a")
        assert stored is not None
        assert stored.content == b"mine"
        lease.release()

    def test_a_holder_that_stood_still_in_a_transaction_is_replaced(
        self, database: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("restsource_dagster.state.database._MOST_IDLE_SECONDS", 0.2)
        held, wanted = (open_state(database(disk)).lease("runs", "shop") for disk in "12")
        assert isinstance(held, DatabaseLease)
        assert held.acquire(0)
        held._ended.set()  # its thread stands still, too
        ended = pytest.raises(StateError, match="can't be used")
        with ended, held._database.transaction() as connection:
            held.hold_in(connection)
            # without the limit this would wait for the transaction above, which waits for it
            assert wanted.acquire(PATIENCE_SECONDS)
            connection.execute(sql("SELECT 1"))
        with pytest.raises(LeaseLostError):
            held.check()
        wanted.release()
        held.release()

    def test_a_dead_holder_of_the_same_machine_is_replaced_at_once(
        self,
        database: MakeSettings,
        start_holder: Callable[[Settings], "subprocess.Popen[str]"],
    ) -> None:
        settings = database("1", lease_seconds=1000.0)
        holder = start_holder(settings)
        holder.kill()
        holder.wait()
        assert not open_state(database("2")).lease("runs", "shop").acquire(0)
        lease = open_state(settings).lease("runs", "shop")
        assert lease.acquire(0)
        lease.release()

    def test_a_lease_that_nobody_took_is_kept_after_a_pause(
        self,
        database: MakeSettings,
        start_holder: Callable[[Settings], "subprocess.Popen[str]"],
    ) -> None:
        holder = start_holder(database("1"))
        os.kill(holder.pid, signal.SIGSTOP)
        wait_until(lambda: _has_expired(open_state(database("2"))), "the end of the lease")
        os.kill(holder.pid, signal.SIGCONT)
        assert holder.communicate("go\n", PATIENCE_SECONDS)[0] == "stored\nstored\n"

    def test_tokens_are_stored_encrypted_or_not_at_all(
        self, database: MakeSettings, postgres_url: str
    ) -> None:
        open_state(database()).write("tokens", "login", "c4n4ry")
        assert "c4n4ry" not in str(_texts(postgres_url))
        without_key = open_state(database(token_key=None))
        with pytest.raises(StateError, match=r"encrypted\. Set RESTSOURCE_TOKEN_KEY"):
            without_key.read("tokens", "login")
        with pytest.raises(StateError, match="must be encrypted"):
            without_key.write("tokens", "other", "c4n4ry")

    def test_the_folder_is_copied_once_and_what_the_database_has_stays(
        self, database: MakeSettings, postgres_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        open_state(database("fresh")).write_once("created_at", "crm", "known")
        folder = open_state(Settings(state_dir=database("old").state_dir))
        folder.write_once("created_at", "shop", "before")
        folder.write_once("created_at", "crm", "other")
        folder.write_once("live_starts", "shop.orders", "start")
        folder.write("jobs", "shop/orders", "job")
        folder.write("tokens", "login", "c4n4ry")
        (database("old").state_dir / "created_at" / "damaged").write_bytes(b"\xff\xfe")
        with caplog.at_level(logging.WARNING):
            open_state(database("old"))
        assert "4 of 6 texts" in caplog.text
        assert POSTGRES_PASSWORD not in caplog.text
        texts = _texts(postgres_url)
        assert texts["created_at", "crm"] == "known"
        assert texts["created_at", "shop"] == "before"
        assert texts["live_starts", "shop.orders"] == "start"
        assert texts["jobs", "shop/orders"] == "job"
        assert "c4n4ry" not in str(texts)
        moved = open_state(database("old"))
        assert moved.read("tokens", "login") == open_state(database("x")).read("tokens", "login")
        moved.delete("created_at", "shop")
        # another process of the same machine
        assert open_state(database("old", lease_seconds=0.6)).read("created_at", "shop") is None

    def test_plain_tokens_are_not_copied_without_a_key(
        self, database: MakeSettings, postgres_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = Settings(state_dir=database().state_dir)
        open_state(folder).write("tokens", "login", "c4n4ry")
        with caplog.at_level(logging.WARNING):
            open_state(database(token_key=None))
        assert "1 logins of" in caplog.text
        assert "c4n4ry" not in str(_texts(postgres_url))

    @pytest.mark.parametrize("driver", ["+psycopg", "+psycopg2"])
    def test_both_drivers_work(self, postgres_url: str, tmp_path: Path, driver: str) -> None:
        url = postgres_url.replace("postgresql", f"postgresql{driver}")
        state = open_state(with_database(tmp_path, url))
        state.write("jobs", "shop/a", "100 %(x)s :y")
        lease = state.lease("runs", "shop")
        assert lease.acquire(0)
        lease.check()
        lease.release()
        stored = state.read("jobs", "shop/a")
        assert stored is not None
        assert stored.content == b"100 %(x)s :y"
        assert stored.written_at.tzinfo is not None
        assert RequestLog(state.requests("api")).take(SentRequest("a"), [RequestLimit(1, 9.0)])

    def test_a_forked_process_leaves_the_connections_of_its_parent_alone(
        self, database: MakeSettings
    ) -> None:
        state = open_state(database())
        state.write("jobs", "shop/a", "parent")
        child = os.fork()
        if not child:
            try:
                state.write("jobs", "shop/a", "child")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        stored = state.read("jobs", "shop/a")
        assert stored is not None
        assert stored.content == b"child"

    def test_no_error_shows_the_password(self, postgres_url: str, tmp_path: Path) -> None:
        for wrong in (
            postgres_url.replace(POSTGRES_PASSWORD, f"{POSTGRES_PASSWORD}-x"),
            postgres_url.replace("test_", "nowhere_"),
            postgres_url.replace("127.0.0.1", "127.0.0.1:1,127.0.0.1"),
        ):
            settings = with_database(tmp_path, wrong)
            with pytest.raises(StateError, match=r"can't be used|no URL") as caught:
                open_state(settings)
            assert POSTGRES_PASSWORD not in str(caught.value)
            assert caught.value.__suppress_context__
            assert POSTGRES_PASSWORD not in repr(settings)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://root:c4n4ry@db/x", r"names a database of mysql\. Use Postgres"),
        ("sqlite:///state.db", r"names a database of sqlite\. Use Postgres"),
        ("postgres:c4n4ry", "is no URL of a database"),
        ("postgresql+asyncthing://root:c4n4ry@db/x", "can't be used|needs the package"),
    ],
)
def test_another_database_is_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StateError, match=message) as caught:
        open_state(with_database(tmp_path, url))
    assert "c4n4ry" not in str(caught.value)


def test_a_missing_driver_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg2'] = sys.modules['psycopg'] = None\n"
        "from restsource_dagster.settings import Settings\n"
        "from restsource_dagster.state.store import open_state\n"
        "open_state(Settings(state='postgresql://u:c4n4ry@127.0.0.1:1/x'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert 'pip install "restsource-dagster[postgres]"' in done.stderr
    assert "c4n4ry" not in done.stderr


def test_a_path_is_a_folder(tmp_path: Path) -> None:
    settings = Settings(state=SecretStr(str(tmp_path / "shared")), state_dir=tmp_path / "own")
    open_state(settings).write_once("created_at", "shop", "text")
    assert (tmp_path / "shared" / "created_at" / "shop").exists()


def _has_expired(state: StateStore) -> bool:
    query = "SELECT 1 FROM restsource_leases WHERE expires_at < clock_timestamp()"
    return _rows(state, query) != []


def _rows(state: StateStore, query: str) -> list[tuple[object, ...]]:
    import psycopg2

    url = state.location("jobs", "").partition(": ")[0].replace("***", POSTGRES_PASSWORD)
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
    finally:
        connection.close()


def _texts(url: str) -> dict[tuple[str, str], str]:
    import psycopg2

    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT kind, name, content FROM restsource_texts")
            return {(kind, name): content for kind, name, content in cursor.fetchall()}
    finally:
        connection.close()


def test_a_database_that_can_not_be_reached_ends_the_command_with_the_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Definitions don't load either: with another moment other slots would be due."""
    write_connector(Settings(configs=tmp_path / "configs"), "shop", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    with closed_port() as port:
        url = f"postgresql://restsource:{POSTGRES_PASSWORD}@127.0.0.1:{port}/state"
        monkeypatch.setenv("RESTSOURCE_STATE", url)
        assert main(["list"]) == 1
        with pytest.raises(StateError, match="can't be used"):
            build_definitions(settings=Settings())
    shown = capsys.readouterr()
    assert f"postgresql://restsource:***@127.0.0.1:{port}/state can't be used" in shown.err
    assert POSTGRES_PASSWORD not in shown.out + shown.err
