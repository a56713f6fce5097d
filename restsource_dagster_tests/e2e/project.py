"""A project in a folder of its own, running as after `make run`, without the installation."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any

import duckdb
from dotenv import set_key

from restsource_dagster_tests.e2e.graphql import DagsterApi, until
from restsource_dagster_tests.e2e.schedules import NOT_DUE_SOON
from restsource_dagster_tests.ports import reserve_ports
from restsource_dagster_tests.servers.datasette import SampleServer
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

__all__ = ["HOURS_BEHIND", "LiveProject", "processes_in", "run_project"]

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("restsource_dagster", "sample", "schema")
_SAMPLE = "configs/nyc_flights.json"
FILES = ("workspace.yaml", ".dagster/dagster.yaml", _SAMPLE)
HOURS_BEHIND = 6
"""Of the sample's clock at first: long enough that flights depart in it, also at night."""

_TOKEN = "token-of-the-sample"


@dataclass(frozen=True)
class LiveProject:
    """The folder, the running `make run` and the addresses of what it started."""

    folder: Path
    process: subprocess.Popen[str]
    port: int
    sample: SampleServer
    output: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where Dagster's UI is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def builder(self) -> str:
        """What `make run` prints to open the builder, with its token."""

        def printed() -> list[str]:
            return [line for line in self.output if line.startswith("Builder: ")]

        return until(printed, "the builder")[0].removeprefix("Builder: ")

    @cached_property
    def dagster(self) -> DagsterApi:
        return DagsterApi(self.address)

    def write_connector(self, name: str, value: Any) -> Path:
        """Drop a connector file; text is written as it is."""
        return _write_connector(self.folder, name, value)

    def set_variable(self, name: str, value: str) -> None:
        """Put a variable into the project's `.env`."""
        set_key(self.folder / ".env", name, value)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that a query of the warehouse gives."""
        path = self.folder / "data" / "warehouse.duckdb"

        def connect() -> Any:
            with suppress(duckdb.IOException):  # a run is loading and has the file for itself
                return duckdb.connect(path, read_only=True)

        with until(connect, f"a look into {path}") as warehouse:
            return list(warehouse.execute(sql).fetchall())

    def count(self, table: str) -> int:
        """The rows of a table, such as `shop.orders`."""
        dataset, name = table.split(".")
        return int(self.query(f'select count(*) from "{dataset}"."{name}"')[0][0])

    def restsource(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command in the project's folder."""
        command = [sys.executable, "-m", "restsource_dagster.cli", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )


@contextmanager
def run_project(
    folder: Path, sample_database: Path, connectors: Mapping[str, Any]
) -> Iterator[LiveProject]:
    """Make a project in `folder`, start it, and stop it at the end of the block.

    What starts is what `make run` starts, over a copy of the sample's database whose clock stands
    still, `HOURS_BEHIND`; `connectors` are there beside the sample's from the beginning. The
    sample's own schedule is due later, so that the tests alone decide when it runs. Raises
    `RuntimeError` with the output if it doesn't start.
    """
    _copy_project(folder)
    sample_connector = json.loads((folder / _SAMPLE).read_text())
    _write_connector(folder, "nyc_flights", {**sample_connector, "schedule": NOT_DUE_SOON})
    for name, value in connectors.items():
        _write_connector(folder, name, value)
    database = folder / "sample" / "data" / "nycflights.db"
    database.parent.mkdir()
    shutil.copyfile(sample_database, database)
    port, api_port, builder_port = reserve_ports(3)
    sample = SampleServer(port=api_port, token=_TOKEN, database=database)
    sample.set_clock(datetime.now(UTC) - timedelta(hours=HOURS_BEHIND))
    command = [
        *(sys.executable, "-m", "sample.run", "--port", str(port), "--api-port", str(api_port)),
        *("--builder-port", str(builder_port)),
    ]
    with (
        _guard() as groups,
        subprocess.Popen(
            command,
            cwd=folder,
            env=_environment() | {"NYC_FLIGHTS_TOKEN": _TOKEN},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        print(f"+{process.pid}", file=groups, flush=True)
        try:
            project = LiveProject(folder, process, port, sample)
            _wait_until_started(project)
            yield project
        finally:
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """Stop as Ctrl-C does; if that takes too long, the project's guard stops what is left."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def processes_in(folder: Path) -> Sequence[str]:
    """The commands of all processes that work in a folder; none where there is no /proc.

    One that is about to end may be there without its command: look again before you complain.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


@contextmanager
def _guard() -> Iterator[IO[str]]:
    """What stops the project even if the tests are killed: the guard of `make run` itself."""
    command = [sys.executable, "-m", "sample.guard"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin
        yield process.stdin


def _wait_until_started(project: LiveProject) -> None:
    started, ended = Event(), Event()

    def read() -> None:
        for line in project.process.stdout or ():
            project.output.append(line.rstrip())
            if line.startswith("Logs: "):
                started.set()
        ended.set()
        started.set()

    Thread(target=read, daemon=True).start()
    if not started.wait(PATIENCE_SECONDS) or ended.is_set():
        raise RuntimeError("the project did not start:\n" + "\n".join(project.output))


def _write_connector(folder: Path, name: str, value: Any) -> Path:
    path = folder / "configs" / f"{name}.json"
    whole = folder / f".{name}.json"  # moved into place, so that nobody reads half of it
    whole.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))
    return whole.replace(path)


def _copy_project(folder: Path) -> None:
    unwanted = shutil.ignore_patterns("__pycache__", "data")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for file in FILES:
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)


def _environment() -> dict[str, str]:
    """The environment of this process without what would lead the project to another's files."""
    foreign = ("DAGSTER_HOME", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in foreign and not name.startswith("RESTSOURCE_")
    }
