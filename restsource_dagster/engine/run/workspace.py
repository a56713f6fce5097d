"""The workspace of a run: a lock per connector and an empty folder, removed afterwards."""

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
from restsource_dagster.settings import make_private_folder

__all__ = ["connector_workspace"]

Notify = Callable[[str], None]


@contextmanager
def connector_workspace(
    state_dir: Path,
    connector: str,
    notify: Notify,
    wait_seconds: float = 900.0,
) -> Iterator[Path]:
    """Lock the connector and yield an empty folder to work in.

    Runs of one connector never overlap, however they are started. A second run waits, after a
    message that names the first, and raises `ConnectorBusyError` after `wait_seconds`. The operating
    system releases the lock of a process that dies. The folder is removed afterwards, with those
    that killed runs left behind.
    """
    locks, work = state_dir / "locks", state_dir / "work" / connector
    make_private_folder(state_dir)
    locks.mkdir(exist_ok=True)
    lock = FileLock(locks / f"{connector}.lock")
    owner = locks / f"{connector}.owner"
    _acquire_connector_lock(lock, owner, connector, notify, wait_seconds)
    try:
        _write_owner(owner)
        # safe under the lock: whatever is there belongs to a run that is dead
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield Path(tempfile.mkdtemp(prefix="run-", dir=work.absolute()))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        # before the lock is released: afterwards the file is the next run's
        owner.unlink(missing_ok=True)
        lock.release()


def _acquire_connector_lock(
    lock: FileLock, owner: Path, connector: str, notify: Notify, wait_seconds: float
) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notify(
            f"another run of {connector} is in progress ({_read_owner(owner)}); waiting for it to end"
        )
        try:
            lock.acquire(timeout=wait_seconds, poll_interval=0.1)
        except Timeout as error:
            raise ConnectorBusyError(
                f"another run of {connector} ({_read_owner(owner)}) was still in progress after "
                f"{wait_seconds:.0f} s, so this one did not start. See it in the Dagster UI's list "
                "of runs, or with `restsource list`; start this one again when it has ended."
            ) from error


def _write_owner(owner: Path) -> None:
    """Write who holds the lock. The file is replaced as a whole, so no reader sees half of it."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    new = owner.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps({"pid": os.getpid(), "since": since}), encoding="utf-8")
    new.replace(owner)


def _read_owner(owner: Path) -> str:
    try:
        known = json.loads(owner.read_text(encoding="utf-8"))
        return f"PID {known['pid']}, since {known['since']}"
    except (OSError, ValueError, KeyError):
        # it starts or ends at this moment: the lock and the file don't change together
        return "its process is unknown"
