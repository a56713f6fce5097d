"""The list of all cases. A new case is added here."""

from dataclasses import replace

from benchmarks.cases import latency, memory, peers, postgres, startup, throughput
from benchmarks.cases.sizes import FULL, QUICK
from benchmarks.model import Case

__all__ = ["all_cases"]

_BUILDERS = (
    throughput.by_default,
    throughput.modes,
    throughput.floors,
    postgres.postgres,
    latency.numbered,
    latency.independent,
    latency.many_resources,
    latency.dependents,
    peers.peers,
    memory.memory,
    startup.run,
    startup.load,
)
_FULL_ONLY = (startup.schedules,)
"""The cases that take minutes at any size."""


def all_cases(*, quick: bool) -> tuple[Case, ...]:
    """Return the cases, in the order of the report.

    `quick` cases are small. They measure mostly imports, so their goals have no limits.
    """
    if quick:
        return tuple(_without_limits(build(QUICK)) for build in _BUILDERS)
    return tuple(build(FULL) for build in (*_BUILDERS, *_FULL_ONLY))


def _without_limits(case: Case) -> Case:
    goals = (replace(goal, at_least=None, at_most=None) for goal in case.goals)
    return replace(case, goals=tuple(goals))
