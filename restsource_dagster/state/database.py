"""State in a Postgres database, which runs on all machines share.

Four tables whose names begin with `restsource_`; they are made at the first use, and other tables of the
database are left alone. Times are those of the database: clocks of machines differ.
"""

import hashlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from restsource_dagster.settings import Settings
from restsource_dagster.state.cipher import TextCipher
from restsource_dagster.state.request_table import DatabaseRequests
from restsource_dagster.state.state_errors import LeaseLostError, StateError
from restsource_dagster.state.store import (
    FileLease,
    FolderStore,
    Lease,
    LeaseKind,
    StateKind,
    StoredText,
)

__all__ = ["DatabaseLease", "DatabaseStore", "open_database"]

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 10
_RENEWALS_PER_LEASE = 4
_MAX_POLL_SECONDS = 1.0
_MOST_IDLE_SECONDS = 10.0
"""After so long without a statement the server ends a transaction: its process stands still, and others wait for it."""
# any number: it keeps two processes from making the tables at once
_SCHEMA_LOCK = 7_305_061_977
_LAST_TABLE = "restsource_pauses"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS restsource_texts (
    kind TEXT NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL,
    written_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (kind, name)
);
CREATE TABLE IF NOT EXISTS restsource_leases (
    name TEXT PRIMARY KEY, fence BIGINT NOT NULL, holder TEXT NOT NULL, place TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE IF NOT EXISTS restsource_requests (
    id BIGSERIAL PRIMARY KEY, log TEXT NOT NULL, arrived_by DOUBLE PRECISION NOT NULL,
    path TEXT NOT NULL, sender TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS restsource_requests_by_time ON restsource_requests (log, arrived_by);
CREATE TABLE IF NOT EXISTS restsource_pauses (log TEXT NOT NULL, until DOUBLE PRECISION NOT NULL)
"""
_WRITTEN_ONCE: tuple[StateKind, ...] = ("created_at", "live_starts")
"""Kinds that are read for each of a thousand connectors when definitions load, so all at once."""
_KNOWN_SECONDS = 5.0
_MIGRATED = "migrated"
"""The kind of texts that name the folders which were copied into the database."""


def open_database(settings: Settings) -> "DatabaseStore":
    """Return the store of `RESTSOURCE_STATE`, the same one for the whole process.

    Raises `StateError` if the URL is wrong, the driver is missing, or the database can't be used.
    """
    key = settings.token_key.get_secret_value() if settings.token_key else None
    return _open_once(settings.state_url or "", settings.state_dir, key, settings.lease_seconds)


@cache
def _open_once(url: str, folder: Path, key: str | None, lease_seconds: float) -> "DatabaseStore":
    return DatabaseStore(url, FolderStore(folder, key), key, lease_seconds)


class DatabaseStore:
    """The state in the database at `url`; `local` is the folder of what this machine alone needs."""

    def __init__(self, url: str, local: FolderStore, key: str | None, lease_seconds: float) -> None:
        self._database = _Database(url)
        self._local, self._cipher, self._lease_seconds = local, TextCipher(key), lease_seconds
        self._read_before: dict[StateKind, tuple[float, Mapping[str, StoredText]]] = {}
        self.secrets = (*self._cipher.secrets, *self._database.secrets)
        self._database.make_tables()
        self._migrate()

    def location(self, kind: StateKind, name: str) -> str:
        """Return the database and the name of a text."""
        return f"{self._database.shown}: {kind} of {name}"

    def read(self, kind: StateKind, name: str) -> StoredText | None:
        """Return a text; None if there is none. Raises `StateError`."""
        # what is missing there may have been written since: then the table itself is asked
        if kind in _WRITTEN_ONCE and (known := self._read_all(kind).get(name)):
            return known
        query = (
            "SELECT content, written_at FROM restsource_texts WHERE kind = :kind AND name = :name"
        )
        with self._database.transaction() as connection:
            found = connection.execute(text(query), {"kind": kind, "name": name}).first()
        if found is None:
            return None
        content = found.content.encode()
        if kind == "tokens":
            content = self._cipher.decrypted(content, self.location(kind, name))
        return StoredText(content, found.written_at.astimezone(UTC))

    def _read_all(self, kind: StateKind) -> Mapping[str, StoredText]:
        """Return all texts of a kind that is written once, as they were some seconds ago."""
        read_at, texts = self._read_before.get(kind, (-math.inf, {}))
        if time.monotonic() - read_at > _KNOWN_SECONDS:
            query = "SELECT name, content, written_at FROM restsource_texts WHERE kind = :kind"
            with self._database.transaction() as connection:
                texts = {
                    row.name: StoredText(row.content.encode(), row.written_at.astimezone(UTC))
                    for row in connection.execute(text(query), {"kind": kind})
                }
            self._read_before[kind] = time.monotonic(), texts
        return texts

    def write_once(self, kind: StateKind, name: str, content: str) -> None:
        """Store a text unless there is one. Raises `StateError`."""
        with self._database.transaction() as connection:
            _insert_unless_exists(connection, kind, name, content)

    def write(self, kind: StateKind, name: str, content: str, lease: Lease | None = None) -> None:
        """Store a text, tokens encrypted. Raises `StateError`, and `LeaseLostError` without writing."""
        if kind == "tokens":
            content = self._encrypted(content)
        with self._database.transaction() as connection:
            # in the same transaction: between a check and a write of its own another holder could
            # write
            if isinstance(lease, DatabaseLease):
                lease.hold_in(connection)
            connection.execute(
                text(
                    "INSERT INTO restsource_texts (kind, name, content) VALUES (:kind, :name, :content) "
                    "ON CONFLICT (kind, name) DO UPDATE SET content = EXCLUDED.content, "
                    "written_at = clock_timestamp()"
                ),
                {"kind": kind, "name": name, "content": content},
            )

    def _encrypted(self, content: str) -> str:
        if not self._cipher.has_key:
            raise StateError(
                f"tokens are stored in the database {self._database.shown}, where they must be encrypted. Set "
                'RESTSOURCE_TOKEN_KEY to a key. Make one: python -c "from cryptography.fernet import Fernet; '
                'print(Fernet.generate_key().decode())"'
            )
        return self._cipher.encrypted(content.encode()).decode()

    def delete(self, kind: StateKind, name: str) -> None:
        """Remove a text if there is one."""
        with self._database.transaction() as connection:
            connection.execute(
                text("DELETE FROM restsource_texts WHERE kind = :kind AND name = :name"),
                {"kind": kind, "name": name},
            )

    def names(self, kind: StateKind) -> Sequence[str]:
        """Return the names of all texts of a kind."""
        query = "SELECT name FROM restsource_texts WHERE kind = :kind"
        with self._database.transaction() as connection:
            return list(connection.execute(text(query), {"kind": kind}).scalars())

    def lease(self, kind: LeaseKind, name: str) -> "DatabaseLease":
        """Return the lease of a name, which is not acquired yet."""
        local = self._local.lease(kind, name)
        return DatabaseLease(self._database, f"{kind}/{name}", local, self._lease_seconds)

    def requests(self, log: str) -> DatabaseRequests:
        """Return the requests of a budget."""
        return DatabaseRequests(self._database.transaction, log)

    def _migrate(self) -> None:
        """Copy the texts of the local folder, once for each folder; what the database has stays.

        Requests of shared budgets are not copied: they count for a day at most.
        """
        texts = list(self._local.texts())
        if not texts:
            return
        # by its content: a container has a new name each time, and two machines may use one path
        folder = hashlib.sha256(repr(texts).encode()).hexdigest()
        plain = 0
        # one transaction with the note: a process that dies in between leaves neither, and the next
        # one copies
        with self._database.transaction() as connection:
            if not _insert_unless_exists(connection, _MIGRATED, folder, ""):
                return
            copied = 0
            for kind, name, content in texts:
                try:
                    stored = content.decode()
                except UnicodeDecodeError:
                    continue  # damaged, and no more useful elsewhere
                if kind == "tokens" and '"encrypted"' not in stored:
                    if not self._cipher.has_key:
                        plain += 1
                        continue
                    stored = self._encrypted(stored)
                copied += _insert_unless_exists(connection, kind, name, stored)
        _logger.warning(
            "%s of the state folder %s were copied into the database %s",
            f"{copied} of {len(texts)} texts",
            self._local.folder,
            self._database.shown,
        )
        if plain:
            _logger.warning(
                "%s logins of %s are not encrypted and were not copied. Set RESTSOURCE_TOKEN_KEY, and run "
                "`restsource login` for their connectors",
                plain,
                self._local.folder,
            )


def _insert_unless_exists(connection: Connection, kind: str, name: str, content: str) -> bool:
    """Insert a text; return False if there is one, which stays as it is."""
    made = connection.execute(
        text(
            "INSERT INTO restsource_texts (kind, name, content) VALUES (:kind, :name, :content) "
            "ON CONFLICT DO NOTHING"
        ),
        {"kind": kind, "name": name, "content": content},
    )
    return bool(made.rowcount)


class DatabaseLease:
    """A lease in the database, and below it the lock of this machine.

    The lease is renewed in a thread. Each holder has a higher fencing number than the one before it, and
    renewing asks for the own number: so a holder that lost its lease learns it, however long it stood still.
    """

    def __init__(self, database: "_Database", name: str, local: FileLease, seconds: float) -> None:
        self._database, self._name, self._local, self._seconds = database, name, local, seconds
        self._fence: int | None = None
        self._ended = threading.Event()

    def acquire(self, seconds: float) -> bool:
        """Wait for the lease for at most so many seconds. Raises `OSError` and `StateError`."""
        deadline = time.monotonic() + seconds
        # first: the one process of this machine that asks the database
        if not self._local.acquire(seconds):
            return False
        try:
            # polled: a lease that ends by itself, as its holder died on another machine, wakes
            # nobody
            self._fence = self._take()
            while self._fence is None and time.monotonic() < deadline:
                time.sleep(min(_MAX_POLL_SECONDS, self._seconds / _RENEWALS_PER_LEASE))
                self._fence = self._take()
        finally:
            if self._fence is None:
                self._local.release()
        if self._fence is None:
            return False
        # a daemon: a process that has crashed in its main thread must not keep the lease alive
        threading.Thread(target=self._keep, name="restsource-lease", daemon=True).start()
        return True

    def holder(self) -> str:
        """Return the process that has the lease."""
        query = "SELECT holder FROM restsource_leases WHERE name = :name"
        with self._database.transaction() as connection:
            holder = connection.execute(text(query), {"name": self._name}).scalar()
        return holder or "its process is unknown"

    def check(self) -> None:
        """Renew the lease. Raises `LeaseLostError` if another holder may have it, and `StateError`."""
        try:
            self._renew()
        except LeaseLostError:
            raise
        except StateError:
            # once more: the server has ended the session if this process stood still in its transaction
            self._renew()

    def _renew(self) -> None:
        with self._database.transaction() as connection:
            renewed = connection.execute(
                text(
                    "UPDATE restsource_leases SET expires_at = clock_timestamp() + :seconds * interval '1 second' "
                    "WHERE name = :name AND fence = :fence"
                ),
                {"seconds": self._seconds, "name": self._name, "fence": self._fence},
            )
            if not renewed.rowcount:
                raise self._lost()

    def hold_in(self, connection: Connection) -> None:
        """Keep the lease for a transaction. Raises `LeaseLostError` if another holder may have it."""
        # the row stays locked until the commit, so nobody takes the lease while the transaction
        # writes
        query = "SELECT 1 FROM restsource_leases WHERE name = :name AND fence = :fence FOR NO KEY UPDATE"
        values = {"name": self._name, "fence": self._fence}
        if connection.execute(text(query), values).first() is None:
            raise self._lost()

    def release(self) -> None:
        """Free the lease, unless another holder has it. Without the database it ends by itself."""
        # first: a renewal that comes after the release would extend the lease that was freed
        self._ended.set()
        try:
            with suppress(StateError), self._database.transaction() as connection:
                connection.execute(
                    text(
                        "UPDATE restsource_leases SET expires_at = 'epoch' "
                        "WHERE name = :name AND fence = :fence"
                    ),
                    {"name": self._name, "fence": self._fence},
                )
        finally:
            self._fence = None
            self._local.release()

    def _take(self) -> int | None:
        """Take the lease if it is free; return its fencing number, None if it is not."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        # one statement: of two processes that find the lease free, the row's lock lets one through
        with self._database.transaction() as connection:
            taken = connection.execute(
                text(
                    "INSERT INTO restsource_leases AS known (name, fence, holder, place, expires_at) "
                    "VALUES (:name, 1, :holder, :place, clock_timestamp() + :seconds * interval '1 second') "
                    "ON CONFLICT (name) DO UPDATE SET fence = known.fence + 1, holder = EXCLUDED.holder, "
                    "place = EXCLUDED.place, expires_at = EXCLUDED.expires_at "
                    "WHERE known.expires_at <= clock_timestamp() OR known.place = EXCLUDED.place "
                    "RETURNING fence"
                ),
                {
                    "name": self._name,
                    "holder": f"PID {os.getpid()} on {socket.gethostname()}, since {since}",
                    "place": _place_of(self._local.path),
                    "seconds": self._seconds,
                },
            ).scalar()
        return None if taken is None else int(taken)

    def _keep(self) -> None:
        """Renew the lease until it is released or lost."""
        while not self._ended.wait(self._seconds / _RENEWALS_PER_LEASE):
            try:
                self.check()
            except LeaseLostError:
                return  # who holds it meets the same error at its next check
            except StateError as error:
                _logger.warning("a lease could not be renewed and is tried again: %s", error)

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"this process stood still for longer than {self._seconds:.0f} s (RESTSOURCE_LEASE_SECONDS), and another "
            f"one has taken over its work ({self._name}). It stores nothing more"
        )


def _place_of(lock: Path) -> str:
    """Return a text that two processes share only if the lock of this file keeps them apart.

    So a lease of the same place belongs to a process that is dead. A container has another device.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        found = lock.stat()
    except OSError:  # not Linux: a lease of a process that died ends by itself
        return os.urandom(16).hex()
    return f"{boot}:{found.st_dev}:{found.st_ino}"


class _Database:
    """Connections to a database; errors have no password."""

    def __init__(self, url: str) -> None:
        self._engine, self.shown, self.secrets = _make_engine(url)
        # a forked process must not use the connections of the one it comes from
        os.register_at_fork(after_in_child=lambda: self._engine.dispose(close=False))

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection whose work is committed at the end. Raises `StateError`."""
        try:
            with self._engine.begin() as connection:
                # `SET` takes no parameters
                limit = f"SET LOCAL idle_in_transaction_session_timeout = {_MOST_IDLE_SECONDS * 1000:.0f}"
                connection.execute(text(limit))
                yield connection
        except SQLAlchemyError as error:
            raise self._error(error) from None

    def make_tables(self) -> None:
        """Make the tables unless they exist."""
        with self.transaction() as connection:
            exists = text("SELECT to_regclass(:table)")
            if connection.execute(exists, {"table": _LAST_TABLE}).scalar() is not None:
                return
            # `CREATE TABLE IF NOT EXISTS` of two processes at once fails in one of them
            lock = text("SELECT pg_advisory_xact_lock(:number)")
            connection.execute(lock, {"number": _SCHEMA_LOCK})
            for statement in _SCHEMA.split(";"):
                connection.execute(text(statement))

    def _error(self, error: SQLAlchemyError) -> StateError:
        # SQLAlchemy's own message quotes the values of a statement
        cause = getattr(error, "orig", None) or error
        reason = " ".join(str(cause).split())
        for secret in self.secrets:
            reason = reason.replace(secret, "[secret]")
        return StateError(f"the state database {self.shown} can't be used: {reason}")


def _make_engine(url: str) -> tuple[Engine, str, tuple[str, ...]]:
    """Return an engine, its URL without the password, and what is secret. Raises `StateError`."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise StateError(
            "RESTSOURCE_STATE is no URL of a database. Write postgresql://user:password@host/name, or leave it out"
        ) from None
    if parsed.get_backend_name() != "postgresql":
        raise StateError(
            f"RESTSOURCE_STATE names a database of {parsed.get_backend_name()}. Use Postgres "
            "(postgresql://user:password@host/name), or a folder in RESTSOURCE_STATE_DIR"
        )
    if parsed.drivername == "postgresql":
        # SQLAlchemy 2.0 takes psycopg2 then, and 2.1 psycopg, whichever is installed
        parsed = parsed.set(drivername=f"postgresql+{_installed_driver()}")
    query: Mapping[str, Any] = parsed.query
    secrets = tuple(
        str(one)
        for one in (parsed.password, query.get("password"), query.get("sslpassword"))
        if one
    )
    shown = parsed.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    try:
        engine = create_engine(
            parsed,
            # most processes need one now and then; what a server can hold is limited
            pool_size=1,
            max_overflow=9,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _CONNECT_SECONDS},
        )
    except ModuleNotFoundError as error:
        raise _missing_driver(error.name or parsed.drivername) from None
    except ArgumentError:
        raise _missing_driver(parsed.get_driver_name()) from None
    return engine, shown, secrets


def _installed_driver() -> str:
    for name in ("psycopg2", "psycopg"):
        if find_spec(name) is not None:
            return name
    raise _missing_driver("psycopg2")


def _missing_driver(name: str) -> StateError:
    return StateError(
        f"RESTSOURCE_STATE needs the package {name}, which is not installed. Run "
        'pip install "restsource-dagster[postgres]"'
    )
