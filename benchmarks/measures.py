"""The measures: their titles in the report and the format of their values."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MEASURES", "Measure"]


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"


def _milliseconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}"


@dataclass(frozen=True)
class Measure:
    """A measure: its title in a table, and the format of its values."""

    title: str
    written: Callable[[float], str]


MEASURES = {
    "cpu": Measure("CPU", _seconds),
    "wall": Measure("wall", _seconds),
    "rss": Measure("peak memory", _megabytes),
    "work_cpu": Measure("CPU of the work", _seconds),
    "work_wall": Measure("wall of the work", _seconds),
    "extract_wall": Measure("wall of the extract", _seconds),
    "requests": Measure("requests", _number),
    "created_to_success": Measure("created to success", _seconds),
    "created_to_start": Measure("created to RUN_START", _seconds),
    "start_to_success": Measure("RUN_START to SUCCESS", _seconds),
    "beyond_python": Measure("wall beyond Python's start", _seconds),
    "slots": Measure("slots", _number),
    "lost": Measure("slots lost", _number),
    "late_median": Measure("late, median", _seconds),
    "late_max": Measure("late, at most", _seconds),
    "daemon_cpu": Measure("CPU of the daemon for a slot", _milliseconds),
    "slot_cpu": Measure("CPU of all for a slot", _milliseconds),
}
"""The measures by their name in samples, in seconds and bytes. The work starts after the imports."""
