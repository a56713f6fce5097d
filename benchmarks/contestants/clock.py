"""The parts that all contestants share: their parameters, and the clock of their work.

This module imports the standard library only, because some contestants run in environments of
their own.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["Clock", "read_orders"]


def read_orders() -> dict[str, Any]:
    """Return the parameters in the JSON file that the command line names.

    They are `base_url`, `resources` (dlt's), the working `folder`, the `database` to fill, `result`
    (the file for the clock), and the contestant's own.
    """
    orders: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return orders


class Clock:
    """Counts wall and CPU seconds from its creation, of this process and of its ended children."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = _cpu_seconds()

    def stop(self, orders: dict[str, Any], **more: float) -> None:
        """Write the counts to the file `result`. `more` are other measures, in seconds."""
        measures = {
            "work_wall": time.perf_counter() - self._wall,
            "work_cpu": _cpu_seconds() - self._cpu,
            **more,
        }
        Path(orders["result"]).write_text(json.dumps(measures), encoding="utf-8")


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
