"""A builder that runs in a folder, as `restsource build` starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from restsource_dagster_tests.telling import ROOT
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

__all__ = ["BuilderProcess", "run_builder"]


@dataclass(frozen=True)
class BuilderProcess:
    """A running builder. `address` is what it has printed, with the token."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return urlsplit(self.address).port or 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.address).query)["token"][0]

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def run_builder(folder: Path, *options: str) -> Iterator[BuilderProcess]:
    """Start a builder for `configs` in a folder, and kill it if the test doesn't end it."""
    (folder / "configs").mkdir(exist_ok=True)
    foreign = ("DAGSTER_HOME", "PYTEST_CURRENT_TEST")
    given = {name: text for name, text in os.environ.items() if name not in foreign}
    command = [sys.executable, "-m", "restsource_dagster.cli", "build", *options]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**given, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield BuilderProcess(process, _address(process))
        finally:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    lines: Sequence[str] = []
    for line in process.stderr or ():
        lines = [*lines, line]
        if line.startswith("Builder: "):
            return line.removeprefix("Builder: ").strip()
    raise RuntimeError("the builder did not start:\n" + "".join(lines))
