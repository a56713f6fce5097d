"""Measure the contestants of a case in turns (A B C A B C ...), under the same conditions."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.model import Bench, Case, Contestant, Sample, UnableError, WrongResultError

__all__ = ["Measured", "run_case"]

Say = Callable[[str], None]


@dataclass
class Measured:
    """The result of a contestant: one sample per round, or the reason why there are none.

    `wrong` is True if its tables differ from the API's data, which fails the benchmark, and False
    if the contestant can't run here.
    """

    contestant: Contestant
    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None
    wrong: bool = False

    @property
    def is_ours(self) -> bool:
        """True if the contestant is this project."""
        return self.contestant.role == "ours"


def run_case(case: Case, *, api: str, peers: Path, rounds: int, say: Say) -> list[Measured]:
    """Measure the case. A contestant that fails once is left out of later rounds."""
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
