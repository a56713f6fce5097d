"""Contestants that are programs: each measurement starts a new process, then checks its tables."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.model import Bench, Sample, UnableError, WrongResultError
from benchmarks.processes import Ended, clean_environment, run_measured
from benchmarks.serving import ROOT, requests_since

__all__ = ["Program"]

LIMIT_SECONDS = 1_200.0


@dataclass(frozen=True)
class Program:
    """A module of `benchmarks.contestants` with its parameters.

    `api_path` is the first part of the API's paths ({rows}/{page_size}/{latency_ms}). `tables` maps
    queries of the loaded database to their correct results. `counts` maps measures that the program
    counts to their correct values. `peer` names the virtual environment that the program needs, if
    it is another one than this. It is killed after `limit` seconds. `new_database` makes an empty Postgres
    database and returns its URL, for a program that does not load into a DuckDB file.
    """

    module: str
    api_path: str
    orders: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    peer: str | None = None
    limit: float = LIMIT_SECONDS
    new_database: Callable[[], AbstractContextManager[str]] | None = None

    def __call__(self, bench: Bench) -> Sample:
        """Run it once. Raise `UnableError` if it fails, `WrongResultError` if its tables are wrong."""
        file = bench.folder / "data" / "warehouse.duckdb"
        file.parent.mkdir()
        with self.new_database() if self.new_database else nullcontext(str(file)) as database:
            return self._run(bench, database)

    def _run(self, bench: Bench, database: str) -> Sample:
        orders, result = bench.folder / "orders.json", bench.folder / "result.json"
        places = {"database": database, "result": str(result), "peers": str(bench.peers)}
        address = {"base_url": f"{bench.api}/{self.api_path}/", "folder": str(bench.folder)}
        orders.write_text(json.dumps({**self.orders, **address, **places}), encoding="utf-8")
        python, module = self._interpreter(bench.peers), f"benchmarks.contestants.{self.module}"
        more = {"PYTHONPATH": str(ROOT), "DLT_DATA_DIR": str(bench.folder / "dlt")}
        if self.new_database:
            more["RESTSOURCE_DESTINATION"] = "postgres"
            more["DESTINATION__POSTGRES__CREDENTIALS"] = database
        requests_since(bench.api)
        ended = run_measured(
            [python, "-m", module, str(orders)],
            folder=bench.folder,
            environment=clean_environment({**more, **self.environment}),
            limit=self.limit,
        )
        requests = requests_since(bench.api)
        if ended.code:
            raise _failure(ended)
        own: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
        self._check(database, own)
        return {**ended.cost, "requests": float(requests), **own}

    def _interpreter(self, peers: Path) -> str:
        if self.peer is None:
            return sys.executable
        python = peers / self.peer / "bin" / "python"
        if not python.exists():
            raise UnableError(f"{self.peer} is not installed in {peers}; `make bench` does that")
        return str(python)

    def _check(self, database: str, own: Mapping[str, float]) -> None:
        wrong = [
            f"{name} is {own.get(name)}, not {right}"
            for name, right in self.counts.items()
            if own.get(name) != right
        ]
        answers = _ask(database, list(self.tables)) if self.tables else {}
        wrong += [
            f"{question} gives {answers.get(question)}, not {right}"
            for question, right in self.tables.items()
            if answers.get(question) != right
        ]
        if wrong:
            raise WrongResultError("; ".join(wrong))


def _failure(ended: Ended) -> UnableError:
    """Return the error: its last line goes into the report, the whole output to the progress log."""
    last = ended.output.rpartition("\n")[2]
    error = UnableError(f"ended with code {ended.code}: {last}".replace(f"{ROOT}/", ""))
    error.add_note(ended.output)
    return error


def _ask(database: str, questions: list[str]) -> dict[str, int | str]:
    asked = subprocess.run(
        [sys.executable, "-m", "benchmarks.verify", database],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if asked.returncode:
        raise WrongResultError(f"the database can't be read: {asked.stderr.strip()[-300:]}")
    answers: dict[str, int | str] = json.loads(asked.stdout)
    return answers
