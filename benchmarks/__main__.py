"""`python -m benchmarks`: measure the cases, print the report, store the results as JSON."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions
from benchmarks.model import Case
from benchmarks.registry import all_cases
from benchmarks.report import markdown
from benchmarks.results import (
    LATEST,
    OtherCircumstancesError,
    case_document,
    merged,
    read_results,
    write_results,
)
from benchmarks.runner import Measured, run_case
from benchmarks.serving import ROOT, served

__all__ = ["main"]

_QUICK = ROOT / "artifacts" / "bench-quick.json"
_PEERS = ROOT / ".venv" / "peers"


def main() -> int:
    """Measure. Return 1 if tables are wrong or this project fails to run, 2 for wrong usage."""
    arguments = _arguments()
    cases = all_cases(quick=arguments.quick)
    wanted: list[str] = arguments.only or []
    if unknown := [word for word in wanted if not any(_names(word, case) for case in cases)]:
        print(f"no case is named {', '.join(sorted(unknown))}; see --list", file=sys.stderr)
        return 2
    chosen = [case for case in cases if not wanted or any(_names(word, case) for word in wanted)]
    if arguments.list:
        print("\n".join(f"{case.name:17} {case.title}" for case in chosen))
        return 0
    try:
        return _measure(chosen, arguments)
    except OtherCircumstancesError as error:
        print(error, file=sys.stderr)
        return 2


def _names(word: str, case: Case) -> bool:
    """True if a word names a case, or the group that the case's name starts with."""
    return case.name == word or case.name.startswith(f"{word}_")


def _measure(cases: list[Case], arguments: argparse.Namespace) -> int:
    output: Path = arguments.output or (_QUICK if arguments.quick else LATEST)
    around: dict[str, Any] = {"machine": machine(), "versions": versions(arguments.peers)}
    merged(read_results(output), [{"name": case.name} for case in cases], **around)
    say = _Progress().say
    say(f"load average {os.getloadavg()[0]:.1f} before the first measurement")
    failed: list[Measured] = []
    with served(max((case.rows for case in cases), default=0)) as api:
        for case in cases:
            found = run_case(case, api=api, peers=arguments.peers, rounds=arguments.rounds, say=say)
            failed += [one for one in found if one.wrong or (one.failure and one.is_ours)]
            document = case_document(case, found, command=_command(arguments))
            write_results(output, merged(read_results(output), [document], **around))
    results = read_results(output)
    if results is not None:
        print(markdown(results))
    for one in failed:
        told = "wrong tables" if one.wrong else "could not run"
        print(f"{one.contestant.label}: {told}: {one.failure}", file=sys.stderr)
    return 1 if failed else 0


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that repeats the measurement, without paths of this machine."""
    words = ["make", "bench-quick" if arguments.quick else "bench"]
    own = ["--rounds", str(arguments.rounds)] if arguments.rounds != _rounds(arguments) else []
    own += ["--only", *arguments.only] if arguments.only else []
    return shlex.join(words) + (f' BENCH_ARGS="{shlex.join(own)}"' if own else "")


def _rounds(arguments: argparse.Namespace) -> int:
    return 2 if arguments.quick else 5


class _Progress:
    """Prints progress on standard error. Standard output is for the report."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all work?")
    parser.add_argument("--rounds", type=int, help="measurements of each contestant (5, quick: 2)")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="only these cases or groups")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"results ({LATEST.name})")
    parser.add_argument(
        "--peers", type=Path, default=_PEERS, metavar="DIR", help="their environments"
    )
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or _rounds(arguments)
    arguments.peers = arguments.peers.resolve()
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
