"""`restsource check`: reports every problem of every file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from dotenv import load_dotenv

from restsource_dagster.authoring.used_template import (
    FindTemplate,
    UsedTemplate,
    find_valid_template,
    used_template,
)
from restsource_dagster.cli.common import read_settings
from restsource_dagster.cli.options import (
    ConfigsOption,
    ConnectOption,
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
    stdout_to_stderr,
)
from restsource_dagster.connector.loader import (
    LoadedFile,
    is_connector_file,
    iter_files,
    iter_folder,
)
from restsource_dagster.connector.model import Disposition
from restsource_dagster.connector.parsing.document import Document, read_document
from restsource_dagster.connector.validation.diagnostics import Finding, Problem, printable
from restsource_dagster.connector.validation.input_checks import without_literal_secrets
from restsource_dagster.settings import Settings, read_environment

__all__ = ["check"]

_COLOURS = {"error": "red", "warning": "yellow"}


def check(
    paths: PathsArgument = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    expanded: ExpandedOption = False,
    fix: FixOption = False,
    connect: ConnectOption = False,
) -> None:
    """Check connector files: report every problem of every file, and what to write instead.

    Needs neither secrets nor a network. What the destination of the file, or the one in
    RESTSOURCE_DESTINATION, can't do is a problem, too, and so is one that is misspelt or lacks its driver. For valid files it names the
    write disposition (append, merge or replace) of each resource whose file leaves it out, and why.

    With --expanded, what a file with a template stands for is printed first; with --json it is in each
    file's `expanded`.

    For a file with a template it names what a newer version of the template changes for tables that an earlier
    one has loaded, as far as loads are noted in the state; if that is a database, it is asked.

    With --fix, wrong names and values are replaced in the file, and nothing else is changed. The changes
    are printed as a diff, then the problems that are left.

    With --connect it also tries each destination once, without writing, and requests a token for each login
    that has one. This needs the secrets and the network, and lists what was tried.

    Exit code 1 if a file has errors, or something that was tried fails; warnings alone leave it at 0.

    Example: restsource check configs/shop.json
    """
    with_resources = as_json or not quiet
    destination = _Destinations(read_settings(configs))
    files = _check_paths(paths or [], configs, destination, with_resources=with_resources)
    # read again: a correction may bring up what it hid
    if fix and (diffs := _fix(files)):
        files = _check_paths(paths or [], configs, destination, with_resources=with_resources)
        if not as_json:
            print_lines(line for diff in diffs for line in diff.splitlines())
    if expanded and not as_json:
        print_lines(_expanded_lines(files))
    tried = _try_connections(paths or [], configs) if connect else ()
    if as_json:
        made = _files_as_json(files, destination)
        print_json({**made, "connections": [asdict(one) for one in tried]} if connect else made)
    else:
        style = choose_style()
        print_lines(_connection_line(one, style) for one in tried)
        print_lines(_result_lines(files, destination, style))
    if (
        destination.problem
        or any(one.problem for one in tried)
        or any(file.is_broken for file in files)
    ):
        raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True)
class _Destination:
    """The destination of the settings, as far as `check` looks at it."""

    made: Any = None
    """dlt's destination; None for the default, which can do all that a file may ask for."""
    problem: str = ""
    """Why there is none: it is misspelt, or its driver is missing."""

    @classmethod
    def of(cls, settings: Settings) -> "_Destination":
        """Return the destination of the settings. The default needs no dlt, whose import takes a second."""
        if settings.destination == Settings.model_fields["destination"].default:
            return cls()
        from restsource_dagster.engine.destination.warehouse import warehouse_from_settings
        from restsource_dagster.engine.errors import IngestError

        try:
            return cls(warehouse_from_settings(settings).destination())
        except IngestError as error:
            return cls(problem=str(error))


class _Destinations:
    """The destination of the settings, and those that files name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, _Destination] = {}
        self.problem = self._of(None).problem
        """Why that of the settings can't be used."""

    def _of(self, given: str | None) -> _Destination:
        settings = self._settings.for_destination(given)
        if settings.destination not in self._known:
            self._known[settings.destination] = _Destination.of(settings)
        return self._known[settings.destination]

    def problems_of(self, file: LoadedFile) -> Iterator[Problem]:
        """Yield what the file asks for and the destination can't do, at the resource's line."""
        if file.connector is None:
            return
        destination = self._of(file.connector.destination)
        if destination.problem and file.connector.destination:
            yield _locate(file.path, Finding("/destination", destination.problem))
        if destination.made is None:
            return
        from restsource_dagster.engine.destination.sql_destinations import (
            find_destination_problems,
        )

        for found in find_destination_problems(destination.made, file.connector):
            resource, message = found.resource, f"{found.resource.name}: {found.message}"
            yield Problem(
                file.path, resource.line, 1, resource.pointer, message, severity=found.severity
            )


