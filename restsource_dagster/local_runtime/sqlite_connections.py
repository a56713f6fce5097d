"""SQLite files that stay open between two uses."""

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as db
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

__all__ = ["OpenSqliteFiles", "has_tables", "open_engine"]

_BUSY_SECONDS = 30.0
"""How long a statement waits for another process, as in Dagster 1.13; Dagster 1.12 waits 5 seconds."""
_POOL_SIZE = 4
"""Connections to one file that are kept; more are made where more threads come, and closed again."""


def open_engine(address: str, *, each_commit_on_disk: bool) -> Engine:
    """An engine for a file, whose connections any thread takes and gives back.

    With `each_commit_on_disk`, a power cut loses nothing that was committed; without, it may lose the
    last half minute, and the file is whole all the same. What a killed process has committed stays in both.
    """
    engine = db.create_engine(
        address,
        poolclass=QueuePool,
        pool_size=_POOL_SIZE,
        max_overflow=-1,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )
    if not each_commit_on_disk:
        db.event.listen(engine, "connect", _synchronize_rarely)
    return engine


def _synchronize_rarely(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


def has_tables(path: Path, tables: Collection[str]) -> bool:
    """Whether a file has these tables and the version of Dagster's schema, so that nothing need be made."""
    if not path.exists():
        return False
    wanted = {"alembic_version", *tables}
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return wanted <= names and bool(
            connection.execute("SELECT 1 FROM alembic_version").fetchone()
        )


@dataclass
class _OpenFile:
    engine: Engine
    lock: Lock = field(default_factory=Lock)


class OpenSqliteFiles:
    """Files by name; the `most` that were used last stay open. One thread at a time uses a file."""

    def __init__(
        self, open_file: Callable[[str], Engine], is_there: Callable[[str], bool], most: int
    ) -> None:
        """`open_file` opens, and makes if need be; `is_there` tells of a file that was removed."""
        self._open, self._is_there, self._most = open_file, is_there, most
        self._lock = Lock()
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()

    @contextmanager
    def use(self, name: str) -> Iterator[Connection]:
        """A connection with a transaction, which is committed at the end."""
        file = self._taken(name)
        try:
            with file.engine.connect() as connection, connection.begin():
                yield connection
        finally:
            file.lock.release()

    def close(self) -> None:
        """Close all; they open again when they are used."""
        with self._lock:
            files = list(self._files.values())
            self._files.clear()
        for file in files:
            with file.lock:
                file.engine.dispose()

    def _taken(self, name: str) -> _OpenFile:
        """A file, open and locked for this thread."""
        while True:
            with self._lock:
                file = self._files.get(name)
                if file is not None:
                    self._files.move_to_end(name)
            if file is None:
                file = self._add(name)
            file.lock.acquire()
            with self._lock:
                current = self._files.get(name) is file
            if current and self._is_there(name):
                return file
            file.lock.release()
            if current:  # removed on the disk: what is open leads nowhere
                self._drop(name, file)

    def _add(self, name: str) -> _OpenFile:
        engine = self._open(name)
        with self._lock:
            file = self._files.setdefault(name, _OpenFile(engine))
            spare = self._spare()
        if file.engine is not engine:
            engine.dispose()
        for one in spare:
            one.engine.dispose()
            one.lock.release()
        return file

    def _drop(self, name: str, file: _OpenFile) -> None:
        with self._lock:
            if self._files.get(name) is file:
                del self._files[name]
        with file.lock:
            file.engine.dispose()

    def _spare(self) -> list[_OpenFile]:
        """Take out the files that are too many and that nobody uses now; they come locked."""
        spare = []
        for name in list(self._files)[: max(len(self._files) - self._most, 0)]:
            file = self._files[name]
            if file.lock.acquire(blocking=False):
                del self._files[name]
                spare.append(file)
        return spare
