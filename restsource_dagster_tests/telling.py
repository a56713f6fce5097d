"""Code in a Python of its own, and what it tells."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "told_by"]

ROOT = Path(__file__).resolve().parents[1]


def told_by(code: str, folder: Path, variables: Mapping[str, str]) -> Any:
    """Execute code in this folder; the JSON that it prints last.

    Fails the test if the code fails. `variables` are set beside those of this process.
    """
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])
