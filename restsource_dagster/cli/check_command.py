"""`restsource check`: every problem of every file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from restsource_dagster.cli.common import ConfigsOption, JsonOption, read_settings
from restsource_dagster.cli.output import (
    EXIT_FAILED,
    Painter,
    choose_painter,
    print_json,
    print_lines,
)
from restsource_dagster.connector.loader import (
    LoadedFile,
    is_connector_file,
    load_files,
    load_folder,
)
from restsource_dagster.connector.validation.diagnostics import Problem, printable

__all__ = ["check"]

_STYLES = {"error": "bold red", "warning": "bold yellow"}


def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Connector files, or folders of them. By default the folder of --configs.",
            show_default=False,
        ),
    ] = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Only the problems and the summary: nothing of the files that are fine.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Check connector files: every problem of every file, and what to write instead.

    Needs neither secrets nor a network. For files that are fine it says how rows get into the
    tables where that follows from the file (append, merge or replace), and why.

    Exit code 1 if a file is broken; warnings alone leave it at 0.

    Example: restsource check configs/shop.json
    """
    files = _load_paths(paths or [], configs)
    if as_json:
        print_json(_files_as_json(files))
    else:
        print_lines(_result_lines(files, choose_painter(), quiet=quiet))
    if any(file.connector is None for file in files):
        raise typer.Exit(EXIT_FAILED)


def _load_paths(paths: Sequence[Path], configs: Path | None) -> tuple[LoadedFile, ...]:
    if not paths:
        return load_folder(read_settings(configs).configs).files
    missing = [path for path in paths if not (path.exists() or path.is_symlink())]
    if missing:
        names = ", ".join(printable(str(path)) for path in missing)
        raise typer.BadParameter(f"there is no {names}", param_hint="PATH")
    loaded: dict[Path, LoadedFile] = {}
    alone = [path for path in paths if not _is_folder(path)]
    for path in paths:
        files = load_folder(path).files if _is_folder(path) else ()
        loaded.update((file.path, file) for file in files)
    loaded.update((file.path, file) for file in load_files(alone))
    return tuple(loaded[path] for path in sorted(loaded))


def _is_folder(path: Path) -> bool:
    """A folder called `x.json` is a mistake to report, not a folder of connectors."""
    return path.is_dir() and not is_connector_file(path)


def _result_lines(files: Sequence[LoadedFile], paint: Painter, *, quiet: bool) -> Iterator[str]:
    for file in files:
        yield from (_problem_line(problem, paint) for problem in file.problems)
    if not quiet:
        for file in files:
            yield from _derived_dispositions(file, paint)
    yield _check_summary(files, paint)


def _problem_line(problem: Problem, paint: Painter) -> str:
    place = paint(printable(f"{problem.path}:{problem.line}:{problem.column}"), "bold")
    severity = paint(problem.severity, _STYLES[problem.severity])
    pointer = paint(f"{printable(problem.pointer)}: ", "cyan") if problem.pointer else ""
    return f"{place}: {severity}: {pointer}{problem.explanation}"


def _derived_dispositions(file: LoadedFile, paint: Painter) -> Iterator[str]:
    """How rows get into the tables, for resources whose file leaves that to us."""
    if file.connector is None:
        return
    derived = [resource for resource in file.connector.resources if resource.disposition.derived]
    if derived:
        yield paint(f"{printable(str(file.path))}: fine", "green")
    for resource in derived:
        name = paint(printable(resource.name), "bold")
        yield f"  {name}: {printable(resource.disposition.reason)}"


def _count_problems(files: Sequence[LoadedFile]) -> Mapping[str, int]:
    severities = [problem.severity for file in files for problem in file.problems]
    return {
        "files": len(files),
        "broken": sum(file.connector is None for file in files),
        "problems": severities.count("error"),
        "warnings": severities.count("warning"),
    }


def _check_summary(files: Sequence[LoadedFile], paint: Painter) -> str:
    counts = _count_problems(files)
    parts = [_number_of(counts["files"], "file"), f"{counts['broken']} broken"]
    parts.append(_number_of(counts["problems"], "problem"))
    if counts["warnings"]:
        parts.append(_number_of(counts["warnings"], "warning"))
    style = (
        "bold red" if counts["broken"] else "bold yellow" if counts["warnings"] else "bold green"
    )
    return paint(", ".join(parts), style)


def _number_of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _files_as_json(files: Sequence[LoadedFile]) -> Mapping[str, Any]:
    return {"files": [_file_as_json(file) for file in files], "summary": _count_problems(files)}


def _file_as_json(file: LoadedFile) -> Mapping[str, Any]:
    resources = file.connector.resources if file.connector else ()
    return {
        "path": str(file.path),
        "connector": file.connector.name if file.connector else None,
        "problems": [problem.as_dict() for problem in file.problems],
        "resources": [
            {
                "name": resource.name,
                "line": resource.line,
                "write_disposition": asdict(resource.disposition),
            }
            for resource in resources
        ],
    }
