"""Medians, ratios and spreads of samples, and the check against a goal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.model import Goal, Sample

__all__ = ["Standing", "medians", "ratios", "reached"]

Samples = Mapping[str, Sequence[Sample]]
"""The samples of each contestant of a case, one per round."""


@dataclass(frozen=True)
class Standing:
    """The result of a goal: its value, the minimum and maximum over the rounds, and if it is met.

    `also_value` is the value by the goal's other measure. All fields are None if a measurement is
    missing. `met` is None also if the goal has no limit.
    """

    value: float | None = None
    spread: tuple[float, float] | None = None
    also_value: float | None = None
    met: bool | None = None


def medians(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the median of each measure that all samples have."""
    if not samples:
        return {}
    shared = [name for name in samples[0] if all(name in sample for sample in samples)]
    return {name: median(sample[name] for sample in samples) for name in shared}


def ratios(of: Sequence[Sample], to: Sequence[Sample], measure: str) -> list[float]:
    """Return the ratio of each round. A disturbance of one round affects both sides and cancels out."""
    return [a[measure] / b[measure] for a, b in zip(of, to, strict=True)]


def reached(goal: Goal, samples: Samples) -> Standing:
    """Return the result of the goal for these samples."""
    value = _value(goal, samples, goal.measure)
    if value is None:
        return Standing()
    if goal.to is None:
        rounds = [sample[goal.measure] for sample in samples[goal.of]]
    else:
        rounds = ratios(samples[goal.of], samples[goal.to], goal.measure)
    also = _value(goal, samples, goal.also) if goal.also else None
    return Standing(value, (min(rounds), max(rounds)), also, _met(goal, value))


def _met(goal: Goal, value: float) -> bool | None:
    if goal.at_least is not None:
        return value >= goal.at_least
    return None if goal.at_most is None else value <= goal.at_most


def _value(goal: Goal, samples: Samples, measure: str) -> float | None:
    of = medians(samples.get(goal.of, ())).get(measure)
    if goal.to is None or of is None:
        return of
    to = medians(samples.get(goal.to, ())).get(measure)
    return of / to if to else None
