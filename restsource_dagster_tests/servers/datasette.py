"""The sample's API on a port of its own, with a clock that a test can move."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from restsource_dagster_tests.waiting import PATIENCE_SECONDS
from sample.env_file import SampleVariables
from sample.seed import seed

__all__ = ["SAMPLE_DAYS", "SampleServer", "make_sample_database", "serve_sample"]

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_DAYS = 33
"""How many days the database of a test holds: the 30 that are visible at first, and 3 to come."""

_TOKEN = "token-of-the-sample"


@dataclass(frozen=True)
class SampleServer:
    """A running sample API."""

    port: int
    token: str
    database: Path

    @property
    def address(self) -> str:
        """Where its tables are, such as http://127.0.0.1:41234/nycflights."""
        return f"http://127.0.0.1:{self.port}/nycflights"

    @property
    def environment(self) -> dict[str, str]:
        """What `configs/nyc_flights.json` refers to."""
        return SampleVariables(token=self.token, port=self.port).as_environment()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Any:
        """Return the answer to a request, such as `flights.json?_size=1`; with the token."""
        if headers is None:
            headers = {"Authorization": f"Bearer {self.token}"}
        url = path if "://" in path else f"{self.address}/{path}"
        opener = build_opener(ProxyHandler({}))
        with opener.open(Request(url, headers=dict(headers)), timeout=PATIENCE_SECONDS) as response:  # noqa: S310
            return json.load(response)

    def count(self, table: str, condition: str = "") -> int:
        """Return the API's own count of a table's rows, for instance with `id__gt=5`."""
        answer = self.get(f"{table}.json?_size=0&{condition}")
        return int(answer["filtered_table_rows_count"])

    def set_clock(self, moment: datetime) -> None:
        """Let it be `moment` for the API, until this is called again."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            text = f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
            connection.execute("update clock set moment = ?", (text,))


def make_sample_database(path: Path) -> Path:
    """Seed a small database at `path`; some 3 seconds, so share it within a session."""
    seed(path, days=SAMPLE_DAYS)
    return path


@contextmanager
def serve_sample(database: Path, folder: Path, *others: Path) -> Iterator[SampleServer]:
    """Serve a copy of `database` from `folder`, and `others` as they are, until the block ends.

    The API's clock stands still at the moment of the call: `set_clock` lets flights appear.
    """
    copy = folder / "nycflights.db"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, copy)
    command = [
        *(sys.executable, "-m", "sample.serve", str(copy), *map(str, others)),
        *("--port", "0"),
    ]
    environment = os.environ | {"NYC_FLIGHTS_TOKEN": _TOKEN}
    with (
        (folder / "api.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            address = process.stdout.readline() if process.stdout else ""
            if not address:
                raise RuntimeError(f"the sample did not start: see {log.name}")
            port = int(address.split(":")[2].split("/")[0])
            server = SampleServer(port=port, token=_TOKEN, database=copy)
            server.set_clock(datetime.now(UTC))
            yield server
        finally:
            process.terminate()
