"""A Dagster instance with the warm launcher, a folder of connectors, and a gate in the API."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.remote_origin import RemoteJobOrigin

from restsource_dagster.cli.execution import find_job_origin
from restsource_dagster.local_runtime.run_launcher import WarmRunLauncher
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_for, wait_until

__all__ = ["Gate", "Project", "open_project"]

INSTANCE = """
telemetry:
  enabled: false
instance_class:
  module: restsource_dagster.local_runtime
  class: LightInstance
run_launcher:
  module: restsource_dagster.local_runtime
  class: WarmRunLauncher
"""


class Gate:
    """A path of the API that answers one row, but not before it is opened."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, _seen: Seen) -> object:
        self._reached.set()
        self._opened.wait(PATIENCE_SECONDS)
        return [{"id": 1}]

    def wait_until_reached(self) -> None:
        """Wait for the first request."""
        wait_for(self._reached, "a request for orders")

    def open(self) -> None:
        """Answer all requests."""
        self._opened.set()


@dataclass(frozen=True)
class Project:
    """The current folder as a project: its instance, and what is needed to launch runs in it."""

    instance: dg.DagsterInstance
    api: ApiServer

    def write_connector(self, name: str = "shop", *resources: str) -> Path:
        """Write a connector of these resources, `orders` if none is named."""
        value = {
            "schedule": {"mode": "manual"},
            "client": {"base_url": self.api.url},
            "resources": list(resources or ["orders"]),
        }
        path = Path("configs") / f"{name}.json"
        path.write_text(json.dumps(value))
        return path

    @contextmanager
    def gate(self) -> Iterator[Gate]:
        """Holds back answers for orders until it is opened, or until the end of the block."""
        gate = Gate()
        self.api.answers["/orders"] = gate
        try:
            yield gate
        finally:
            gate.open()
            self.api.answers["/orders"] = [{"id": 1}]

    @property
    def launcher(self) -> WarmRunLauncher:
        """The instance's launcher."""
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        return launcher

    @property
    def server_pid(self) -> int:
        """The process that runs are forked from now."""
        server = self.launcher.server
        assert server is not None
        return server.pid

    def create(self, job: str = "shop_job") -> dg.DagsterRun:
        """A run as the code server has it created."""
        recon = self._job(job)
        return self.instance.create_run_for_job(
            recon.get_definition(),
            job_code_origin=recon.get_python_origin(),
            remote_job_origin=self._origin(job),
        )

    def launch(self, job: str = "shop_job") -> str:
        """Create and launch a run; its id."""
        run = self.create(job)
        self.instance.launch_run(run.run_id, None)  # type: ignore[arg-type]  # not needed when warm
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        """A run as it stands."""
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def end(self, run_id: str) -> dg.DagsterRun:
        """A run at its end."""
        wait_until(lambda: self.run(run_id).is_finished, f"the end of run {run_id}")
        return self.run(run_id)

    def started(self, run_id: str) -> dg.DagsterRun:
        """A run that executes."""
        wait_until(
            lambda: self.run(run_id).status == dg.DagsterRunStatus.STARTED, f"the start of {run_id}"
        )
        return self.run(run_id)

    def failure(self, run_id: str) -> str:
        """Why a run failed."""
        event = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)[-1]
        return event.message

    def engine_events(self, run_id: str) -> str:
        """Return the engine events of a run as text."""
        events = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        return "\n".join(event.message for event in events)

    def _job(self, job: str) -> ReconstructableJob:
        folder = str(Path.cwd())
        place = ReconstructableRepository.for_module(
            "restsource_dagster.definitions", "defs", folder
        )
        return place.get_reconstructable_job(job)

    def _origin(self, job: str) -> RemoteJobOrigin:
        return find_job_origin(self.instance, "shop", job)


@contextmanager
def open_project(folder: Path) -> Iterator[Project]:
    """Make a project of a folder with the connector `shop`, in which each run asks for orders."""
    (folder / "configs").mkdir()
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text(INSTANCE)
    with (
        ApiServer({"/orders": [{"id": 1}]}) as api,
        dg.DagsterInstance.from_config(str(folder / "home")) as instance,
    ):
        project = Project(instance, api)
        project.write_connector()
        yield project
