"""The tests' own Postgres: a database for each test, and nothing left behind."""

import signal
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from restsource_dagster_tests.processes import wait_until_gone
from restsource_dagster_tests.servers.postgres import find_postgres
from restsource_dagster_tests.waiting import wait_until

KILLED = """
import os, signal
from restsource_dagster_tests.servers.postgres import PostgresServer, find_postgres

server = PostgresServer(find_postgres())
folder = server.folder
pid = (folder / "cluster/postmaster.pid").read_text().split()[0]
print(pid, folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_database(postgres_url: str, turn: int) -> None:
    connection = psycopg2.connect(postgres_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE made (id int)")
    connection.close()


@pytest.mark.skipif(find_postgres() is None, reason="Postgres is not installed")
def test_a_server_ends_with_a_process_that_is_killed() -> None:
    """Its folder goes, too."""
    killed = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, check=False)
    assert killed.returncode == -signal.SIGKILL
    pid, folder = killed.stdout.decode().split()
    wait_until_gone(int(pid))
    wait_until(lambda: not Path(folder).exists(), "the end of the cluster's folder")
