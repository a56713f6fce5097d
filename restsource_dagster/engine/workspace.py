"""Where a run works: one lock per connector, one folder per run, nothing left behind."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from restsource_dagster.engine.errors import ConnectorBusyError

__all__ = ["connector_workspace"]

CONNECTOR_WAIT_SECONDS = 900.0


@contextmanager
def connector_workspace(
    state_dir: Path,
    connector: str,
    say: Callable[[str], None],
    wait_seconds: float = CONNECTOR_WAIT_SECONDS,
) -> Iterator[Path]:
    """Hold the connector and yield an empty folder to work in.

    Runs of one connector never overlap, whoever starts them: a second one waits, saying so, and is
    refused with `ConnectorBusyError` after `wait_seconds`. The folder is removed afterwards; those
    that a killed run left are removed, too.
    """
    locks, work = state_dir / "locks", state_dir / "work" / connector
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{connector}.lock")
    _acquire(lock, connector, say, wait_seconds)
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield Path(tempfile.mkdtemp(prefix="run-", dir=work.absolute()))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _acquire(
    lock: FileLock, connector: str, say: Callable[[str], None], wait_seconds: float
) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another run of {connector} is going on; waiting for it to end")
        try:
            lock.acquire(timeout=wait_seconds)
        except Timeout as error:
            raise ConnectorBusyError(
                f"another run of {connector} was still going on after {wait_seconds:.0f} s, so "
                "this one did not start. See it in the Dagster UI's list of runs, or with "
                "`restsource list`; start this one again when it has ended."
            ) from error
