"""Grades a connector: loads it from its twin under attack, twice, and compares the tables with the truth."""

import multiprocessing
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import duckdb

from restsource_dagster.authoring.grading.attacks import ATTACKS, WELL_BEHAVED, Attack
from restsource_dagster.authoring.grading.twin_api import TwinServer, TwinTable
from restsource_dagster.authoring.grading.twin_connector import (
    TwinResource,
    option_that_helps,
    read_twin_auth,
    twin_connector,
    twin_resource,
)
from restsource_dagster.authoring.grading.twin_rows import MARKER, VERSION, CannotModelError
from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.destination.warehouse import DATABASE_NAME
from restsource_dagster.engine.preview.preview_limits import PreviewEnd
from restsource_dagster.engine.preview.previewed import Preview
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings

__all__ = ["Grade", "GradedAttack", "GradedResource", "grade"]

Verdict = Literal["survived", "failed loudly", "wrong", "does not apply", "not tried"]
"""`failed loudly`: the load under attack failed, and the next one made the table whole, or failed, too.
`wrong`: a load reported success, and the table is not what the API has."""
_RESOURCES_AT_ONCE = 4
"""Resources that share loads: a load costs some tenths of a second, whatever is in it."""
_KILL_SECONDS = 25.0
_PART_SECONDS = 0.001
"""The load that is killed stores each page, so that there is something to go on from."""


@dataclass(frozen=True)
class GradedAttack:
    """What became of a table under an attack, after one more load without it."""

    attack: str
    text: str
    verdict: Verdict
    lost: int = 0
    """Rows of the API that the table lacks."""
    doubled: int = 0
    """Rows that the table has more than once."""
    stale: int = 0
    """Rows that the table has as they were before a change."""
    failure: str | None = None
    helps: str | None = None
    """The option of the file that would help."""

    @property
    def in_words(self) -> str:
        """The verdict as it is printed: `lost 1, stale 2`."""
        counts = {"lost": self.lost, "doubled": self.doubled, "stale": self.stale}
        said = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        return said or self.verdict


@dataclass(frozen=True)
class GradedResource:
    """A resource under all attacks; `not_modelled` says why there are none."""

    name: str
    rows_from: Literal["preview", "file"]
    attacks: tuple[GradedAttack, ...] = ()
    not_modelled: str | None = None


@dataclass(frozen=True)
class Grade:
    """The grade of a connector."""

    connector: str
    resources: tuple[GradedResource, ...] = ()
    not_modelled: tuple[str, ...] = ()
    """What the twin leaves out of the whole file."""
    ended: str | None = None
    """Why it ended early."""
    seconds: float = 0.0

    @property
    def is_fine(self) -> bool:
        """True if no row was lost or doubled without a word."""
        return not any(
            one.lost or one.doubled for resource in self.resources for one in resource.attacks
        )

    def as_dict(self) -> Mapping[str, Any]:
        """Return the grade as JSON values; docs/grade.md describes them."""
        return {**asdict(self), "fine": self.is_fine}


def grade(
    connector: Connector,
    preview: Preview | None,
    *,
    resources: Collection[str] | None = None,
    attacks: Collection[str] = tuple(ATTACKS),
    seconds: float = 60.0,
    end: PreviewEnd | None = None,
) -> Grade:
    """Load the resources from a twin of the API under each attack, and say what is then in the tables.

    Nothing but a temporary folder is written, and nothing asked but 127.0.0.1. Without a preview, rows have the
    fields that the file names. `end` ends it from another thread. Raises `KeyError` for an unknown attack.
    """
    started = time.monotonic()
    chosen = [ATTACKS[name] for name in ATTACKS if name in {ATTACKS[each].name for each in attacks}]
    seen = {one.name: one for one in preview.resources} if preview else {}
    twins: dict[str, TwinResource] = {}
    reasons: dict[str, str] = {}
    for resource in connector.resources:
        if resource.name not in (resources or [one.name for one in connector.resources]):
            continue
        try:
            twins[resource.name] = twin_resource(connector, resource, seen)
        except CannotModelError as error:
            reasons[resource.name] = str(error)
    run = _GradeRun(connector, twins, chosen, started + seconds, end or PreviewEnd())
    run.execute()
    named = [
        name for name in (one.name for one in connector.resources) if name in {*twins, *reasons}
    ]
    return Grade(
        connector.name,
        tuple(
            GradedResource(
                name,
                "preview" if _has_records(seen.get(name)) else "file",
                () if name in reasons else tuple(run.graded(name)),
                reasons.get(name) or run.not_modelled(name),
            )
            for name in named
        ),
        tuple(text for text in (read_twin_auth(connector)[1],) if text),
        run.end.reason or (f"the time is up ({seconds:g} s)" if run.is_late else None),
        time.monotonic() - started,
    )


