"""All cases. A new one registers here, and is measured, written down and reported with the others."""

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
    """The cases, in the order of the report; `quick` ones are small and prove only that they work."""
    sizes = QUICK if quick else FULL
    return tuple(build(sizes) for build in _BUILDERS)
