"""The Dagster instance that the ticks of a code location share."""

from threading import Lock

import dagster as dg

from restsource_dagster.orchestration.dagster_compat import (
    InstanceRef,
    instance_ref_of,
    open_instance_ref,
)

__all__ = ["TickInstance"]


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
