"""Runs killed one after the other, each made good by the next."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import make_settings

__all__ = ["Campaign", "Growing", "kill_and_make_good"]


class Growing(Protocol):
    """An API whose rows become more, and what is loaded from it."""

    @property
    def file(self) -> Mapping[str, Any]:
        """The connector file."""

    def grow(self) -> None:
        """Add rows."""

    def expected(self) -> Mapping[str, Any]:
        """What the tables should hold."""

    def found(self, settings: Settings) -> Mapping[str, Any]:
        """What they hold."""


@dataclass(frozen=True)
class Campaign:
    """What the kills struck, by phase, and how many loads were undone."""

    struck: Counter[str]
    undone: int


def kill_and_make_good(
    growing: Growing, folder: Path, nursery: Nursery, kills: int, seed: str
) -> Campaign:
    """Kill so many runs, every other one in its load, where some tables are done and others not.

    Fails the test if the run after a kill does not leave exactly the expected rows.
    """
    settings, dice = make_settings(folder), random.Random(seed)
    struck: Counter[str] = Counter()
    undone = number = 0
    growing.grow()
    after = nursery.start(growing.file, folder).finish()
    while struck.total() - struck["too late"] < kills:
        number += 1
        growing.grow()
        run = nursery.start(growing.file, folder)
        phase = run.kill_at_random(after.seconds_of("load"), dice, in_load=number % 2 > 0)
        struck[phase] += 1
        after = nursery.start(growing.file, folder).finish()
        undone += any("was killed while it loaded" in line for line in after.messages)
        assert growing.found(settings) == growing.expected(), f"kill {number} in {run.phase}"
    return Campaign(struck, undone)
