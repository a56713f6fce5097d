"""A Postgres server of the tests' own: a cluster in a temporary folder, with a database for each test.

Postgres refuses to run as root, so root starts it as the user `postgres` of Debian's package. It ends with
the process that started it, however that ends.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

from restsource_dagster_tests.ports import reserve_ports
from restsource_dagster_tests.waiting import wait_until

__all__ = [
    "POSTGRES_PASSWORD",
    "PostgresServer",
    "find_postgres",
    "postgres_server",
    "postgres_url",
]

POSTGRES_PASSWORD = "c4n4ry-postgres"
USER = "restsource"
# durable is what a test's database need not be
OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}
# The shell ends the server and removes its folder when the pipe to it closes, which the system does for a
# process that is killed, too.
GUARD = 'folder=$1; shift; "$@" & cat >/dev/null; kill -QUIT $!; wait $!; rm -rf "$folder"'


def find_postgres() -> Path | None:
    """Return the folder with `initdb` and `postgres` of the newest version; None without one."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda folder: int(folder.parent.name), default=None)


class PostgresServer:
    """A server in a cluster of its own. It takes a second to start."""

    def __init__(self, programs: Path) -> None:
        self.port = reserve_ports(1)[0]
        self.folder = Path(tempfile.mkdtemp(prefix="restsource-postgres-"))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.folder, "postgres", "postgres")
        self._names = itertools.count(1)
        self._make_cluster(programs)
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        cluster = str(self.folder / "cluster")
        server = [str(programs / "postgres"), "-D", cluster, f"--port={self.port}", *options]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", GUARD, "sh", str(self.folder), *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
                **self._user,
            )
        wait_until(self._answers, "the start of Postgres")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server at once, and remove its cluster."""
        self._process.communicate()

    def url(self, database: str) -> str:
        """Return the address of a database, with the password."""
        return f"postgresql://{USER}:{POSTGRES_PASSWORD}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """Yield the URL of an empty database, which is dropped afterwards."""
        name = f"test_{next(self._names)}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _make_cluster(self, programs: Path) -> None:
        password = self.folder / "password"
        password.write_text(POSTGRES_PASSWORD)
        password.chmod(0o644)  # the folder is private
        subprocess.run(
            [
                str(programs / "initdb"),
                *("-D", str(self.folder / "cluster"), f"--username={USER}"),
                *("--auth=scram-sha-256", f"--pwfile={password}"),
                *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._user,
        )

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        import psycopg2

        with suppress(psycopg2.OperationalError):
            self._execute("SELECT 1")
            return True
        return False

    def _execute(self, statement: str) -> None:
        import psycopg2

        connection = psycopg2.connect(self.url("postgres"))
        try:
            connection.autocommit = True  # databases are made and dropped outside of transactions
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for all tests of this process."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("Postgres is not installed (Debian's package is postgresql)")
    with PostgresServer(programs) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty Postgres database of the test's own, with its password."""
    with postgres_server.new_database() as url:
        yield url
