"""Random histories of an API: its data changes between runs, runs are killed, and answers fail.

After each run that ends well the tables must be those of the API. A test gives a `World`: a server of an
API whose data change at random, and the file that loads it. `RESTSOURCE_HISTORIES` sets how many
histories there are of each API (1 by default).
"""

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote

from restsource_dagster.connector.loader import load_file
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

__all__ = ["HISTORIES", "Api", "Difference", "HistoryApi", "Nurseries", "World", "check_history"]

HISTORIES = int(os.environ.get("RESTSOURCE_HISTORIES", "1"))
_RUNS = 3
"""Runs of a history that end well, after the first one."""
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
    """An API with data that change, and what is loaded from it."""

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


@dataclass
class _History:
    world: World
    api: HistoryApi
    folder: Path
    nurseries: Nurseries
    dice: random.Random
    told: list[str] = field(default_factory=list)
    """What happened, for the message of a failure."""

    @property
    def settings(self) -> Settings:
        return make_settings(self.folder)

    def file(self) -> Mapping[str, Any]:
        """The file that the world's file stands for."""
        configs = self.folder / "configs"
        configs.mkdir(exist_ok=True)
        path = configs / "history.json"
        path.write_text(json.dumps(self.world.file))
        loaded = load_file(path)
        assert loaded.connector is not None, loaded.problems
        value = loaded.expanded or self.world.file
        # a flaky API may be silent; and a file of the name `shop` is what a nursery runs
        http = {**value.get("http", {}), "timeout_seconds": _TIMEOUT_SECONDS}
        return {**value, "name": "history", "http": http}

    def change(self) -> None:
        changes = self.dice.choice([0, 3, 10, 40])
        self.told.append(f"{changes} changes")
        self.world.change(changes)

    def run(self) -> tuple[float, float]:
        """Run undisturbed; return the seconds before the load and from there on."""
        self.told.append("a run")
        done = self.nurseries.killed.start(self.file(), self.folder).finish()
        return done.seconds_of("load")

    def run_killed(self, seconds: tuple[float, float]) -> None:
        """Kill a run at any moment, every other one in its load."""
        run = self.nurseries.killed.start(self.file(), self.folder)
        in_load = self.dice.random() < 0.5
        phase = run.kill_at_random(seconds, self.dice, in_load=in_load)
        self.told.append(f"a run killed in {phase}")

    def run_flaky(self) -> None:
        """Run against the flaky API until a run ends well."""
        self.api.is_flaky = True
        for attempt in range(_MOST_FAILURES):
            run = self.nurseries.hurried.start(self.file(), self.folder, hurried=True)
            failed = run.end()["ended"]
            self.told.append("a failed run" if failed else "a flaky run")
            if not failed:
                break
            assert attempt < _MOST_FAILURES - 1, run.told[-5:]
        self.api.is_flaky = False

    def found(self) -> Tables:
        """What the tables hold. A list that never had a row has no table; a name may have a condition."""
        made = query(self.settings, "SELECT table_name FROM information_schema.tables")
        return {
            table: query(self.settings, f"SELECT {columns} FROM history.{table}")
            if (table.split()[0],) in made
            else []
            for table, columns in self.world.columns.items()
        }

    def check(self) -> None:
        """Fail the test if a table is not that of the API."""
        differences = Difference.between(self.world.expected(), self.found())
        assert not differences, f"after {', '.join(self.told)}: {differences}"


def check_history(
    make_world: Callable[[Api, int], World], folder: Path, nurseries: Nurseries, seed: int
) -> None:
    """Play a random history; fail the test if the tables are not the API's after a run."""
    with _played(make_world, folder, nurseries, seed) as history:
        history.world.change(40)
        seconds = history.run()
        history.check()
        for _ in range(_RUNS):
            history.change()
            disturbance = history.dice.choice(["none", "kill", "kill", "flaky"])
            if disturbance == "flaky":
                history.run_flaky()
            else:
                if disturbance == "kill":
                    history.run_killed(seconds)
                    history.change()
                history.run()
            history.check()


@contextmanager
def _played(
    make_world: Callable[[Api, int], World], folder: Path, nurseries: Nurseries, seed: int
) -> Iterator[_History]:
    with HistoryApi(seed) as api:
        world = make_world(api, seed)
        yield _History(world, api, folder, nurseries, random.Random(f"history {seed}"))
