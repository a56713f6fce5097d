"""Imports every document of a folder and prints what was mapped: `python -m benchmarks.import_shares FOLDER`.

Each document has a process and a time limit of its own. A share is of what the documents have: endpoints of
all GETs, logins of all documents with one, and paginators, keys, cursors and suggested cursors
of all imported endpoints.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["main"]

_SUFFIXES = frozenset({".json", ".yaml", ".yml", ".txt", ".har", ".py"})
_LOGIN_STEPS = frozenset({"securitySchemes", "securityDefinitions", "auth", "authenticator"})
_PROGRAM = """
import json, sys
from restsource_dagster.authoring.importing.import_source import import_source
from restsource_dagster.authoring.importing.source_files import SourceError, read_source_files
from pathlib import Path
try:
    made = import_source(read_source_files([Path(sys.argv[1])], sys.stdin.buffer))
except SourceError as error:
    print(json.dumps({"refused": str(error)}))
else:
    fates = [fate.as_dict() for fate in made.fates]
    print(json.dumps({"kind": made.kind, "file": made.draft.value, "fates": fates,
                      "errors": [str(error) for error in made.errors]}))
"""


@dataclass
class _Shares:
    """What was mapped of how many, by the name of the part."""

    mapped: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)

    def add(self, part: str, mapped: int, of: int) -> None:
        self.mapped[part] += mapped
        self.all[part] += of

    def lines(self) -> Iterable[str]:
        for part, count in self.all.items():
            share = f"{self.mapped[part] / count:.0%}" if count else "-"
            yield f"{part:12}{self.mapped[part]:6} of {count:<6}{share:>5}"


def main() -> None:
    """Print the shares of each document and of all, crashes, and seconds. Exit code 1 after a crash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="limit of one document")
    arguments = parser.parse_args()
    shares, failures, began = _Shares(), 0, time.monotonic()
    paths = [each for each in sorted(arguments.folder.iterdir()) if each.suffix in _SUFFIXES]
    for path in paths:
        outcome, seconds = _import(path, arguments.seconds)
        failures += "crash" in outcome or bool(outcome.get("errors"))
        print(f"{path.name:34}{seconds:6.1f} s  {_shown(outcome, shares)}", flush=True)
    print(*shares.lines(), sep="\n")
    print(
        f"{len(paths)} documents, {failures} crashed or not valid, {time.monotonic() - began:.1f} s"
    )
    sys.exit(1 if failures else 0)


def _import(path: Path, seconds: float) -> tuple[Mapping[str, Any], float]:
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path)],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"crash": f"not done after {seconds:g} s"}, time.monotonic() - began
    taken = time.monotonic() - began
    if done.returncode:
        return {"crash": done.stderr.strip().rpartition("\n")[2]}, taken
    return json.loads(done.stdout), taken


def _shown(outcome: Mapping[str, Any], shares: _Shares) -> str:
    """Add a document to the shares, and return a line about it."""
    for word in ("crash", "refused"):
        if word in outcome:
            return f"{word}: {outcome[word]}"
    value, fates = outcome["file"], outcome["fates"]
    resources = value["resources"]
    endpoints = [each["endpoint"] for each in resources if isinstance(each.get("endpoint"), dict)]
    refused = sum(
        fate["state"] == "not_mapped" and _is_endpoint(outcome["kind"], fate["path"])
        for fate in fates
    )
    has_login = any(_LOGIN_STEPS & set(fate["path"].split("/")) for fate in fates)
    parts = {
        "endpoints": (len(resources), len(resources) + refused),
        "logins": (int("auth" in value["client"]), int("auth" in value["client"] or has_login)),
        "paginators": (sum("paginator" in each for each in endpoints), len(resources)),
        "keys": (sum("primary_key" in each for each in resources), len(resources)),
        "cursors": (sum("incremental" in each for each in endpoints), len(resources)),
        "suggested": (_suggested_cursors(fates), len(resources)),
    }
    for part, (mapped, count) in parts.items():
        shares.add(part, mapped, count)
    shown = ", ".join(f"{part} {mapped}/{count}" for part, (mapped, count) in parts.items())
    return f"{outcome['kind']}: {shown}" + (f"; {outcome['errors']}" if outcome["errors"] else "")


def _suggested_cursors(fates: Iterable[Mapping[str, Any]]) -> int:
    """Return how many resources have a cursor that is suggested, and not in the file."""
    return sum(
        fate["state"] == "suggested" and fate["target"].endswith(".incremental") for fate in fates
    )


def _is_endpoint(kind: str, path: str) -> bool:
    """True if a path in a source is that of an endpoint that could have been a resource."""
    steps = path.split("/")[1:]
    if kind == "openapi":
        return len(steps) == 3 and steps[0] == "paths" and steps[2] == "get"
    if kind == "airbyte":
        return len(steps) == 2 and steps[0] == "streams"
    if kind == "postman":
        return len(steps) >= 2 and steps[-2] == "item"
    return len(steps) == 3 and steps[:2] == ["log", "entries"]


if __name__ == "__main__":
    main()
