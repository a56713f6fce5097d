"""The types of the benchmarks: cases, their contestants, samples and goals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Bench", "Case", "Contestant", "Goal", "Sample", "UnableError", "WrongResultError"]

Sample = Mapping[str, float]
"""One measurement: numbers by measure, in seconds or bytes (see `benchmarks.measures`)."""


class UnableError(Exception):
    """A contestant can't run here. The message says why. The others are measured without it."""


class WrongResultError(Exception):
    """The tables of a contestant differ from the API's data, so its figures mean nothing."""


@dataclass(frozen=True)
class Bench:
    """The resources that a run of the benchmarks gives to its contestants.

    `api` is the URL of the benchmark API, `folder` an empty folder for this one measurement,
    `peers` the folder with the peers' virtual environments.
    """

    api: str
    folder: Path
    peers: Path


@dataclass(frozen=True)
class Contestant:
    """A program that does the work of a case once, and is measured.

    `run` raises `UnableError` or `WrongResultError`. `role` sets the colour in the plot. `note` is
    printed below the table.
    """

    name: str
    label: str
    role: Literal["ours", "peer", "floor"]
    run: Callable[[Bench], Sample]
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """A goal of a case: a measure of one contestant, or its ratio to another contestant's.

    With `to`, the value is the median of `of` divided by the median of `to`. `at_least` or
    `at_most` is the limit, in the measure's unit or as a ratio. Without either, the value is only
    reported. `also` is another measure, whose ratio is reported beside it. Goals are listed by `row`.
    """

    row: int
    text: str
    measure: str
    of: str
    to: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    also: str | None = None


@dataclass(frozen=True)
class Case:
    """Contestants that do the same work and are measured in turns.

    `rows` is the maximum number of records of one resource that the API serves. `shown` are the
    measures of the case's table; the first of them is plotted. `rounds` overrides the number of
    rounds of the command line.
    """

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    goals: tuple[Goal, ...] = ()
    rows: int = 0
    shown: tuple[str, ...] = ("work_cpu", "cpu", "wall", "rss")
    rounds: int | None = None