@dataclass(frozen=True)
class _Connection:
    """A destination or a login that was tried."""

    what: str
    problem: str = ""
    """Why it failed; empty if it is fine."""


def _try_connections(paths: Sequence[Path], configs: Path | None) -> tuple[_Connection, ...]:
    """Try the destinations and the logins of all valid files, each destination once."""
    # as in `run`: dlt looks credentials up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    with stdout_to_stderr():
        return tuple(_connections(paths, read_settings(configs), configs))


def _connections(
    paths: Sequence[Path], settings: Settings, configs: Path | None
) -> Iterator[_Connection]:
    from restsource_dagster.connector.env_references import MissingReferencesError
    from restsource_dagster.engine.destination.dlt_config import configure_dlt
    from restsource_dagster.engine.destination.warehouse import connect_once
    from restsource_dagster.engine.errors import IngestError
    from restsource_dagster.engine.run.first_login import try_logins
    from restsource_dagster.engine.run_progress import SilentObserver
    from restsource_dagster.state.state_errors import StateError

    configure_dlt()
    environment, known = read_environment(), set()
    for file in _load_paths(paths, configs):
        if file.connector is None:
            continue
        own = settings.for_destination(file.connector.destination)
        if own.destination not in known:
            known.add(own.destination)
            what = f"destination {own.destination}"
            try:
                connect_once(own, environment)
                yield _Connection(what)
            except IngestError as error:
                yield _Connection(what, str(error))
        try:
            for kind in try_logins(file.connector, own, environment, SilentObserver()):
                yield _Connection(f"{file.connector.name}: login {kind}")
        except (IngestError, MissingReferencesError, StateError) as error:
            yield _Connection(f"{file.connector.name}: login", str(error))


def _connection_line(tried: _Connection, style: Style) -> str:
    if not tried.problem:
        return f"{printable(tried.what)}: {style('fine', fg='green')}"
    shown = style("error", fg="red", bold=True)
    return f"{printable(tried.what)}: {shown}: {printable(tried.problem)}"


def _locate(path: Path, finding: Finding) -> Problem:
    document = read_document(path)
    return document.located(finding) if isinstance(document, Document) else finding.at(path, 1, 1)


@dataclass(frozen=True)
class _CheckedResource:
    name: str
    line: int
    disposition: Disposition


@dataclass(frozen=True)
class _CheckedFile:
    """What is printed of a file. Its connector is not kept: a folder may have thousands."""

    path: Path
    connector: str | None
    problems: tuple[Problem, ...]
    expanded: Mapping[str, Any] | None
    resources: tuple[_CheckedResource, ...]
    template: UsedTemplate | None = None

    @property
    def is_broken(self) -> bool:
        """True if the file is not loaded, or a run refuses one of its resources."""
        return self.connector is None or any(one.severity == "error" for one in self.problems)


def _check_paths(
    paths: Sequence[Path], configs: Path | None, destination: _Destinations, *, with_resources: bool
) -> tuple[_CheckedFile, ...]:
    # a folder may have hundreds of files with one template
    find = cache(find_valid_template)
    # By path, so that a file that is named twice counts once.
    checked = {
        file.path: _checked(file, destination, find, with_resources=with_resources)
        for file in _load_paths(paths, configs)
    }
    return tuple(checked[path] for path in sorted(checked))


def _checked(
    file: LoadedFile, destination: _Destinations, find: FindTemplate, *, with_resources: bool
) -> _CheckedFile:
    name = file.connector.name if file.connector else None
    template, changed = _template_of(file, find)
    resources = file.connector.resources if file.connector and with_resources else ()
    return _CheckedFile(
        file.path,
        name,
        tuple(sorted((*file.problems, *changed, *destination.problems_of(file)))),
        None if file.expanded is None else without_literal_secrets(file.expanded),
        tuple(_CheckedResource(each.name, each.line, each.disposition) for each in resources),
        template,
    )


def _template_of(
    file: LoadedFile, find: FindTemplate
) -> tuple[UsedTemplate | None, tuple[Problem, ...]]:
    # settings are read for files with a template only
    if file.connector is None or file.connector.template is None:
        return None, ()
    return used_template(file, read_settings(None), find=find)


