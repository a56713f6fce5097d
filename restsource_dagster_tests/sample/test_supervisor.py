"""The supervisor over real processes: nothing is left behind, whatever ends it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Supervised:
    """A running supervisor of two servers."""

    process: subprocess.Popen[str]
    folder: Path

    def read_until(self, *texts: str) -> str:
        """Return the output up to the line that completes `texts`, or up to its end."""
        output = ""
        while not all(text in output for text in texts):
            line = self.process.stdout.readline() if self.process.stdout else ""
            if not line:
                break
            output += line
        return output

    def stubborn_children(self) -> list[int]:
        return [int((self.folder / name).read_text(encoding="utf-8")) for name in ("0", "1")]

    def groups(self) -> list[int]:
        return [os.getpgid(child) for child in self.stubborn_children()]


def free_ports(number: int) -> list[str]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(folder: Path, health_path: str) -> subprocess.Popen[str]:
    module = "restsource_dagster_tests.sample.supervised"
    command = [sys.executable, "-m", module, "supervise", health_path, str(folder), *free_ports(2)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with start(tmp_path, "/healthy") as process:
        try:
            yield Supervised(process, tmp_path)
        finally:
            process.kill()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A killed orphan may wait to be collected by the system's first process.
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def gone_within(seconds: float, processes: list[int]) -> bool:
    deadline = time.monotonic() + seconds
    while any(is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_is_no_failure(
    supervised: Supervised, number: signal.Signals
) -> None:
    supervised.read_until("server0 is up", "server1 is up")
    processes = supervised.groups() + supervised.stubborn_children()
    supervised.process.send_signal(number)
    output, _ = supervised.process.communicate(timeout=10)
    assert supervised.process.returncode == 0
    assert output.endswith("Stopping ...\nStopped.\n")
    assert gone_within(1, processes)


def test_a_killed_supervisor_leaves_no_process(supervised: Supervised) -> None:
    supervised.read_until("server0 is up", "server1 is up")
    processes = supervised.groups() + supervised.stubborn_children()
    supervised.process.kill()
    assert gone_within(14, processes)


def test_a_service_that_ends_stops_the_others_and_its_log_is_shown(
    supervised: Supervised,
) -> None:
    supervised.read_until("server0 is up", "server1 is up")
    victim, other = supervised.groups()
    os.kill(victim, signal.SIGKILL)
    output, _ = supervised.process.communicate(timeout=10)
    assert supervised.process.returncode == 1
    assert "server0 ended by itself (exit code -9), so everything was stopped." in output
    assert f"({supervised.folder / '0.log'}):\n  Traceback" in output
    assert gone_within(1, [other, *supervised.stubborn_children()])


def test_a_service_that_never_answers_stops_everything(tmp_path: Path) -> None:
    with start(tmp_path, "/ill") as process:
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "server0 did not answer within 5 seconds" in output
    assert gone_within(1, Supervised(process, tmp_path).stubborn_children())


def test_notable_lines_are_shown_and_all_are_in_the_log(supervised: Supervised) -> None:
    error = "server0: OSError: odd"
    output = supervised.read_until("server0 is up", "server1 is up", error)
    assert f"{error}\n" in output
    log = (supervised.folder / "0.log").read_text(encoding="utf-8")
    assert log.startswith("Traceback (most recent call last):\n")
