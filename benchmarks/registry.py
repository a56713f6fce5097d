"""All cases. A new one registers here, and is measured, written down and reported with the others."""

from dataclasses import replace

from benchmarks.cases import latency, memory, peers, startup, throughput
from benchmarks.cases.sizes import FULL, QUICK
from benchmarks.model import Case

__all__ = ["all_cases"]

_BUILDERS = (
    throughput.by_default,
    throughput.modes,
    throughput.floors,
    latency.numbered,
    latency.independent,
    latency.dependents,
    peers.peers,
    memory.memory,
    startup.run,
    startup.load,
)
_FULL_ONLY = (startup.schedules,)
"""Those that take their minutes whatever the size."""


def all_cases(*, quick: bool) -> tuple[Case, ...]:
    """The cases, in the order of the report.

    `quick` ones are small: what they measure is mostly imports, so they have no limits to meet.
    """
    if quick:
        return tuple(_without_limits(build(QUICK)) for build in _BUILDERS)
    return tuple(build(FULL) for build in (*_BUILDERS, *_FULL_ONLY))


def _without_limits(case: Case) -> Case:
    goals = (replace(goal, at_least=None, at_most=None) for goal in case.goals)
    return replace(case, goals=tuple(goals))