def _load_paths(paths: Sequence[Path], configs: Path | None) -> Iterator[LoadedFile]:
    """Load the files one at a time. Raises `typer.BadParameter` if there is no file at a path."""
    if not paths:
        return iter_folder(read_settings(configs).configs)
    # A link to nowhere is there: it is reported as a broken file.
    missing = [path for path in paths if not (path.exists() or path.is_symlink())]
    if missing:
        names = ", ".join(printable(str(path)) for path in missing)
        raise typer.BadParameter(f"there is no {names}", param_hint="PATH")
    folders = (iter_folder(path) for path in paths if _is_folder(path))
    # Together, so that two files with one connector name are found.
    alone = iter_files(path for path in paths if not _is_folder(path))
    return chain(chain.from_iterable(folders), alone)


def _fix(files: Sequence[_CheckedFile]) -> list[str]:
    """Correct the files, and return the changes as diffs."""
    from restsource_dagster.connector.fixes import fix_file

    return [diff for file in files if (diff := fix_file(file.path))]


def _is_folder(path: Path) -> bool:
    """False for a folder named like a connector file: that is a mistake to report."""
    return path.is_dir() and not is_connector_file(path)


def _result_lines(
    files: Sequence[_CheckedFile], destination: _Destinations, style: Style
) -> Iterator[str]:
    if destination.problem:
        yield f"{style('error', fg='red', bold=True)}: {printable(destination.problem)}"
    for file in files:
        yield from (_problem_line(problem, style) for problem in file.problems)
    for file in files:
        yield from _derived_dispositions(file, style)
        yield from _unknown_loads(file)
    if not files:
        yield "There is no connector file here: a file that ends in .json, .yaml or .yml."
    # The last line: a long list of problems scrolls the first lines away.
    yield _check_summary(files, style)


def _expanded_lines(files: Sequence[_CheckedFile]) -> Iterator[str]:
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


def _derived_dispositions(file: _CheckedFile, style: Style) -> Iterator[str]:
    """Yield the derived write dispositions of a valid file and their reasons."""
    derived = [resource for resource in file.resources if resource.disposition.derived]
    if derived and not file.is_broken:
        yield style(f"{printable(str(file.path))}: fine", fg="green")
    for resource in derived:
        name = style(printable(resource.name), bold=True)
        yield f"  {name}: {printable(resource.disposition.reason)}"


def _unknown_loads(file: _CheckedFile) -> Iterator[str]:
    """Yield what can't be known: whether an earlier version of the template has loaded the tables."""
    used = file.template
    if used is not None and used.unknown:
        place = printable(str(file.path))
        yield (
            f"{place}: {printable(used.unknown)}. If an earlier version has loaded the tables from elsewhere, what "
            f"{printable(used.label)} changes in them isn't known here."
        )


def _count_problems(files: Sequence[_CheckedFile]) -> Mapping[str, int]:
    severities = [problem.severity for file in files for problem in file.problems]
    return {
        "files": len(files),
        "broken": sum(file.is_broken for file in files),
        "problems": severities.count("error"),
        "warnings": severities.count("warning"),
    }


def _check_summary(files: Sequence[_CheckedFile], style: Style) -> str:
    counts = _count_problems(files)
    parts = [_number_of(counts["files"], "file"), f"{counts['broken']} broken"]
    parts.append(_number_of(counts["problems"], "problem"))
    if counts["warnings"]:
        parts.append(_number_of(counts["warnings"], "warning"))
    colour = "red" if counts["broken"] else "yellow" if counts["warnings"] else "green"
    return style(", ".join(parts), fg=colour, bold=True)


def _number_of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _files_as_json(files: Sequence[_CheckedFile], destination: _Destinations) -> Mapping[str, Any]:
    return {
        "files": [_file_as_json(file) for file in files],
        "summary": _count_problems(files),
        **({"destination": {"problem": destination.problem}} if destination.problem else {}),
    }


def _file_as_json(file: _CheckedFile) -> Mapping[str, Any]:
    return {
        "path": str(file.path),
        "connector": file.connector,
        "problems": [problem.as_dict() for problem in file.problems],
        "expanded": file.expanded,
        "template": file.template
        and {"version": file.template.label, "loaded": dict(file.template.loaded)},
        "resources": [
            {
                "name": resource.name,
                "line": resource.line,
                "write_disposition": asdict(resource.disposition),
            }
            for resource in file.resources
        ],
    }
