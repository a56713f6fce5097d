"""The Dagster instance: the lock under which it is made, and the one that ticks share."""

from pathlib import Path
from threading import Lock

import dagster as dg
from filelock import BaseFileLock, FileLock

from restsource_dagster.orchestration.dagster_compat import (
    InstanceRef,
    instance_ref_of,
    open_instance_ref,
)

__all__ = ["TickInstance", "instance_lock"]


def instance_lock(folder: Path) -> BaseFileLock:
    """Return the lock under which the databases of an instance are made, as a context manager.

    `folder` is the instance's folder. Dagster makes its SQLite databases when an instance is opened for
    the first time, and fails if two processes do so at once. A thread may take the lock again.
    """
    return FileLock(folder / ".restsource-instance.lock", is_singleton=True)


class TickInstance:
    """Keeps one instance open for all ticks.

    `context.instance` opens an instance for a single tick. That takes longer than the rest of the tick,
    because Dagster imports the migrations of its database schemas each time, some 350 modules. A code
    location with hundreds of schedules that are due every minute can't afford it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._opened: tuple[InstanceRef, dg.DagsterInstance] | None = None

    def for_tick(
        self, context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext
    ) -> dg.DagsterInstance:
        """Return the instance of a tick, opened by the first tick that asks for it."""
        ref = instance_ref_of(context)
        if ref is None:
            return context.instance
        # Ticks run in several threads of the code server.
        with self._lock:
            if self._opened is None or self._opened[0] != ref:
                self._opened = (ref, open_instance_ref(ref))
            return self._opened[1]
