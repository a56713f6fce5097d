"""Reloading for real: these tests tell when a version of Dagster changes what we rely on."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.error import URLError
from urllib.request import Request, urlopen

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    GrpcServerCodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.client import DagsterGrpcClient

from restsource_dagster.orchestration.sensors.watch_files import (
    RELOAD_TIMEOUT_SECONDS,
    reload_location,
)
from restsource_dagster_tests.ports import closed_port, reserve_ports
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_until

ASSETS_BY_FILE = """
from pathlib import Path
import dagster as dg

files = (Path(__file__).parent / "configs").glob("*.json")
defs = dg.Definitions(assets=[dg.AssetSpec(file.stem) for file in files])
"""

Found = TypeVar("Found")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with definitions that have one asset a file."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "first.json").write_text("{}")
    (tmp_path / "home").mkdir()
    (tmp_path / "definitions.py").write_text(ASSETS_BY_FILE)
    return tmp_path


def context(origin: CodeLocationOrigin | None) -> dg.SensorEvaluationContext:
    return dg.SensorEvaluationContext(
        instance_ref=None,
        last_tick_completion_time=None,
        last_run_key=None,
        cursor=None,
        repository_name=None,
        code_location_origin=origin,
    )


def managed() -> ManagedGrpcPythonEnvCodeLocationOrigin:
    target = LoadableTargetOrigin(python_file="definitions.py")
    return ManagedGrpcPythonEnvCodeLocationOrigin(target, "definitions.py")


@contextmanager
def running(project: Path, *command: str) -> Iterator[None]:
    """A Dagster command that is stopped, with all its children, at the end."""
    environment = os.environ | {"DAGSTER_HOME": str(project / "home")}
    with (project / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=project, env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_SECONDS)


def served(origin: GrpcServerCodeLocationOrigin) -> set[str]:
    """The assets that a code server has."""
    with dg.instance_for_test() as instance, origin.create_location(instance) as location:
        (repository,) = location.get_repositories().values()
        return {key.path[-1] for key in repository.asset_graph.get_all_asset_keys()}


def until(ready: Callable[[], Found], project: Path) -> Found:
    """What `ready` returns as soon as that is something; a failure with the log if it never is."""
    try:
        return wait_until(ready, "an answer", every=0.1)
    except TimeoutError as error:
        pytest.fail(f"{error}\n{(project / 'log').read_text()}")


def test_dagster_still_has_what_a_reload_calls() -> None:
    assert "timeout" in inspect.signature(DagsterGrpcClient.reload_code).parameters
    assert callable(GrpcServerCodeLocationOrigin.create_client)
    assert not hasattr(ManagedGrpcPythonEnvCodeLocationOrigin, "create_client")
    assert isinstance(dg.SensorEvaluationContext.code_location_origin, property)


def test_a_reload_gives_up_before_the_daemon_gives_up_on_the_tick() -> None:
    from dagster._grpc.client import DEFAULT_SENSOR_GRPC_TIMEOUT

    assert RELOAD_TIMEOUT_SECONDS < DEFAULT_SENSOR_GRPC_TIMEOUT


def test_outside_of_a_code_location_a_person_has_to_reload() -> None:
    result = reload_location(context(None))

    assert (result.outcome, "Click Reload" in result.detail) == ("unsupported", True)


def test_without_a_code_server_to_ask_a_person_has_to_reload() -> None:
    result = reload_location(context(managed()))

    assert (result.outcome, "Click Reload" in result.detail) == ("unsupported", True)


def test_a_code_server_that_is_gone_is_a_failure_with_a_reason() -> None:
    with closed_port() as port:
        origin = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=port)

        result = reload_location(context(origin), timeout_seconds=5)

    assert result.outcome == "failed"
    assert result.detail.startswith("The code server did not reload: ")


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "127.0.0.1:{port}", "http://["])
def test_a_webserver_that_is_gone_is_a_failure_with_a_reason(address: str) -> None:
    with closed_port() as port:
        webserver = address.format(port=port)

        result = reload_location(context(managed()), webserver=webserver, timeout_seconds=5)

    assert result.outcome == "failed"
    assert result.detail.startswith(f"The webserver at {webserver} did not reload: ")


def test_a_code_server_serves_a_new_file_after_a_reload(project: Path) -> None:
    (port,) = reserve_ports(1)
    origin = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=port)

    def ping() -> bool:
        try:
            return bool(origin.create_client().ping("hello"))
        except dg.DagsterError:
            return False

    command = ["dagster", "code-server", "start", "-h", "127.0.0.1", "-p", str(port)]
    with running(project, *command, "-f", "definitions.py"):
        until(ping, project)
        assert served(origin) == {"first"}
        (project / "configs" / "second.json").write_text("{}")

        result = reload_location(context(origin))

        assert (result.outcome, result.via) == ("asked", "code server")
        assert served(origin) == {"first", "second"}


@pytest.mark.e2e
def test_a_webserver_shows_a_new_file_after_a_reload(project: Path) -> None:
    (port,) = reserve_ports(1)

    def assets() -> set[str]:
        query = json.dumps({"query": "{assetNodes{assetKey{path}}}"}).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(f"http://127.0.0.1:{port}/graphql", query, headers)
        try:
            with urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - a fixed local address
                nodes = json.load(answer)["data"]["assetNodes"]
        except (URLError, ConnectionError):
            return set()
        return {node["assetKey"]["path"][-1] for node in nodes}

    command = ["dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-f", "definitions.py"]
    with running(project, *command):
        assert until(assets, project) == {"first"}
        (project / "configs" / "second.json").write_text("{}")

        result = reload_location(context(managed()), webserver=f"http://127.0.0.1:{port}")

        assert (result.outcome, result.via) == ("asked", "webserver"), result
        assert assets() == {"first", "second"}
