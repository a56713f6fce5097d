"""The Dagster instance that ticks ask, opened once for all of them."""

from threading import Lock
from typing import Protocol

import dagster as dg
from dagster._core.instance import InstanceRef

__all__ = ["TickInstance"]


class _TickContext(Protocol):
    """What the contexts of schedules and sensors have in common."""

    @property
    def instance(self) -> dg.DagsterInstance:
        """The instance, opened for this one tick."""

    @property
    def instance_ref(self) -> InstanceRef | None:
        """Where the instance is; None in tests that bring one."""


class TickInstance:
    """Keeps the instance open from tick to tick.

    Opened for a single tick, as `context.instance` is, it takes longer than all else that a tick does: Dagster
    reads the history of its database schemas each time, some 350 modules. A code location with hundreds
    of schedules that are due every minute can't afford that.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._opened: tuple[InstanceRef, dg.DagsterInstance] | None = None

    def of(self, context: _TickContext) -> dg.DagsterInstance:
        """The instance of a tick."""
        where = context.instance_ref
        if where is None:
            return context.instance
        with self._lock:
            if self._opened is None or self._opened[0] != where:
                self._opened = (where, dg.DagsterInstance.from_ref(where))
            return self._opened[1]
