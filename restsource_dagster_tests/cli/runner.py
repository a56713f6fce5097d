"""Ways to run the command: in this process, or as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from restsource_dagster.cli.app import app

__all__ = ["environment", "invoke", "start"]

ROOT = Path(__file__).parents[2]


def invoke(*arguments: object) -> Result:
    """`restsource` with these arguments in this process; an error of ours is raised, not told."""
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that finds the package and no Dagster but its own."""
    kept = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def start(*arguments: object, folder: Path, **changes: str) -> "subprocess.Popen[str]":
    """`restsource` as a process of its own, started in a folder, its output piped."""
    return subprocess.Popen(
        [sys.executable, "-m", "restsource_dagster.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
