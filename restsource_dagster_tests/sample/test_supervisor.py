"""The supervisor over real processes: nothing is left behind, whatever ends it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from restsource_dagster_tests.ports import reserve_ports
from restsource_dagster_tests.processes import process_of, wait_until_gone
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

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

    def wait_until_up(self) -> str:
        """Return the output once both servers are up and have said all that they say at their start."""
        names = ("server0", "server1")
        ups, errors = (
            (f"{name} is up" for name in names),
            (f"{name}: OSError: odd" for name in names),
        )
        return self.read_until(*ups, *errors)

    def stubborn_children(self) -> list[psutil.Process | None]:
        """The children of the servers that have started."""
        files = [self.folder / name for name in ("0", "1")]
        return [process_of(int(file.read_text())) for file in files if file.exists()]

    def groups(self) -> list[psutil.Process | None]:
        """The servers: each leads a group of its own."""
        return [process_of(os.getpgid(child.pid)) for child in self.stubborn_children() if child]


def start(folder: Path, health_path: str, start_seconds: float) -> subprocess.Popen[str]:
    module = "restsource_dagster_tests.sample.supervised"
    settings = (health_path, str(start_seconds), str(folder))
    command = [sys.executable, "-m", module, "supervise", *settings, *map(str, reserve_ports(2))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with start(tmp_path, "/healthy", PATIENCE_SECONDS) as process:
        try:
            yield Supervised(process, tmp_path)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_is_no_failure(
    supervised: Supervised, number: signal.Signals
) -> None:
    supervised.wait_until_up()
    processes = supervised.groups() + supervised.stubborn_children()
    supervised.process.send_signal(number)
    output, _ = supervised.process.communicate(timeout=PATIENCE_SECONDS)
    assert supervised.process.returncode == 0
    # a server may answer its last request, and log it, until it is stopped
    said = [line for line in output.splitlines() if not line.startswith("server")]
    assert said[-2:] == ["Stopping ...", "Stopped."]
    wait_until_gone(*processes)


def test_a_killed_supervisor_leaves_no_process(supervised: Supervised) -> None:
    supervised.wait_until_up()
    processes = supervised.groups() + supervised.stubborn_children()
    supervised.process.kill()
    wait_until_gone(*processes)


def test_a_service_that_ends_stops_the_others_and_its_log_is_shown(
    supervised: Supervised,
) -> None:
    supervised.wait_until_up()
    (victim, other), children = supervised.groups(), supervised.stubborn_children()
    assert victim is not None
    victim.kill()
    output, _ = supervised.process.communicate(timeout=PATIENCE_SECONDS)
    assert supervised.process.returncode == 1
    assert "server0 ended by itself (exit code -9), so everything was stopped." in output
    assert f"({supervised.folder / '0.log'}):\n  Traceback" in output
    wait_until_gone(other, *children)


def test_a_service_that_never_answers_stops_everything(tmp_path: Path) -> None:
    with start(tmp_path, "/ill", 5) as process:
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "server0 did not answer within 5 seconds" in output
    wait_until_gone(*Supervised(process, tmp_path).stubborn_children())


def test_notable_lines_are_shown_and_all_are_in_the_log(supervised: Supervised) -> None:
    error = "server0: OSError: odd"
    assert f"{error}\n" in supervised.wait_until_up()
    log = (supervised.folder / "0.log").read_text(encoding="utf-8")
    assert log.startswith("Traceback (most recent call last):\n")
