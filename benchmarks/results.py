"""The results as one JSON document: the machine, the versions, and each case with its samples."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import medians, reached
from benchmarks.model import Case, Sample
from benchmarks.runner import Measured

__all__ = [
    "LATEST",
    "OtherCircumstancesError",
    "case_document",
    "merged",
    "read_results",
    "write_results",
]

LATEST = Path(__file__).resolve().parent / "results" / "latest.json"
"""The results in the repository, which docs/performance.md shows."""

Document = dict[str, Any]


class OtherCircumstancesError(Exception):
    """The results are from different machines or versions and can't be in one report."""


def case_document(case: Case, measured: Sequence[Measured], *, command: str) -> Document:
    """Return the results of a case: medians, goals, and the date and command of the measurement."""
    samples = {one.contestant.name: one.samples for one in measured}
    return {
        "name": case.name,
        "title": case.title,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": command,
        "shown": list(case.shown),
        "contestants": [_contestant(one) for one in measured],
        "goals": [asdict(goal) | asdict(reached(goal, samples)) for goal in case.goals],
    }


def _contestant(one: Measured) -> Document:
    contestant = one.contestant
    return {
        "name": contestant.name,
        "label": contestant.label,
        "role": contestant.role,
        "note": contestant.note,
        "failure": one.failure,
        "samples": [_rounded(sample) for sample in one.samples],
        "median": _rounded(medians(one.samples)),
    }


def _rounded(sample: Sample) -> dict[str, float]:
    return {name: round(value, 4) for name, value in sample.items()}


def merged(
    old: Document | None,
    cases: Sequence[Document],
    *,
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Document:
    """Return the old document with these cases replaced in place, and new cases at the end.

    Raise `OtherCircumstancesError` if a case that stays was measured on another machine or with
    other versions.
    """
    fresh = {case["name"]: case for case in cases}
    stay = [case for case in (old or {}).get("cases", []) if case["name"] not in fresh]
    if old and stay and (old["machine"], old["versions"]) != (dict(machine), dict(versions)):
        raise OtherCircumstancesError(
            f"{', '.join(case['name'] for case in stay)}: measured on another machine or with other "
            "versions. Measure all cases, or write to another file with --output."
        )
    order = [case["name"] for case in (old or {}).get("cases", [])]
    order += [name for name in fresh if name not in order]
    by_name = {case["name"]: case for case in stay} | fresh
    return {
        "machine": dict(machine),
        "versions": dict(versions),
        "cases": [by_name[name] for name in order],
    }


def read_results(file: Path) -> Document | None:
    """Return the document in the file, or None if the file doesn't exist."""
    if not file.exists():
        return None
    document: Document = json.loads(file.read_text(encoding="utf-8"))
    return document


def write_results(file: Path, document: Document) -> None:
    """Write the document. Create its folder if needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
