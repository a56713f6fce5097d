"""Cases of what happens before the first row: a small run, a thousand connectors, schedules."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from benchmarks.cases.sizes import FULL, Sizes
from benchmarks.model import Bench, Case, Contestant, Goal, Sample, UnableError
from benchmarks.serving import ROOT
from benchmarks.shop import by_peer, by_us
from benchmarks.startup import load_location, small_run

__all__ = ["load", "run", "sample_of", "schedules"]

_MANY, _FEW = 1_000, 40
_EVERY_MINUTE = 300
_MINUTES = 5

Run = Callable[[Bench], Sample]


def run(sizes: Sizes) -> Case:
    """Ten rows, from the click to the end of the run."""
    text = "ten rows through the daemon"
    return Case(
        "startup_run",
        "Ten rows through the daemon",
        (
            by_us("ours", "", _able(lambda bench: small_run.once(bench.folder, stock=False))),
            by_peer(
                "stock",
                "stock @dlt_assets",
                _able(lambda bench: small_run.once(bench.folder, stock=True)),
                "Dagster's defaults; for both the second run after `dagster dev` was started",
            ),
        ),
        (
            Goal(
                9,
                f"{text}, created to success: faster than a stock `@dlt_assets` project",
                "created_to_success",
                *("stock", "ours"),
                at_least=2.5,
                also="cpu",
            ),
            Goal(9, f"{text}: RUN_START to SUCCESS", "start_to_success", "ours", at_most=1),
        ),
        shown=("created_to_success", "created_to_start", "start_to_success", "cpu"),
        # each round starts two whole Dagster instances, at any size
        rounds=None if sizes == FULL else 1,
    )


def load(sizes: Sizes) -> Case:
    """The load of the code location, and the check of its files."""
    number = _number(sizes)
    told = f"{number:,} connectors of ten resources"
    goals = [
        Goal(
            11,
            f"{told}: {what} against as many bare asset specs",
            measure,
            "ours",
            "bare",
            at_most=1.5,
        )
        for measure, what in (("wall", "load"), ("rss", "peak memory"))
    ]
    goals += [
        Goal(11, f"`restsource check` of {number:,} files", "wall", "check_all", at_most=5),
        Goal(11, "`restsource check` of one file", "beyond_python", "check_one", at_most=0.4),
    ]
    return Case(
        "startup_load",
        f"{told}: load and check",
        _loading(number),
        tuple(goals),
        shown=("wall", "cpu", "rss", "beyond_python"),
    )


def _loading(number: int) -> tuple[Contestant, ...]:
    return (
        by_us(
            "ours",
            "",
            _able(lambda bench: load_location.load_ours(bench.folder, number)),
        ),
        by_peer(
            "bare",
            "bare asset specs",
            _able(lambda bench: load_location.load_bare(bench.folder, number)),
            "with as many jobs and schedules",
        ),
        by_us(
            "check_all",
            f"check of {number:,} files",
            _able(lambda bench: load_location.check_all(bench.folder, number)),
        ),
        by_us(
            "check_one",
            "check of one file",
            _able(lambda bench: load_location.check_one(bench.folder)),
        ),
    )


def schedules(sizes: Sizes) -> Case:
    """One daemon. Runs succeed at once without any work. Everything else is as shipped."""
    number = _number(sizes)
    places = (
        ("hourly", f"{number:,} hourly, offsets spread", 0),
        (
            "minutely",
            f"{_EVERY_MINUTE} every minute, {number - _EVERY_MINUTE} hourly",
            _EVERY_MINUTE,
        ),
    )
    goals = [
        Goal(12, f"schedules, {told}: {what}", measure, name, at_most=most)
        for name, told, _ in places
        for measure, what, most in (
            ("lost", "slots lost", 0),
            ("late_max", "start of the latest", 60),
        )
    ]
    return Case(
        "startup_schedules",
        f"{number:,} connectors on schedules, {_MINUTES} minutes of one daemon",
        tuple(by_us(name, told, _ticking(number, often)) for name, told, often in places),
        tuple(goals),
        shown=("slot_cpu", "daemon_cpu", "slots", "lost", "late_median", "late_max"),
        rounds=1,
    )


def _ticking(number: int, often: int) -> Run:
    numbers = {"minutes": _MINUTES, "connectors": number, "every-minute": often}
    orders = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]

    def measured(_bench: Bench) -> Sample:
        # a process of its own: a measured process inherits the peak memory of its parent
        command = [sys.executable, "-m", "benchmarks.startup.schedules", *orders]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return sample_of(json.loads(ended.stdout))

    return _able(measured)


def sample_of(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures of `measure` as a sample. Lateness is missing if no slot got a run."""
    ours, cpu = figures["contestants"]["ours"], figures["contestants"]["ours"]["cpu_by_process"]
    slots = ours["slots"]
    late = {f"late_{name}": ours[f"late_{name}_s"] for name in ("median", "max")}
    return {
        "slots": slots,
        "lost": ours["lost"],
        "daemon_cpu": cpu["dagster._daemon"] / slots,
        "slot_cpu": sum(cpu.values()) / slots,
        **{name: seconds for name, seconds in late.items() if seconds is not None},
    }


def _number(sizes: Sizes) -> int:
    return _MANY if sizes == FULL else _FEW


def _able(run: Run) -> Run:
    """Report an error of a measured process as `UnableError`."""

    @wraps(run)
    def told(bench: Bench) -> Sample:
        try:
            return run(bench)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise UnableError(str(error)) from error

    return told