def _has_records(seen: Any) -> bool:
    return seen is not None and bool(seen.records)


@dataclass
class _GradeRun:
    """The loads of all tables of the twin: one resource under one attack each."""

    connector: Connector
    twins: Mapping[str, TwinResource]
    attacks: Sequence[Attack]
    deadline: float
    end: PreviewEnd
    tables: dict[tuple[str, str], TwinTable] = field(default_factory=dict)
    above: dict[tuple[str, str], list[tuple[TwinResource, TwinTable]]] = field(default_factory=dict)
    """The tables above each one, from the top, with what they are made of."""
    first: dict[str, str | None] = field(default_factory=dict)
    """The failure of the first load by table, None for success."""
    second: dict[str, str | None] = field(default_factory=dict)
    found: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """The numbers and versions of rows in the table."""
    is_late: bool = False

    def execute(self) -> None:
        """Load everything twice, the tables whose run is killed three times."""
        for position, (name, twin) in enumerate(self.twins.items()):
            for attack in (WELL_BEHAVED, *self.attacks):
                # short and without underscores in a row: nested tables have names of their own
                called = f"t{position}_{attack.name}"
                *above, (_, table) = twin.tables(called, attack)
                self.tables[name, attack.name] = table
                self.above[name, attack.name] = above
        if not self.tables:
            return
        auth = read_twin_auth(self.connector)[0]
        with (
            tempfile.TemporaryDirectory(prefix="restsource-grade-") as folder,
            TwinServer(self._all_tables(), auth, self._is_late) as server,
        ):
            settings = Settings(
                destination="duckdb",
                data_dir=Path(folder) / "data",
                state_dir=Path(folder) / "state",
            )
            # some resources after the others: when the time is up, those before have a verdict
            names = list(self.twins)
            for start in range(0, len(names), _RESOURCES_AT_ONCE):
                together = names[start : start + _RESOURCES_AT_ONCE]
                self._grade_resources(together, server.url, settings)
            self.found = _read_tables(Path(folder) / "data" / DATABASE_NAME, self.tables.values())

    def _grade_resources(self, names: Sequence[str], url: str, settings: Settings) -> None:
        keys = [key for key in self.tables if key[0] in names]
        self._kill(keys, url, settings)
        loads = self._connector(url, keys)
        self.first.update(self._load(loads, settings))
        for key in keys:
            self.tables[key].change_after_first_load()
        self.second.update(self._load(loads, settings))

    def _all_tables(self) -> list[TwinTable]:
        above = [table for tables in self.above.values() for _, table in tables]
        return [*self.tables.values(), *above]

    def _connector(self, url: str, keys: Iterable[tuple[str, str]]) -> Connector:
        resources = []
        for key in keys:
            below = None
            for twin, table in (*self.above[key], (self.twins[key[0]], self.tables[key])):
                resources.append(twin.under(table.name, below))
                below = table.name
        return twin_connector(self.connector, url, resources)

    def _kill(self, keys: Sequence[tuple[str, str]], url: str, settings: Settings) -> None:
        """Load the tables whose run is to be killed in a process, and kill it in the middle of each."""
        for key in keys:
            table = self.tables[key]
            if not table.attack.is_killed or self._is_late():
                continue
            part = settings.model_copy(update={"checkpoint_seconds": _PART_SECONDS})
            # "spawn": a fork of this process would share the server's sockets and dlt's state
            process = multiprocessing.get_context("spawn").Process(
                target=_load_alone, args=(self._connector(url, [key]), part), daemon=True
            )
            process.start()
            try:
                until = min(time.monotonic() + _KILL_SECONDS, self.deadline)
                while process.is_alive() and time.monotonic() < until:
                    if table.held.wait(0.05):
                        break
            finally:
                process.kill()
                process.join()
                table.released.set()

    def _load(self, connector: Connector, settings: Settings) -> dict[str, str | None]:
        """Return the failure of each table, None for success."""
        if self._is_late():
            return {}
        outcomes = ingest(
            connector,
            settings=settings,
            environment={},
            sleep=lambda _: None,
        )
        made: dict[str, str | None] = {}
        for outcome in outcomes:
            if self._is_late():
                # what failed now has failed because of that
                break
            made[outcome.resource] = outcome.failure.message if outcome.failure else None
        return made

    def _is_late(self) -> bool:
        """Return True if the time is up, or a person has ended it."""
        self.is_late = self.is_late or time.monotonic() > self.deadline
        return self.is_late or self.end.reason is not None

    def not_modelled(self, name: str) -> str | None:
        """Return why a resource can't be graded although it has a twin: its table is wrong without an attack."""
        table = self.tables.get((name, WELL_BEHAVED.name))
        if table is None or table.name not in self.second:
            return None
        failure = self.first.get(table.name) or self.second[table.name]
        if failure:
            return f"the load of its twin fails without an attack: {failure}"
        lost, doubled, stale = _compare(table, self.found.get(table.name, []))
        if lost or doubled or stale:
            return (
                f"without an attack its table lacks {lost} rows of the twin and has {doubled} twice: its steps "
                "or columns leave out what rows are known by"
            )
        return None

    def graded(self, name: str) -> Iterator[GradedAttack]:
        """Yield the verdict of each attack on a resource."""
        if self.not_modelled(name):
            return
        for attack in self.attacks:
            yield self._graded(name, attack)

    def _graded(self, name: str, attack: Attack) -> GradedAttack:
        twin, table = self.twins[name], self.tables[name, attack.name]
        if not _applies(attack, twin):
            return GradedAttack(attack.name, attack.text, "does not apply")
        if table.name not in self.first or table.name not in self.second:
            return GradedAttack(attack.name, attack.text, "not tried")
        failure, again = self.first[table.name], self.second[table.name]
        lost, doubled, stale = _compare(table, self.found.get(table.name, []))
        if again is not None:
            # a load that fails says so: what the table lacks is no secret
            lost = stale = 0
        wrong = bool(lost or doubled or stale)
        verdict: Verdict = "wrong" if wrong else "failed loudly" if failure or again else "survived"
        return GradedAttack(
            attack.name,
            attack.text,
            verdict,
            lost,
            doubled,
            stale,
            again or failure,
            option_that_helps(twin, attack, is_doubled=bool(doubled)) if wrong else None,
        )


