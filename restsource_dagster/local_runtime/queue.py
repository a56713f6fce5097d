"""The queue of runs, looked at as often as Dagster's daemon can."""

from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator

__all__ = ["QuickRunCoordinator"]

_DEQUEUE_INTERVAL_SECONDS = 0.25
"""The daemon waits half a second at least when it found nothing to do, so this is the shortest there is."""


class QuickRunCoordinator(QueuedRunCoordinator):
    """Dagster's queue, whose runs begin up to half a second after they were asked for.

    `dequeue_interval_seconds` is whole seconds, and as many runs as may go on at once begin in each: four in
    a second can't be 300 in a minute.
    """

    @property
    def dequeue_interval_seconds(self) -> float:  # type: ignore[override]
        """How long after one look at the queue begins the next."""
        return _DEQUEUE_INTERVAL_SECONDS
