"""`make run` when it can't start."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from restsource_dagster_tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sample.run", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


@pytest.mark.parametrize(
    ("option", "variable"),
    [("--port", "PORT"), ("--api-port", "API_PORT"), ("--builder-port", "BUILDER_PORT")],
)
def test_a_taken_port_names_the_variable_and_nothing_starts(option: str, variable: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = run(option, str(port))
    assert result.returncode == 1
    assert f"make run {variable}={port + 1}" in result.stderr
    assert result.stdout == ""


def test_a_port_that_is_no_number_names_the_variable() -> None:
    result = run("--port", "http")
    assert result.returncode == 1
    assert result.stderr == (
        "PORT: 'http' is not a port: give a number from 1 to 65535, "
        "for instance: make run PORT=4000\n"
    )
