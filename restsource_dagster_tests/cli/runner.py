"""Ways to run the command: in this process, as a fork of the zygote, or as a new Python."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

from restsource_dagster.cli.app import app
from restsource_dagster_tests.zygote import ENGINE, StartedProcess, start_module

__all__ = ["environment", "invoke", "on_terminal", "start", "start_new_python"]

IMPORTS = (
    *ENGINE,
    *(f"restsource_dagster.cli.{name}_command" for name in ("backfill", "new", "preview", "run")),
    "restsource_dagster.definitions",
)
"""What the commands import that a test starts."""

ROOT = Path(__file__).parents[2]


def invoke(*arguments: object) -> Result:
    """`restsource` with these arguments in this process; an error of ours is raised, not told."""
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that finds the package and no Dagster but its own."""
    kept = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def start(*arguments: object, folder: Path, **changes: str) -> StartedProcess:
    """`restsource` as a process of its own, started in a folder, its output piped."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return _start(*arguments, folder=folder, environment=environment(**changes), **pipes)


def start_new_python(*arguments: object, folder: Path, **changes: str) -> "subprocess.Popen[str]":
    """`restsource` in a new Python, for tests of its start or of variables that are read there."""
    return subprocess.Popen(
        [sys.executable, "-m", "restsource_dagster.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_terminal(*arguments: object, folder: Path, answers: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code of `restsource` on a (pseudo) terminal and all that it wrote there.

    A person types the next answer at each prompt, which ends with "> ".
    """
    ours, theirs = pty.openpty()
    waiting = iter(answers)
    variables = environment(TERM="xterm-256color", COLUMNS="120")
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with _start(*arguments, folder=folder, environment=variables, **terminal) as process:
        os.close(theirs)
        shown = b""
        for part in _read_all(ours):
            shown += part
            if shown.endswith(b"> ") and (answer := next(waiting, None)) is not None:
                os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    return process.wait(), shown.decode()


def _start(
    *arguments: object, folder: Path, environment: Mapping[str, str], **streams: int
) -> StartedProcess:
    return start_module(
        "restsource_dagster.cli",
        *map(str, arguments),
        imports=IMPORTS,
        folder=folder,
        environment=environment,
        **streams,
    )


def _read_all(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the last process on the other side is gone
            return
        if not part:
            return
        yield part
