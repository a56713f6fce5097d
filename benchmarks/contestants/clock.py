"""What every contestant's program shares: its orders, and the clock of its work.

Only the standard library is imported here: some contestants run in environments of their own.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["Clock", "read_orders"]


def read_orders() -> dict[str, Any]:
    """The orders in the JSON file that the command line names.

    `base_url`, `resources` (dlt's), `folder` to work in, `database` to fill, `result` (the file
    for the clock), and whatever the contestant takes besides.
    """
    orders: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return orders


class Clock:
    """Counts wall and CPU seconds from now on, of this process and of its ended children."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = _cpu_seconds()

    def stop(self, orders: dict[str, Any], **more: float) -> None:
        """Write what was counted where the orders say; `more` are other measures, in seconds."""
        measures = {
            "work_wall": time.perf_counter() - self._wall,
            "work_cpu": _cpu_seconds() - self._cpu,
            **more,
        }
        Path(orders["result"]).write_text(json.dumps(measures), encoding="utf-8")


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
