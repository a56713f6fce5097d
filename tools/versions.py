"""Run part of the tests on the oldest and the newest allowed versions, with each supported Python.

`python -m tools.versions`, or `make test-versions`. The supported Pythons are the classifiers of
pyproject.toml. `oldest` is requirements/oldest.lock, in which every dependency of the package has its
lowest allowed version (`make lock` writes it). `newest` is what the ranges in pyproject.toml allow now.
`--quick` runs the oldest versions on the first Python and the newest on the last one.

The environments are in .venv/versions. A Python that isn't installed is skipped and named. The exit
code is 1 if a test failed or an environment could not be made.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "NEWEST_TESTS",
    "TESTS",
    "Result",
    "Target",
    "find_python",
    "main",
    "supported_pythons",
    "targets",
]

_ROOT = Path(__file__).resolve().parents[1]
_ENVIRONMENTS = _ROOT / ".venv" / "versions"
_OLDEST_LOCK = _ROOT / "requirements" / "oldest.lock"
_SHOWN = ("dagster", "dlt")
_EXTRAS = ("logins", "aws", "postgres")
"""The optional packages that oldest.lock has as well: `EXTRAS` in the Makefile."""
_CLASSIFIER = "Programming Language :: Python :: 3."

_SUITE = "restsource_dagster_tests"
TESTS = (
    # connector: parsing, validation, models
    "connector/parsing",
    "connector/test_files.py",
    # state
    "state",
    # engine: source, run, incremental, destination, columnar, paging, prefetch, http
    "engine/test_dlt_compat.py",
    "engine/test_ingest.py",
    "engine/test_merge_strategies.py",
    "engine/test_record_steps.py",
    "engine/columnar/test_parents_as_columns.py",
    "engine/paging",
    "faults/test_cursor_boundaries.py",
    "faults/test_token_renewal.py",
    # orchestration: definitions, op, schedules, sensors, backfills
    "orchestration/test_dagster_compat.py",
    "orchestration/test_definitions.py",
    "orchestration/test_materializations.py",
    "orchestration/test_schedules.py",
    "orchestration/backfills/test_definitions.py",
    "orchestration/backfills/test_sensor.py",
    # authoring: detection
    "authoring/test_detection.py",
    # cli
    "cli/test_check.py",
    # local_runtime
    "local_runtime/launcher/test_preloaded_modules.py",
    "local_runtime/storage",
    "local_runtime/test_tested_versions.py",
)
"""The tests that run, below the folder of tests: some of every package, in two to three minutes."""

NEWEST_TESTS = (
    # pydantic writes the schema, and words differ between its versions
    "connector/test_json_schema.py",
    # a file may use what only newer versions of dlt know
    "connector/test_parity.py",
)
"""More tests, for the newest versions only."""


@dataclass(frozen=True)
class Target:
    """Versions to test: a Python such as `3.12`, with the `oldest` or the `newest` dependencies."""

    python: str
    kind: str


@dataclass(frozen=True)
class Result:
    """How the tests of a target ended: `passed`, `failed` or `skipped`."""

    target: Target
    status: str
    detail: str
    versions: str = ""
    seconds: float = 0.0


class _EnvironmentError(Exception):
    """An environment could not be made; the text is the installer's."""


def supported_pythons(pyproject: Path = _ROOT / "pyproject.toml") -> tuple[str, ...]:
    """Return the Python versions in the classifiers, oldest first."""
    data = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    classifiers: list[str] = data["project"]["classifiers"]
    minors = (int(c.removeprefix(_CLASSIFIER)) for c in classifiers if c.startswith(_CLASSIFIER))
    return tuple(f"3.{minor}" for minor in sorted(minors))


def targets(pythons: Sequence[str], *, quick: bool) -> list[Target]:
    """Return what to test: both kinds with each Python, or one kind at either end."""
    if quick:
        return [Target(pythons[0], "oldest"), Target(pythons[-1], "newest")]
    return [Target(python, kind) for python in pythons for kind in ("oldest", "newest")]


def find_python(version: str) -> Path | None:
    """Return an installed interpreter of this version, None if there is none."""
    for candidate in _candidates(version):
        # pyenv puts commands on the PATH that fail while their version is not switched on
        code = "import sys; print('{}.{}'.format(*sys.version_info))"
        tried = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if tried.returncode == 0 and tried.stdout.strip() == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[Path]:
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        yield Path(sys.executable)
    folders = [Path(text) for text in os.environ.get("PATH", "").split(os.pathsep) if text]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    of_uv = Path.home() / ".local" / "share" / "uv" / "python"
    found = [folder / f"python{version}" for folder in folders]
    found += sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)
    found += sorted(of_uv.glob(f"cpython-{version}.*/bin/python"), reverse=True)
    yield from (path for path in found if path.is_file())


