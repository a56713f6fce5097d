"""This project: the engine runs a connector file."""

import json
import time
from pathlib import Path

import dlt  # noqa: F401 - imported before the clock starts
import duckdb  # noqa: F401 - imported before the clock starts
import pyarrow.parquet  # noqa: F401 - imported before the clock starts

from benchmarks.contestants.clock import Clock, read_orders
from restsource_dagster.connector.loader import load_file
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run_progress import SilentObserver
from restsource_dagster.settings import Settings


class Phases(SilentObserver):
    """Measures the time from the first extract to the last page or, if later, the last normalize."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended = time.perf_counter()

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:  # noqa: ARG002
        """Note that a page is extracted."""
        self._ended = time.perf_counter()

    def phase(self, family: str, phase: str) -> None:  # noqa: ARG002
        """Note that a family starts a phase."""
        if phase == "extract" and self._began is None:
            self._began = time.perf_counter()
        if phase == "normalize":
            self._ended = time.perf_counter()

    def checkpoint(self, resource: str, rows: int) -> None:
        """Ignore it: a checkpoint is followed by an extract."""

    @property
    def extract_seconds(self) -> float:
        """Return the seconds from the start of the first extract to the end of the last."""
        return self._ended - (self._began or self._ended)


def main() -> None:
    """Write the connector file, load it and run it."""
    orders = read_orders()
    clock, phases = Clock(), Phases()
    folder = Path(orders["folder"])
    file = folder / "configs" / "shop.json"
    file.parent.mkdir()
    connector_file = {
        "schedule": {"mode": "manual"},
        "client": {**orders.get("client", {}), "base_url": orders["base_url"]},
        "resources": orders["resources"],
        **orders.get("connector", {}),
    }
    file.write_text(json.dumps(connector_file), encoding="utf-8")
    loaded = load_file(file)
    if loaded.connector is None:
        raise SystemExit("\n".join(problem.message for problem in loaded.problems))
    settings = Settings(configs=file.parent, data_dir=folder / "data", state_dir=folder / "state")
    outcomes = ingest(loaded.connector, settings=settings, environment={}, observer=phases)
    for outcome in outcomes:
        if outcome.failure:
            raise SystemExit(f"{outcome.resource}: {outcome.failure.message}")
    clock.stop(orders, extract_wall=phases.extract_seconds)


if __name__ == "__main__":
    main()