def _applies(attack: Attack, twin: TwinResource) -> bool:
    if attack.needs_cursor and twin.shape.cursor is None:
        return False
    if attack.name == "tie" and twin.shape.key_is_cursor:
        return False
    return not (attack.needs_pages and twin.paging.kind == "single")


def _load_alone(connector: Connector, settings: Settings) -> None:
    """Load a connector in a process that is killed meanwhile."""
    for _ in ingest(connector, settings=settings, environment={}):
        pass


def _read_tables(path: Path, tables: Iterable[TwinTable]) -> dict[str, list[tuple[int, int]]]:
    """Return the numbers and versions in each table; an empty list for a table that is not there."""
    found: dict[str, list[tuple[int, int]]] = {}
    if not path.exists():
        return found
    with duckdb.connect(str(path), read_only=True) as connection:
        known = {
            str(row[0])
            for row in connection.execute(
                "SELECT table_name FROM information_schema.columns WHERE table_schema = 'twin' "
                "AND column_name = ?",
                [MARKER],
            ).fetchall()
        }
        for table in tables:
            if table.name in known:
                query = f'SELECT {MARKER}, {VERSION} FROM twin."{table.name}"'  # noqa: S608 - names of ours
                found[table.name] = connection.execute(query).fetchall()
    return found


def _compare(table: TwinTable, found: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """Return how many rows are lost, doubled and stale. Rows that the API no longer has don't count."""
    versions: dict[int, list[int]] = {}
    for number, version in found:
        versions.setdefault(number, []).append(version)
    lost = sum(number not in versions for number in table.rows)
    doubled = sum(len(versions.get(number, ())) > 1 for number in table.rows)
    stale = sum(
        row.version not in versions[number]
        for number, row in table.rows.items()
        if number in versions
    )
    return lost, doubled, stale
