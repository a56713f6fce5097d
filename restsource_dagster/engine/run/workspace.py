"""The workspace of a run: the lease of its connector and an empty folder, removed afterwards."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from restsource_dagster.engine.errors import ConnectorBusyError
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import Lease, StateStore, make_private_folder

__all__ = ["Workspace", "connector_workspace"]

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Workspace:
    """What a run of a connector has for itself."""

    folder: Path
    """An empty folder."""
    lease: Lease
    """The right to change the connector's tables: check it before each change."""


@contextmanager
def connector_workspace(
    settings: Settings, state: StateStore, connector: str, notify: Notify
) -> Iterator[Workspace]:
    """Lock the connector and yield an empty folder to work in.

    Runs of one connector never overlap, however they are started, on all machines that share the state. A
    second run waits, after a message that names the first, and raises `ConnectorBusyError` after
    `lock_wait_seconds`. The lock of a process that dies becomes free. The folder is removed afterwards, with
    those that killed runs left behind.
    """
    work = settings.state_dir / "work" / connector
    make_private_folder(settings.state_dir)
    lease = state.lease("runs", connector)
    _acquire_connector(lease, connector, notify, settings.lock_wait_seconds)
    try:
        # safe under the lock: whatever is there belongs to a run that is dead
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield Workspace(Path(tempfile.mkdtemp(prefix="run-", dir=work.absolute())), lease)
    finally:
        # in this order: after the release the folder is the next run's
        shutil.rmtree(work, ignore_errors=True)
        lease.release()


def _acquire_connector(lease: Lease, connector: str, notify: Notify, wait_seconds: float) -> None:
    # without a wait first, so that the message comes only if there is something to wait for
    if lease.acquire(0):
        return
    notify(f"another run of {connector} is in progress ({lease.holder()}); waiting for it to end")
    if not lease.acquire(wait_seconds):
        raise ConnectorBusyError(
            f"another run of {connector} ({lease.holder()}) was still in progress after "
            f"{wait_seconds:.0f} s, so this one did not start. See it in the Dagster UI's list "
            "of runs, or with `restsource list`; start this one again when it has ended."
        )
