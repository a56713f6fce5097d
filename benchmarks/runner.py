"""Measure the contestants of a case by turns: A B C A B C ..., so that all see the same weather."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.model import Bench, Case, Contestant, Sample, UnableError, WrongResultError

__all__ = ["Measured", "run_case"]

Say = Callable[[str], None]


@dataclass
class Measured:
    """What became of a contestant: a sample per round, or why there are none.

    `wrong` tells a failure of the benchmark (tables that are not what the API served) from a
    contestant that can't run here.
    """

    contestant: Contestant
    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None
    wrong: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it is this project that was measured."""
        return self.contestant.role == "ours"


def run_case(case: Case, *, api: str, peers: Path, rounds: int, say: Say) -> list[Measured]:
    """Measure the case; a contestant that fails once is left out from then on."""
    measured = [Measured(contestant) for contestant in case.contestants]
    for number in range(1, (case.rounds or rounds) + 1):
        for one in measured:
            if one.failure is None:
                _measure(one, api=api, peers=peers, say=say)
                say(f"{case.name} {number}: {one.contestant.name}: {_told(one)}")
    return measured


def _measure(one: Measured, *, api: str, peers: Path, say: Say) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        try:
            one.samples.append(one.contestant.run(Bench(api, Path(folder), peers)))
        except (UnableError, WrongResultError) as error:
            one.samples.clear()
            one.failure = str(error)
            one.wrong = isinstance(error, WrongResultError)
            for note in getattr(error, "__notes__", ()):
                say(note)


def _told(one: Measured) -> str:
    return one.failure or ", ".join(_figures(one.samples[-1]))


def _figures(sample: Sample) -> Iterator[str]:
    for name, value in sample.items():
        yield f"{name} {value / 1e6:.0f} MB" if name == "rss" else f"{name} {value:.2f}"
