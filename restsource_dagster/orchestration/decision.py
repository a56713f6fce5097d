"""What a tick of a schedule does, apart from how Dagster is asked and answered.

The decision goes by slot, not by the time of the tick: a late tick after a downtime then still
starts what was missed, and a tick that comes twice starts nothing the second time.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from restsource_dagster.orchestration.slots import Interval, as_text, last_due, next_due

__all__ = ["Due", "InProgress", "RunHistory", "Skip", "decide"]


@dataclass(frozen=True)
class Due:
    """Start a run for this slot."""

    slot: datetime


@dataclass(frozen=True)
class Skip:
    """Start nothing, and tell people why."""

    reason: str


@dataclass(frozen=True)
class InProgress:
    """A run of the connector that is not over."""

    run_id: str
    queued: bool
    """Whether it still waits for its turn."""
    since: datetime
    """Since when it waits or runs, UTC."""


class RunHistory(Protocol):
    """The runs of one connector, as far as a decision needs them."""

    def run_for(self, slot: datetime) -> str | None:
        """The id of a run that stands for this slot or a later one, however it ended."""

    def in_progress(self) -> InProgress | None:
        """The oldest run that is not over, whatever asked for it."""


def decide(
    schedule: Interval, created_at: datetime, tick: datetime, history: RunHistory
) -> Due | Skip:
    """Decide what the tick of this moment does.

    Asks the history only as far as it has to. Raises `ValueError` if a time has no time zone.
    """
    slot = last_due(schedule, created_at, tick)
    following = as_text(next_due(schedule, created_at, tick))
    if slot is None:
        return Skip(f"Not due yet: the first scheduled run is due at {following}.")
    if run_id := history.run_for(slot):
        if slot == tick:
            return Skip(
                f"The run due at {as_text(slot)} was started already (run {run_id}). "
                f"The next run is due at {following}."
            )
        return Skip(f"Nothing is due at {as_text(tick)}. The next run is due at {following}.")
    if run := history.in_progress():
        state = "waiting in the queue" if run.queued else "still going"
        return Skip(
            f"Run {run.run_id} of this connector is {state}, since {as_text(run.since)}, so the"
            f" run due at {as_text(slot)} is not started now. The next run is due at {following}."
        )
    return Due(slot)
