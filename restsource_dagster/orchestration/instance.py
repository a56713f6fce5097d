"""The Dagster instance that ticks ask, opened once for all of them."""

from threading import Lock

import dagster as dg

from restsource_dagster.orchestration.dagster_compat import (
    InstanceRef,
    instance_ref_of,
    open_instance_ref,
)

__all__ = ["TickInstance"]


class TickInstance:
    """Keeps the instance open from tick to tick.

    Opened for a single tick, as `context.instance` is, it takes longer than all else that a tick does: Dagster
    reads the history of its database schemas each time, some 350 modules. A code location with hundreds
    of schedules that are due every minute can't afford that.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._opened: tuple[InstanceRef, dg.DagsterInstance] | None = None

    def of(
        self, context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext
    ) -> dg.DagsterInstance:
        """The instance of a tick."""
        where = instance_ref_of(context)
        if where is None:
            return context.instance
        with self._lock:
            if self._opened is None or self._opened[0] != where:
                self._opened = (where, open_instance_ref(where))
            return self._opened[1]
