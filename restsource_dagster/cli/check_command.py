"""`restsource check`: reports every problem of every file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from restsource_dagster.cli.common import read_settings
from restsource_dagster.cli.options import (
    ConfigsOption,
    ExpandedOption,
    FixOption,
    JsonOption,
    PathsArgument,
    QuietOption,
)
from restsource_dagster.cli.output import (
    EXIT_FAILED,
    Style,
    choose_style,
    print_json,
    print_lines,
)
from restsource_dagster.connector.fixes import fix_file
from restsource_dagster.connector.loader import (
    LoadedFile,
    is_connector_file,
    load_files,
    load_folder,
)
from restsource_dagster.connector.validation.diagnostics import Problem, printable

__all__ = ["check"]

_COLOURS = {"error": "red", "warning": "yellow"}


def check(
    paths: PathsArgument = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    expanded: ExpandedOption = False,
    fix: FixOption = False,
) -> None:
    """Check connector files: report every problem of every file, and what to write instead.

    Needs neither secrets nor a network. For valid files it names the write disposition (append, merge
    or replace) of each resource whose file leaves it out, and why.

    With --expanded, what a file with a template stands for is printed first; with --json it is in each
    file's `expanded`.

    With --fix, each problem that another name or value mends is mended in the file, which else stays as it
    is written; the change is shown, and then what is left.

    Exit code 1 if a file has errors; warnings alone leave it at 0.

    Example: restsource check configs/shop.json
    """
    files = _load_paths(paths or [], configs)
    if fix and (diffs := [diff for file in files if (diff := fix_file(file.path))]):
        files = _load_paths(paths or [], configs)
        if not as_json:
            print_lines(line for diff in diffs for line in diff.splitlines())
    if expanded and not as_json:
        print_lines(_expanded_lines(files))
    if as_json:
        print_json(_files_as_json(files))
    else:
        print_lines(_result_lines(files, choose_style(), quiet=quiet))
    if any(file.connector is None for file in files):
        raise typer.Exit(EXIT_FAILED)


def _load_paths(paths: Sequence[Path], configs: Path | None) -> tuple[LoadedFile, ...]:
    if not paths:
        return load_folder(read_settings(configs).configs).files
    # A link to nowhere is there: it is reported as a broken file.
    missing = [path for path in paths if not (path.exists() or path.is_symlink())]
    if missing:
        names = ", ".join(printable(str(path)) for path in missing)
        raise typer.BadParameter(f"there is no {names}", param_hint="PATH")
    # By path, so that a file that is named twice counts once.
    loaded: dict[Path, LoadedFile] = {}
    alone = [path for path in paths if not _is_folder(path)]
    for path in paths:
        files = load_folder(path).files if _is_folder(path) else ()
        loaded.update((file.path, file) for file in files)
    # Together, so that two files with one connector name are found.
    loaded.update((file.path, file) for file in load_files(alone))
    return tuple(loaded[path] for path in sorted(loaded))


def _is_folder(path: Path) -> bool:
    """False for a folder named like a connector file: that is a mistake to report."""
    return path.is_dir() and not is_connector_file(path)


def _result_lines(files: Sequence[LoadedFile], style: Style, *, quiet: bool) -> Iterator[str]:
    for file in files:
        yield from (_problem_line(problem, style) for problem in file.problems)
    if not quiet:
        for file in files:
            yield from _derived_dispositions(file, style)
    # The last line: a long list of problems scrolls the first lines away.
    if not files:
        yield "There is no connector file here: a file that ends in .json, .yaml or .yml."
    yield _check_summary(files, style)


def _expanded_lines(files: Sequence[LoadedFile]) -> Iterator[str]:
    for file in files:
        if file.expanded is not None:
            yield f"{printable(str(file.path))} stands for:"
            yield json.dumps(file.expanded, indent=2, ensure_ascii=False)


def _problem_line(problem: Problem, style: Style) -> str:
    place = style(printable(f"{problem.path}:{problem.line}:{problem.column}"), bold=True)
    severity = style(problem.severity, fg=_COLOURS[problem.severity], bold=True)
    pointer = style(f"{printable(problem.pointer)}: ", fg="cyan") if problem.pointer else ""
    # Editors, terminals and CI systems make a link of `file:line:column:` at the start of a line.
    return f"{place}: {severity}: {pointer}{problem.explanation}"


def _derived_dispositions(file: LoadedFile, style: Style) -> Iterator[str]:
    """Yield the derived write dispositions of a valid file and their reasons."""
    if file.connector is None:
        return
    derived = [resource for resource in file.connector.resources if resource.disposition.derived]
    if derived:
        yield style(f"{printable(str(file.path))}: fine", fg="green")
    for resource in derived:
        name = style(printable(resource.name), bold=True)
        yield f"  {name}: {printable(resource.disposition.reason)}"


def _count_problems(files: Sequence[LoadedFile]) -> Mapping[str, int]:
    severities = [problem.severity for file in files for problem in file.problems]
    return {
        "files": len(files),
        "broken": sum(file.connector is None for file in files),
        "problems": severities.count("error"),
        "warnings": severities.count("warning"),
    }


def _check_summary(files: Sequence[LoadedFile], style: Style) -> str:
    counts = _count_problems(files)
    parts = [_number_of(counts["files"], "file"), f"{counts['broken']} broken"]
    parts.append(_number_of(counts["problems"], "problem"))
    if counts["warnings"]:
        parts.append(_number_of(counts["warnings"], "warning"))
    colour = "red" if counts["broken"] else "yellow" if counts["warnings"] else "green"
    return style(", ".join(parts), fg=colour, bold=True)


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
        "expanded": file.expanded,
        "resources": [
            {
                "name": resource.name,
                "line": resource.line,
                "write_disposition": asdict(resource.disposition),
            }
            for resource in resources
        ],
    }
