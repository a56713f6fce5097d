"""Create the sample's second database: the customers and invoices of a small firm.

Unlike the flights, the data is invented, and it is always the same. Two views show only rows from
the past: a few times an hour an invoice is written or paid, and its `updated_at` is that time.
"""

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sample.seed import is_seeded

__all__ = ["CUSTOMERS", "INVOICES", "seed_billing"]

CUSTOMERS = 200
INVOICES = 9_000
_PAST, _FUTURE = timedelta(days=90), timedelta(days=275)
_FIRST = (
    "Acme",
    "Blue",
    "Cedar",
    "Delta",
    "Ember",
    "Fjord",
    "Granite",
    "Harbor",
    "Iris",
    "Juniper",
)
_SECOND = (
    "Bakery",
    "Books",
    "Dairy",
    "Garden",
    "Labs",
    "Mills",
    "Press",
    "Shoes",
    "Tools",
    "Works",
)
_COUNTRIES = ("AT", "BR", "CA", "DE", "ES", "FR", "IN", "JP", "NL", "US")

_SCHEMA = """
create table all_customers (
  id integer primary key, name text not null, country text not null, updated_at text not null);
create table all_invoices (
  id integer primary key, customer_id integer not null, issued_at text not null,
  amount real not null, currency text not null, status text not null, updated_at text not null);
create table clock (moment text not null);
insert into clock values ('now');
create index all_customers_updated_at on all_customers (updated_at);
create index all_invoices_updated_at on all_invoices (updated_at);
create view customers as select * from all_customers
  where updated_at <= strftime('%Y-%m-%dT%H:%M:%SZ', (select moment from clock));
create view invoices as select * from all_invoices
  where updated_at <= strftime('%Y-%m-%dT%H:%M:%SZ', (select moment from clock));
pragma user_version=1;
"""

_Row = tuple[int | float | str, ...]


def seed_billing(database: Path, *, now: datetime | None = None) -> None:
    """Write the database, unless it exists. The finished file appears in one step, or not at all.

    `now` is the time of seeding. The rows start 90 days before it.
    """
    if is_seeded(database):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    unfinished = database.with_name(f"{database.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    chance = random.Random(1)  # noqa: S311 - the rows must be the same every time
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(second=0, microsecond=0)
    with closing(sqlite3.connect(unfinished)) as connection, connection:
        connection.executescript(_SCHEMA)
        connection.executemany(
            "insert into all_customers values (?, ?, ?, ?)", _customers(chance, moment)
        )
        connection.executemany(
            "insert into all_invoices values (?, ?, ?, ?, ?, ?, ?)", _invoices(chance, moment)
        )
    unfinished.replace(database)


def _customers(chance: random.Random, now: datetime) -> Iterator[_Row]:
    for number, seconds in enumerate(_ordered(chance, CUSTOMERS, _PAST), 1):
        name = f"{chance.choice(_FIRST)} {chance.choice(_SECOND)} {number}"
        yield number, name, chance.choice(_COUNTRIES), _text(now - _PAST, seconds)


def _invoices(chance: random.Random, now: datetime) -> Iterator[_Row]:
    for number, seconds in enumerate(_ordered(chance, INVOICES, _PAST + _FUTURE), 1):
        issued, updated = _text(now - _PAST, seconds), _text(now - _PAST, seconds)
        status = "open"
        if chance.random() < 0.7:  # seven in ten pay, within two weeks
            status = "paid"
            updated = _text(now - _PAST, seconds + chance.uniform(3_600, 14 * 86_400))
        amount = round(chance.lognormvariate(5, 1), 2)
        yield number, chance.randint(1, CUSTOMERS), issued, amount, "EUR", status, updated


def _ordered(chance: random.Random, count: int, within: timedelta) -> list[float]:
    return sorted(chance.uniform(0, within.total_seconds()) for _ in range(count))


def _text(start: datetime, seconds: float) -> str:
    return f"{start + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
