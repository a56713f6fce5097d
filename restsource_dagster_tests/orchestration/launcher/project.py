"""A Dagster instance with the warm launcher, a folder of connectors, and a gate in the API."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.remote_origin import RemoteJobOrigin

from restsource_dagster.cli.execution import origin_of
from restsource_dagster.orchestration.launcher import WarmRunLauncher
from restsource_dagster_tests.servers.api import ApiServer, Seen

__all__ = ["Gate", "Project", "eventually", "exists", "open_project"]

INSTANCE = """
telemetry:
  enabled: false
instance_class:
  module: restsource_dagster.orchestration.storage
  class: LightInstance
run_launcher:
  module: restsource_dagster.orchestration.launcher
  class: WarmRunLauncher
"""
_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.02

Found = TypeVar("Found")


def eventually(look: Callable[[], Found], what: str) -> Found:
    """What a look finds as soon as it finds something. Raises `TimeoutError` after a minute."""
    deadline = time.monotonic() + _SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_SECONDS:.0f} s: {what}")
        time.sleep(_LOOK_AGAIN_SECONDS)  # other processes have no event for us
    return found


class Gate:
    """A path of the API that answers one row, but not before it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, _seen: Seen) -> object:
        self.reached.set()
        self.opened.wait(_SECONDS)
        return [{"id": 1}]


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
        """Holds up whoever asks for orders, until it is opened or at the end of the block."""
        gate = Gate()
        self.api.answers["/orders"] = gate
        try:
            yield gate
        finally:
            gate.opened.set()
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
        eventually(lambda: self.run(run_id).is_finished, f"the end of run {run_id}")
        return self.run(run_id)

    def started(self, run_id: str) -> dg.DagsterRun:
        """A run that executes."""
        eventually(
            lambda: self.run(run_id).status == dg.DagsterRunStatus.STARTED, f"the start of {run_id}"
        )
        return self.run(run_id)

    def failure(self, run_id: str) -> str:
        """Why a run failed."""
        event = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)[-1]
        return event.message

    def engine_events(self, run_id: str) -> str:
        """What Dagster tells of its own doings for a run."""
        events = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        return "\n".join(event.message for event in events)

    def _job(self, job: str) -> ReconstructableJob:
        folder = str(Path.cwd())
        place = ReconstructableRepository.for_module(
            "restsource_dagster.definitions", "defs", folder
        )
        return place.get_reconstructable_job(job)

    def _origin(self, job: str) -> RemoteJobOrigin:
        return origin_of(self.instance, "shop", job)


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


def exists(pid: int) -> bool:
    """Whether there is a process that has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
