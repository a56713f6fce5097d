"""Forks of the zygote are processes as a new Python is one."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from restsource_dagster_tests.zygote import StartedProcess, start_module

PIPE = subprocess.PIPE


def start_reader() -> StartedProcess:
    """A process that formats the JSON of its standard input."""
    return start_module("json.tool", imports=["json"], stdin=PIPE, stdout=PIPE, stderr=PIPE)


@pytest.mark.parametrize(("written", "code"), [('{"a": 1}', 0), ("{", 1)])
def test_streams_and_exit_code_are_its_own(written: str, code: int) -> None:
    with start_reader() as process:
        assert process.pid != os.getpid()
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.write(written)
        process.stdin.close()
        out, err = process.communicate()
    assert process.returncode == code
    assert (json.loads(out) == {"a": 1}) if code == 0 else ("Expecting property name" in err)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_the_next_one_alone(number: signal.Signals) -> None:
    with start_reader() as struck, start_reader() as other:
        struck.send_signal(number)
        assert struck.wait() == -number
        assert other.poll() is None
        other.kill()


def test_folder_and_environment_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("import os; print(os.getcwd(), dict(os.environ))")
    variables = {"PYTHONPATH": str(tmp_path), "ONLY": "this"}
    with start_module(
        "pdb", "-c", "continue", "told.py",
        imports=["pdb"], folder=tmp_path, environment=variables, stdout=PIPE, stderr=PIPE,
    ) as process:  # fmt: skip
        out, _ = process.communicate()
    assert out.startswith(f"{tmp_path} {variables}")
