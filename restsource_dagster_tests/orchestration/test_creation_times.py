import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restsource_dagster.orchestration.state_files import CreationTimes
from restsource_dagster.state.store import FolderStore
from restsource_dagster_tests.orchestration.sensor_cases import connector
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

SAID = datetime(2026, 11, 23, 10, 3, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def state_file(state: Path, content: bytes, name: str = "shop") -> Path:
    path = state / "created_at" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_files_own_time_counts_and_leaves_no_trace(state: Path) -> None:
    assert CreationTimes(FolderStore(state)).get(connector("shop", created_at=SAID)) == SAID
    assert not state.exists()


def test_the_files_own_time_is_given_in_utc(state: Path) -> None:
    there = SAID.astimezone(timezone(timedelta(hours=5, minutes=30)))

    created = CreationTimes(FolderStore(state)).get(connector("shop", created_at=there))

    assert (created, created.tzinfo) == (SAID, UTC)


def test_the_moment_first_seen_is_kept_for_every_later_load(state: Path) -> None:
    before = now()
    first = CreationTimes(FolderStore(state)).get(connector("shop"))
    path = state / "created_at" / "shop"
    os.utime(path, (1, 1))

    assert before <= first <= now()
    assert CreationTimes(FolderStore(state)).get(connector("shop")) == first
    assert path.read_text() == first.strftime("%Y-%m-%dT%H:%M:%SZ\n")
    assert list(path.parent.iterdir()) == [path]


def test_a_connector_put_back_keeps_its_time(state: Path) -> None:
    state_file(state, b"2026-11-23T10:03:00Z\n")

    times = CreationTimes(FolderStore(state))

    assert (times.get(connector("shop")), times.warnings) == (SAID, ())


@pytest.mark.parametrize(
    "content", [b"2026-11-23T10:03:00Z", b"2026-11-23T15:33+05:30", b" 2026-11-23 10:03 \r\n"]
)
def test_a_time_written_by_a_person_is_understood(state: Path, content: bytes) -> None:
    state_file(state, content)

    assert CreationTimes(FolderStore(state)).get(connector("shop")) == SAID


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"2026-11-",
        b"yesterday",
        b"\x00" * 20,
        b"\xff\xfe",
        b"0001-01-01T00:00:00+05:00",
        b"2026-11-23T10:03:00Z" * 5000,
    ],
)
def test_a_damaged_state_file_counts_from_its_own_date_with_a_warning(
    state: Path, content: bytes
) -> None:
    path = state_file(state, content)
    os.utime(path, (SAID.timestamp(), SAID.timestamp()))
    times = CreationTimes(FolderStore(state))

    assert times.get(connector("shop")) == SAID
    assert path.read_bytes() == content
    (warning,) = times.warnings
    assert (warning.path, warning.severity) == (path, "warning")
    assert "2026-11-23T10:03:00Z, is used instead" in warning.as_text()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(content=st.binary(max_size=80))
def test_no_content_of_a_state_file_raises(state: Path, content: bytes) -> None:
    state_file(state, content)

    assert CreationTimes(FolderStore(state)).get(connector("shop")).tzinfo is UTC


def test_without_a_state_folder_the_connector_files_date_counts_with_a_warning(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    state.write_text("a file where the folder should be")
    path = tmp_path / "shop.json"
    path.write_text("{}")
    os.utime(path, (SAID.timestamp(), SAID.timestamp()))
    times = CreationTimes(FolderStore(state))

    assert times.get(connector("shop", path=path)) == SAID
    (warning,) = times.warnings
    assert "can't be kept here" in warning.message
    assert "created_at" in (warning.fix or "")


def test_a_folder_in_the_place_of_a_state_file_is_a_warning(state: Path) -> None:
    (state / "created_at" / "shop").mkdir(parents=True)
    times = CreationTimes(FolderStore(state))

    assert times.get(connector("shop")) <= now()
    assert len(times.warnings) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_state_folder_is_a_warning_and_stored_times_are_read(state: Path) -> None:
    state_file(state, b"2026-11-23T10:03:00Z\n")
    (state / "created_at").chmod(0o500)
    times = CreationTimes(FolderStore(state))

    assert times.get(connector("shop")) == SAID
    assert times.warnings == ()
    times.get(connector("crm"))
    assert len(times.warnings) == 1


RACER = """
import sys
from pathlib import Path
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.orchestration.state_files import CreationTimes
from restsource_dagster.state.store import FolderStore

file = {"schedule": {"mode": "hours"}, "client": {"base_url": "http://x/"}, "resources": ["orders"]}
names = [f"api_{number}" for number in range(200)]
connectors = [parse_connector({"name": name, **file}, Path(f"{name}.json"))[0] for name in names]
print("ready", flush=True)
sys.stdin.readline()
times = CreationTimes(FolderStore(Path(sys.argv[1])))
print(*(times.get(connector).isoformat() for connector in connectors), *times.warnings)
"""


def test_processes_that_load_at_the_same_time_agree(state: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=PATIENCE_SECONDS)[0].split() for racer in racers]

    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 200
    assert len(list((state / "created_at").iterdir())) == 200