def _uv(*arguments: str | Path) -> str:
    """Run uv and return what it prints. Raise `_EnvironmentError` if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise _EnvironmentError(done.stderr.strip())
    return done.stdout


def _make_environment(target: Target, python: Path) -> Path:
    """Make the environment of a target, or bring it up to date; return its interpreter."""
    folder = _ENVIRONMENTS / f"{target.python}-{target.kind}"
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        _uv("venv", "--quiet", "--clear", "--python", python, folder)
    lock = _OLDEST_LOCK if target.kind == "oldest" else _resolve_newest(target, folder)
    _uv("pip", "sync", "--quiet", "--python", interpreter, "--require-hashes", lock)
    editable = ("--no-deps", "--no-build-isolation", "--editable", ".")
    _uv("pip", "install", "--quiet", "--python", interpreter, *editable)
    return interpreter


def _resolve_newest(target: Target, folder: Path) -> Path:
    """Write down the newest versions that the ranges allow, with what the tests need beside them."""
    lock = folder / "newest.lock"
    groups = [part for name in ("setup", "sample", "dev") for part in ("--group", name)]
    groups += [part for name in _EXTRAS for part in ("--extra", name)]
    options = ("--quiet", "--upgrade", "--generate-hashes", "--no-header", "--no-annotate")
    python = ("--python-version", target.python)
    # the Makefile's locks leave them out, too: pyarrow imports pandas in each run if it is installed
    unused = ("--no-emit-package", "pandas", "--no-emit-package", "numpy")
    _uv("pip", "compile", "pyproject.toml", *groups, *options, *python, *unused, "-o", lock)
    return lock


def _installed(interpreter: Path) -> str:
    listed = json.loads(_uv("pip", "list", "--format", "json", "--python", interpreter))
    versions = {package["name"]: package["version"] for package in listed}
    return ", ".join(f"{name} {versions[name]}" for name in _SHOWN)


def _run(target: Target, workers: int, arguments: Sequence[str]) -> Result:
    """Run the tests of one target. Print what they print if they fail."""
    python = find_python(target.python)
    if python is None:
        return Result(target, "skipped", f"Python {target.python} is not installed")
    started = time.monotonic()
    try:
        interpreter = _make_environment(target, python)
        versions = _installed(interpreter)
    except _EnvironmentError as error:
        print(error, flush=True)
        return Result(target, "failed", "the environment could not be made")
    more = NEWEST_TESTS if target.kind == "newest" else ()
    paths = [f"{_SUITE}/{path}" for path in (*TESTS, *more)]
    options = ["-q", "-p", "no:cacheprovider", "-n", str(workers), "--dist", "loadfile"]
    # dlt reads a variable of this name: how many processes it shall start
    environment = {name: value for name, value in os.environ.items() if name != "WORKERS"}
    log = interpreter.parents[1] / "tests.log"
    print(f"  {versions}; pytest writes to {log.relative_to(_ROOT)}", flush=True)
    with log.open("w", encoding="utf-8") as file:
        tests = subprocess.run(
            [interpreter, "-m", "pytest", *options, *(arguments or paths)],
            cwd=_ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    output = log.read_text(encoding="utf-8", errors="replace")
    status = "passed" if tests.returncode == 0 else "failed"
    if status == "failed":
        print(output, flush=True)
    seconds = time.monotonic() - started
    return Result(target, status, _summary(output), versions, seconds)


def _summary(output: str) -> str:
    """Return pytest's counts, such as `3 failed, 200 passed`."""
    lines = output.strip().splitlines() or [""]
    found = re.search(r"\d+ (?:passed|failed|error|skipped).*?(?= in |$)", lines[-1])
    return found.group() if found else lines[-1]


def _table(results: Iterable[Result]) -> str:
    rows = [("Python", "versions", "with", "result", "tests", "seconds")]
    rows += [
        (
            result.target.python,
            result.target.kind,
            result.versions or "-",
            result.status,
            result.detail,
            f"{result.seconds:.0f}",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ((text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in padded)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests of all targets, print a table and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.versions", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--quick", action="store_true", help="oldest on the first Python, newest on the last"
    )
    parser.add_argument(
        "--python", action="append", help="only this Python, such as 3.12; may be repeated"
    )
    parser.add_argument("--only", choices=("oldest", "newest"), help="only these versions")
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest in place of the usual tests")
    given = parser.parse_args(arguments)
    wanted = [
        target
        for target in targets(supported_pythons(), quick=given.quick)
        if (not given.python or target.python in given.python) and given.only in (None, target.kind)
    ]
    results: list[Result] = []
    for target in wanted:
        print(f"Python {target.python}, {target.kind} versions ...", flush=True)
        results.append(_run(target, given.workers, given.pytest))
    print(_table(results))
    return int(any(result.status == "failed" for result in results))


if __name__ == "__main__":
    sys.exit(main())
