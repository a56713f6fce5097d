"""The fork server by itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from restsource_dagster.local_runtime.run_launcher import ForkFailedError, ForkServerClient
from restsource_dagster_tests.processes import is_running, wait_until_gone
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.usefixtures("plugins")

Ends = SimpleQueue[tuple[str, int | None]]


@pytest.fixture
def ends() -> Ends:
    """The ends of runs, as they are reported."""
    return SimpleQueue()


@pytest.fixture
def server(ends: Ends) -> Iterator[ForkServerClient]:
    running = ForkServerClient(lambda run_id, code: ends.put((run_id, code)))
    yield running
    running.retire()
    wait_until_gone(running.pid)


def at_start(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
    """Have the fork server, like any Python, execute some code when it starts."""
    path = folder / "sitecustomize.py"
    path.write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return path


def test_a_child_that_waits_does_nothing_and_is_gone_when_it_is_dropped(
    server: ForkServerClient, ends: Ends
) -> None:
    child = server.fork("job", "no arguments that would do")
    assert is_running(child)
    server.discard(child)
    wait_until_gone(child)
    other = server.fork("job", "")
    server.release(other, "another")
    # the end of the discarded one is not reported
    assert ends.get(timeout=PATIENCE_SECONDS)[0] == "another"


def test_the_end_of_a_child_is_reported_with_its_exit_code(
    server: ForkServerClient, ends: Ends
) -> None:
    child = server.fork("job", "these are no arguments")
    server.release(child, "a run")
    assert ends.get(timeout=PATIENCE_SECONDS) == ("a run", 1)
    assert not is_running(child)


def test_a_child_that_is_killed_while_it_waits_harms_nothing(
    server: ForkServerClient, ends: Ends
) -> None:
    child = server.fork("job", "")
    os.kill(child, signal.SIGKILL)
    server.release(child, "a run")
    assert ends.get(timeout=PATIENCE_SECONDS) == ("a run", -signal.SIGKILL)
    assert is_running(server.fork("job", ""))


def test_children_that_wait_end_with_the_fork_server(ends: Ends) -> None:
    server = ForkServerClient(lambda run_id, code: ends.put((run_id, code)))
    child = server.fork("job", "")
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(child)
    with pytest.raises(ForkFailedError):
        server.fork("job", "")


def test_an_interrupt_as_ctrl_c_sends_it_ends_the_fork_server(ends: Ends) -> None:
    server = ForkServerClient(lambda run_id, code: ends.put((run_id, code)))
    os.kill(server.pid, signal.SIGINT)
    wait_until_gone(server.pid)


def test_changed_code_is_noticed_before_the_next_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Ends
) -> None:
    module = at_start(tmp_path, monkeypatch, "")
    server = ForkServerClient(lambda run_id, code: ends.put((run_id, code)))
    server.discard(server.fork("job", ""))
    module.write_text("something = 'new'")
    with pytest.raises(ForkFailedError, match="code was changed"):
        server.fork("job", "")
    wait_until_gone(server.pid)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import threading\nthreading.Thread(target=threading.Event().wait).start()", "a thread"),
        ("import os\nos._exit(1)", "has ended"),
    ],
)
def test_a_fork_server_that_cant_fork_safely_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    at_start(tmp_path, monkeypatch, f"{code}\n")
    others = {child.pid for child in psutil.Process().children()}
    with pytest.raises(ForkFailedError, match=says):
        ForkServerClient(lambda run_id, code: None)
    wait_until(
        lambda: {child.pid for child in psutil.Process().children()} <= others,
        "the end of the fork server",
    )
