"""The words of the benchmarks: cases, their contestants, what is measured and what is aimed at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Bench", "Case", "Contestant", "Goal", "Sample", "UnableError", "WrongResultError"]

Sample = Mapping[str, float]
"""One measurement: numbers by measure, in seconds or bytes (see `benchmarks.measures`)."""


class UnableError(Exception):
    """A contestant can't run here, and why; the others are measured without it."""


class WrongResultError(Exception):
    """A contestant ran, and its tables are not what the API served: its figures mean nothing."""


@dataclass(frozen=True)
class Bench:
    """What a run of the benchmarks lends its contestants.

    `api` is the address of the benchmark API, `folder` an empty folder for this one measurement,
    `peers` the folder of the peers' own virtual environments.
    """

    api: str
    folder: Path
    peers: Path


@dataclass(frozen=True)
class Contestant:
    """Something that does the work of a case once, and is measured.

    `run` raises `UnableError` or `WrongResultError`. `role` decides the colour in the plot; `note` is said
    below the table.
    """

    name: str
    label: str
    role: Literal["ours", "peer", "floor"]
    run: Callable[[Bench], Sample]
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """What a case is to show: a measure of one contestant, or its ratio to another's.

    With `to`, the value is the median of `of` divided by the median of `to`. `at_least` or
    `at_most` is given, in the measure's unit or as a ratio; without either, the value is only
    reported. `also` is another measure whose ratio is reported beside it. Goals are listed by `row`.
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
    """Contestants that do the same work, measured by turns.

    `rows` is the most records of one resource that the API must hold; `shown` are the measures of
    the case's table, the first of them is plotted. `rounds` overrides the number asked for.
    """

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    goals: tuple[Goal, ...] = ()
    rows: int = 0
    shown: tuple[str, ...] = ("work_cpu", "cpu", "wall", "rss")
    rounds: int | None = None
