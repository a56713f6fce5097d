"""Which windows to ask for now: what the file wants against what Dagster knows.

Nothing is remembered here from one look to the next. Whatever was killed in between, the next look
sees what is there and goes on.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

__all__ = ["Next", "Standing", "reconcile"]


@dataclass(frozen=True)
class Standing:
    """How the history of one resource stands. Windows go by their partition keys."""

    desired: Sequence[str]
    """The windows that the file asks for and that are over, newest first."""
    done: Set[str]
    """Loaded under the present definition."""
    going_on: Set[str]
    """Queued or running, whoever asked for them; also such that are not desired."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """How often a window was tried in vain under the present definition."""
    max_parallel: int = 1
    max_attempts: int = 3
    live: bool = False
    """Whether a live run of the connector is waiting or going on."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Windows that are neither loaded nor going on, newest first; also those that failed."""
        return tuple(
            key for key in self.desired if key not in self.done and key not in self.going_on
        )

    @property
    def given_up(self) -> tuple[str, ...]:
        """Windows that failed too often to be tried again by themselves, newest first."""
        return tuple(key for key in self.missing if self._tried(key) >= self.max_attempts)

    def with_failures(self, failures: Mapping[str, int]) -> "Standing":
        """The same with these failures."""
        return replace(self, failures=failures)

    def _tried(self, key: str) -> int:
        return self.failures.get(key, 0)


@dataclass(frozen=True)
class Next:
    """The windows to ask for now, newest first, and how it stands, in words."""

    windows: tuple[str, ...]
    words: str


def reconcile(standing: Standing) -> Next:
    """Decide which windows to ask for now."""
    given_up = set(standing.given_up)
    due = [key for key in standing.missing if key not in given_up]
    free = max(0, standing.max_parallel - len(standing.going_on))
    wanted = () if standing.live else tuple(due[:free])
    return Next(wanted, _words(standing, due, wanted))


def _words(standing: Standing, due: Sequence[str], wanted: Sequence[str]) -> str:
    total = len(standing.desired)
    loaded = sum(key in standing.done for key in standing.desired)
    parts = [f"{loaded} of {total} window{'' if total == 1 else 's'} loaded"]
    if standing.going_on:
        parts.append(f"{len(standing.going_on)} going on")
    if standing.given_up:
        parts.append(f"{len(standing.given_up)} failed {_times(standing.max_attempts)}")
    if wanted:
        parts.append(f"{len(wanted)} asked for")
    elif due and standing.live:
        parts.append("waiting for the live run")
    return ", ".join(parts)


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
