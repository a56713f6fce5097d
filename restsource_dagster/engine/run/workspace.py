"""Where a run works: one lock per connector, one folder per run, nothing left behind."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from restsource_dagster.engine.errors import ConnectorBusyError

__all__ = ["connector_workspace"]

Notify = Callable[[str], None]


@contextmanager
def connector_workspace(
    state_dir: Path,
    connector: str,
    say: Notify,
    wait_seconds: float = 900.0,
) -> Iterator[Path]:
    """Hold the connector and yield an empty folder to work in.

    Runs of one connector never overlap, whoever starts them: a second one waits, saying for whom,
    and is refused with `ConnectorBusyError` after `wait_seconds`. The operating system frees the
    lock of a process that dies, however it dies. The folder is removed afterwards; those that a
    killed run left are removed, too.
    """
    locks, work = state_dir / "locks", state_dir / "work" / connector
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{connector}.lock")
    owner = locks / f"{connector}.owner"
    _acquire_connector_lock(lock, owner, connector, say, wait_seconds)
    try:
        _write_owner(owner)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield Path(tempfile.mkdtemp(prefix="run-", dir=work.absolute()))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        owner.unlink(missing_ok=True)
        lock.release()


def _acquire_connector_lock(
    lock: FileLock, owner: Path, connector: str, say: Notify, wait_seconds: float
) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another run of {connector} is going on ({_read_owner(owner)}); waiting for it to end")
        try:
            lock.acquire(timeout=wait_seconds, poll_interval=0.1)
        except Timeout as error:
            raise ConnectorBusyError(
                f"another run of {connector} ({_read_owner(owner)}) was still going on after "
                f"{wait_seconds:.0f} s, so this one did not start. See it in the Dagster UI's list "
                "of runs, or with `restsource list`; start this one again when it has ended."
            ) from error


def _write_owner(owner: Path) -> None:
    """Who holds the lock, for those who wait. Replaced as a whole: nobody reads half of it."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    new = owner.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps({"pid": os.getpid(), "since": since}), encoding="utf-8")
    new.replace(owner)


def _read_owner(owner: Path) -> str:
    try:
        known = json.loads(owner.read_text(encoding="utf-8"))
        return f"PID {known['pid']}, since {known['since']}"
    except (OSError, ValueError, KeyError):
        return "its process is not known"  # it starts or ends right now
