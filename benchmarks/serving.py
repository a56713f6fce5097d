"""The benchmark API in a process of its own, while the benchmarks run."""

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
    """Serve resources of up to `rows` records. Yield the URL, without a slash at its end."""
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
    """Return the number of requests that reached the API since the last call."""
    with urlopen(f"{api}/requests", timeout=10) as answer:  # noqa: S310 - our own server
        return int(answer.read())
