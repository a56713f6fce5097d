"""Random histories of an API: its data changes between runs, runs are killed, and answers fail.

After each run that ends well the tables must be those of the API. A test gives a `World`: a server of an
API whose data change at random, and the file that loads it. A history has a first load and three more runs.

By hand, many histories form trees: after each run there are three ways to go on, and each begins with a copy of
the database and the state, so 27 histories share one first load and whatever else they have in common.
`RESTSOURCE_HISTORIES` is how many there are of each API (1 by default), `RESTSOURCE_HISTORIES_FROM` the first seed,
and `RESTSOURCE_HISTORIES_TOLD` a file to which each history that ends well adds a line of JSON.
"""

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote

from restsource_dagster.connector.loader import load_file
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

__all__ = [
    "HISTORIES",
    "SEEDS",
    "Api",
    "Difference",
    "HistoryApi",
    "Nurseries",
    "World",
    "check_histories",
]

HISTORIES = int(os.environ.get("RESTSOURCE_HISTORIES", "1"))
_RUNS = 3
"""Runs of a history that end well, after the first one."""
_BRANCHES = 3 if HISTORIES > 1 else 1
"""Ways to go on after each run."""
_FIRST_SEED = int(os.environ.get("RESTSOURCE_HISTORIES_FROM", "0"))
SEEDS = range(_FIRST_SEED, _FIRST_SEED + -(-HISTORIES // _BRANCHES**_RUNS))
"""A seed for each first load."""
_MOST_FAILURES = 40
"""Runs that fail one after the other before a flaky API counts as one that never answers."""
_PERCENT = {"500": 4, "503": 2, "reset": 1, "half": 1, "silence": 0.3}
"""How many of a flaky API's answers fail, and how."""
_TIMEOUT_SECONDS = 3

Tables = Mapping[str, list[tuple[Any, ...]]]
"""Rows by the name of their table. The first value of a row is its key."""


class Api(Protocol):
    """A server whose answers are set by path: `ApiServer`, or one that fails now and then."""

    answers: dict[str, Any]
    seen: list[Seen]

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""


class World(Protocol):
    """An API with data that change, and what is loaded from it.

    Two worlds of one seed have the same data after the same changes.
    """

    random: random.Random
    """Decides on the changes."""

    @property
    def file(self) -> Mapping[str, Any]:
        """The connector file, without references to the environment."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns to compare, as SQL, by the name of the table. The first is the key."""

    def change(self, changes: int) -> None:
        """Create, change and delete so many records at random."""

    def expected(self) -> Tables:
        """What the tables should hold: the columns of `columns`, in any order of rows."""


class HistoryApi(FaultServer):
    """A server as `ApiServer` is one, and flaky if it is told to be."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {}
        self.seen: list[Seen] = []
        self.is_flaky = False
        self.failed: Counter[str] = Counter()
        self._dice = random.Random(seed)

    async def _decide(self, arrival: Arrival) -> Reply:
        seen = Seen(
            arrival.method, unquote(arrival.path), arrival.query, arrival.headers, arrival.body
        )
        self.seen.append(seen)
        answer = self.answers.get(seen.path, Answer({"error": "no such path"}, status=404))
        answer = answer(seen) if callable(answer) else answer
        answer = answer if isinstance(answer, Answer) else Answer(answer)
        fault = self._fault() if self.is_flaky else ""
        self.failed[fault] += 1
        if fault in ("500", "503"):
            return Reply({"error": "out of order"}, status=int(fault))
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        return Reply(
            body,
            status=answer.status,
            headers=answer.headers,
            reset=fault == "reset",
            cut=len(body) // 2 if fault == "half" else None,
            delay=_TIMEOUT_SECONDS + 1 if fault == "silence" else 0,
        )

    def _fault(self) -> str:
        number = self._dice.uniform(0, 100)
        for fault, percent in _PERCENT.items():
            if number < percent:
                return fault
            number -= percent
        return ""


@dataclass(frozen=True)
class Difference:
    """How a table differs from the API's rows."""

    table: str
    lost: list[tuple[Any, ...]]
    """Rows of the API that are missing."""
    doubled: list[tuple[Any, ...]]
    """Rows that are there more often than in the API."""
    stale: list[tuple[Any, ...]]
    """Rows with other values than in the API, or that the API no longer has."""

    @classmethod
    def between(cls, expected: Tables, found: Tables) -> "list[Difference]":
        """Return the differences of all tables; empty if there is none."""
        return [
            one
            for table, rows in expected.items()
            if (one := cls._of(table, rows, found[table])).lost or one.doubled or one.stale
        ]

    @classmethod
    def _of(
        cls, table: str, expected: list[tuple[Any, ...]], found: list[tuple[Any, ...]]
    ) -> "Difference":
        more, less = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
        keys = {row[0] for row in found}
        doubled = [row for row in more if row in expected]
        stale = [row for row in more if row not in expected]
        return cls(table, [row for row in less if row[0] not in keys], doubled, stale)


@dataclass
class Nurseries:
    """Where runs start: those that may be killed, and those that don't wait before they retry."""

    killed: Nursery = field(default_factory=Nursery)
    hurried: Nursery = field(default_factory=Nursery)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.killed.__exit__()
        self.hurried.__exit__()


@dataclass(frozen=True)
class _Change:
    """Changes of the API's data, which may be made again."""

    seed: str
    count: int


@dataclass(frozen=True)
class _History:
    """A history up to one of its runs. `api` and `nurseries` are those of the whole tree."""

    make_world: Callable[[Api, int], World]
    api: HistoryApi
    nurseries: Nurseries
    seed: int
    folder: Path
    changes: tuple[_Change, ...] = ()
    """All that made the world what it is."""
    told: tuple[str, ...] = ()
    """What happened, for the message of a failure."""

    @property
    def settings(self) -> Settings:
        return make_settings(self.folder)

    def went_on(self, branch: int) -> Self:
        """Return a history that goes on from here, with a database and a state of its own."""
        folder = self.folder.with_name(f"{self.folder.name}{branch}")
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)

    def changed(self, world: World, dice: random.Random, *counts: int) -> Self:
        """Change the data of the API, so often as one of the numbers says."""
        change = _Change(str(dice.random()), dice.choice(counts))
        _apply(change, world)
        told = (*self.told, f"{change.count} changes")
        return replace(self, changes=(*self.changes, change), told=told)

    def world(self) -> World:
        """Put the world into the server as it is at this point of the history."""
        self.api.answers.clear()
        self.api.seen.clear()
        world = self.make_world(self.api, self.seed)
        for change in self.changes:
            _apply(change, world)
        return world

    def file(self, world: World) -> Mapping[str, Any]:
        """The file that the world's file stands for."""
        configs = self.folder / "configs"
        configs.mkdir(exist_ok=True)
        path = configs / "history.json"
        path.write_text(json.dumps(world.file))
        loaded = load_file(path)
        assert loaded.connector is not None, loaded.problems
        value = loaded.expanded or world.file
        # a flaky API may be silent; and a file of the name `shop` is what a nursery runs
        http = {**value.get("http", {}), "timeout_seconds": _TIMEOUT_SECONDS}
        return {**value, "name": "history", "http": http}

    def run(self, world: World) -> tuple[float, float]:
        """Run undisturbed; return the seconds before the load and from there on."""
        done = self.nurseries.killed.start(self.file(world), self.folder).finish()
        return done.seconds_of("load")

    def run_killed(self, world: World, dice: random.Random, seconds: tuple[float, float]) -> str:
        """Kill a run at any moment, every other one in its load; return what happened."""
        run = self.nurseries.killed.start(self.file(world), self.folder)
        in_load = dice.random() < 0.5
        return f"a run killed in {run.kill_at_random(seconds, dice, in_load=in_load)}"

    def run_flaky(self, world: World) -> Iterator[str]:
        """Run against the flaky API until a run ends well; yield what happened."""
        self.api.is_flaky = True
        for attempt in range(_MOST_FAILURES):
            run = self.nurseries.hurried.start(self.file(world), self.folder, hurried=True)
            failed = run.end()["ended"]
            yield "a failed run" if failed else "a flaky run"
            if not failed:
                break
            assert attempt < _MOST_FAILURES - 1, run.told[-5:]
        self.api.is_flaky = False

    def ran(self, world: World, seconds: tuple[float, float]) -> Self:
        """Run, maybe with a disturbance; fail the test if a table is not that of the API afterwards."""
        dice = random.Random(f"{self.seed} {self.folder.name}")
        history = self.changed(world, dice, 0, 3, 10, 40)
        disturbance = dice.choice(["none", "kill", "kill", "flaky"])
        if disturbance == "flaky":
            history = history.then(*history.run_flaky(world))
        else:
            if disturbance == "kill":
                history = history.then(history.run_killed(world, dice, seconds))
                history = history.changed(world, dice, 0, 3, 10, 40)
            history.run(world)
            history = history.then("a run")
        history.check(world)
        return history

    def then(self, *happened: str) -> Self:
        """Return the history with what happened."""
        return replace(self, told=(*self.told, *happened))

    def found(self, world: World) -> Tables:
        """What the tables hold. A list that never had a row has no table; a name may have a condition."""
        made = query(self.settings, "SELECT table_name FROM information_schema.tables")
        return {
            table: query(self.settings, f"SELECT {columns} FROM history.{table}")
            if (table.split()[0],) in made
            else []
            for table, columns in world.columns.items()
        }

    def check(self, world: World) -> None:
        """Fail the test if a table is not that of the API."""
        differences = Difference.between(world.expected(), self.found(world))
        assert not differences, f"seed {self.seed}, {', '.join(self.told)}: {differences}"

    def note(self, world: World) -> None:
        """Add a line to the file of the histories that ended well."""
        if path := os.environ.get("RESTSOURCE_HISTORIES_TOLD"):
            name = type(world).__name__
            line = {"world": name, "seed": self.seed, "way": self.folder.name, "told": self.told}
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(line)}\n")


def _apply(change: _Change, world: World) -> None:
    world.random.seed(change.seed)
    world.change(change.count)


def check_histories(
    make_world: Callable[[Api, int], World], folder: Path, nurseries: Nurseries, seed: int
) -> None:
    """Play the random histories of a first load; fail the test if the tables are not the API's after a run."""
    with HistoryApi(seed) as api:
        first = _History(make_world, api, nurseries, seed, folder / "way")
        first.folder.mkdir()
        world = first.world()
        first = first.changed(world, random.Random(seed), 40)
        seconds = first.run(world)
        first.check(world)
        _go_on(first, seconds, _RUNS)


def _go_on(history: _History, seconds: tuple[float, float], runs: int) -> None:
    """Play all ways to go on with so many runs."""
    for branch in range(_BRANCHES):
        ours = history.went_on(branch)
        world = ours.world()
        ours = ours.ran(world, seconds)
        if runs > 1:
            _go_on(ours, seconds, runs - 1)
        else:
            ours.note(world)
        shutil.rmtree(ours.folder)
