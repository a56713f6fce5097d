"""All cases. A new one registers here, and is measured, written down and reported with the others."""

from dataclasses import replace

from benchmarks.cases import latency, memory, peers, throughput
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
)


def all_cases(*, quick: bool) -> tuple[Case, ...]:
    """The cases, in the order of the report.

    `quick` ones are small: what they measure is mostly imports, so they have no limits to meet.
    """
    cases = tuple(build(QUICK if quick else FULL) for build in _BUILDERS)
    return tuple(_without_limits(case) for case in cases) if quick else cases


def _without_limits(case: Case) -> Case:
    goals = (replace(goal, at_least=None, at_most=None) for goal in case.goals)
    return replace(case, goals=tuple(goals))
