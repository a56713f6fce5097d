"""The benchmark API as a process of its own, for as long as the benchmarks run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

__all__ = ["ROOT", "requests_since", "served"]

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def served(rows: int) -> Iterator[str]:
    """Serve resources of up to `rows` records; gives the address, without a slash at its end."""
    command = [sys.executable, "-m", "benchmarks.server", "--rows", str(rows)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the benchmark API did not start: {' '.join(command)}")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()


def requests_since(api: str) -> int:
    """How many requests reached the API since this was last asked."""
    with urlopen(f"{api}/requests", timeout=10) as answer:  # noqa: S310 - our own server
        return int(answer.read())
