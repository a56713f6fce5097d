"""`restsource import`: write a connector file of a source that people already have."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import typer

from restsource_dagster.authoring.importing.connector_draft import NOT_CHOSEN
from restsource_dagster.authoring.importing.import_source import (
    ImportKind,
    ImportResult,
    import_source,
)
from restsource_dagster.authoring.importing.source_files import SourceError, read_source_files
from restsource_dagster.authoring.importing.source_pieces import Fate
from restsource_dagster.cli.common import make_folder, read_settings
from restsource_dagster.cli.env_file import add_to_env
from restsource_dagster.cli.options import (
    ConfigsOption,
    EnvOption,
    ExcludeOption,
    ImportArgument,
    IncludeOption,
    JsonOption,
    OutOption,
)
from restsource_dagster.cli.output import EXIT_FAILED, print_json, print_lines, print_notice
from restsource_dagster.connector.models.connector_file import CONNECTOR_NAME_PATTERN
from restsource_dagster.connector.validation.diagnostics import json_pointer, printable

__all__ = ["import_connector"]

_STDOUT = Path("-")
_SHOWN_PATHS = 10


def import_connector(
    source: ImportArgument = None,
    out: OutOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    env: EnvOption = False,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a connector file of cURL commands, an OpenAPI document, a Postman collection, a HAR file, an
    Airbyte manifest or dlt's Python code.

    Reports what was mapped, what was guessed with which evidence, and what was not mapped, by its path in the
    source. Secrets become references: their values go into `.env` with --env, and nowhere else. Only the given
    files are read; nothing is executed and nothing requested.

    Exit code 1 if the source can't be read, if nothing in it can be loaded, or if the file exists already.

    Example: restsource import openapi shop.yaml --include 'orders*'
    """
    kind, paths = _kind_and_paths(source or [])
    try:
        files = read_source_files(paths, sys.stdin.buffer)
        result = import_source(
            files, kind, name=_name_of(out), include=include or [], exclude=exclude or []
        )
    except SourceError as error:
        print_notice(f"Nothing is imported: {printable(str(error))}.")
        raise typer.Exit(EXIT_FAILED) from None
    if result.errors:
        for finding in result.errors:
            print_notice(finding.at(Path(result.kind), 1, 1).as_text())
        raise typer.Exit(EXIT_FAILED)
    path = out or read_settings(configs, makes_folder=True).configs / f"{result.draft.name}.json"
    _write(path, result.text)
    variables = result.draft.variables.values()
    missing = add_to_env(variables) if env else list(variables)
    if as_json:
        print_json(result.as_dict(path, missing))
    elif path == _STDOUT:
        for line in _report_lines(path, result, missing):
            print_notice(line)
    else:
        print_lines(_report_lines(path, result, missing))


def _kind_and_paths(words: Sequence[str]) -> tuple[ImportKind | None, list[Path]]:
    kinds: tuple[ImportKind, ...] = get_args(ImportKind)
    kind = next((each for each in kinds if words[:1] == [each]), None)
    paths = [Path(word) for word in (words[1:] if kind else words)]
    if not paths and sys.stdin.isatty():
        print_notice("Paste what is to be imported, then press Ctrl-D on a line of its own.")
    return kind, paths or [_STDOUT]


def _name_of(out: Path | None) -> str | None:
    """Return the connector's name of the file to write; None if it is not named."""
    if out is None or out == _STDOUT:
        return None
    if not re.fullmatch(CONNECTOR_NAME_PATTERN, out.stem) or out.suffix != ".json":
        raise typer.BadParameter(
            "name a file such as configs/shop.json: a small letter, then small letters, digits and "
            "underscores",
            param_hint="--out",
        )
    return out.stem


def _write(path: Path, text: str) -> None:
    if path == _STDOUT:
        return
    # unlike a folder that is read: a file that is written may be the first one there
    if not path.parent.exists():
        make_folder(path.parent)
    try:
        # "x": never over a file that exists
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        print_notice(f"{printable(str(path))} exists already; it is left as it is.")
        raise typer.Exit(EXIT_FAILED) from None
    except OSError as error:
        print_notice(f"{printable(str(path))} can't be written: {error.strerror}.")
        raise typer.Exit(EXIT_FAILED) from None


def _report_lines(path: Path, result: ImportResult, missing: Sequence[str]) -> Iterator[str]:
    if path == _STDOUT:
        print_lines([result.text.rstrip("\n")])
    names = [str(each["name"]) for each in result.draft.value["resources"]]
    wrote = "Made a connector" if path == _STDOUT else f"Wrote {printable(str(path))}"
    yield f"{wrote} of {len(names)} resource{'' if len(names) == 1 else 's'}: {printable(', '.join(names))}."
    by_state = {
        state: [fate for fate in result.fates if fate.state == state]
        for state in ("mapped", "guessed", "suggested", "not_mapped")
    }
    yield f"Mapped: {len(by_state['mapped'])} pieces of the source (--json lists them)."
    if by_state["guessed"]:
        yield "Guessed, so look at these:"
        for fate in by_state["guessed"]:
            yield printable(f"  {fate.target}: {fate.reason} ({json_pointer(fate.path)})")
    if by_state["suggested"]:
        yield "Suggested, and not in the file:"
        for fate in by_state["suggested"]:
            yield printable(f"  {fate.target}: {fate.reason} ({json_pointer(fate.path)})")
    if by_state["not_mapped"]:
        yield "Not mapped:"
        yield from _unmapped_lines(by_state["not_mapped"])
    for finding in result.findings:
        yield f"  {finding.at(path, 1, 1).explanation} ({printable(finding.pointer)})"
    if missing:
        yield "Write into .env:"
        yield from (f"  {name}=" for name in missing)
    if path != _STDOUT:
        yield f"Then look at it: restsource preview {printable(str(path))}"


def _unmapped_lines(fates: Iterable[Fate]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for fate in fates:
        by_reason.setdefault(fate.reason, []).append(json_pointer(fate.path) or "/")
    unchosen = by_reason.pop(NOT_CHOSEN, [])
    if unchosen:
        yield f"  {NOT_CHOSEN}: {len(unchosen)} pieces (--json lists them)"
    for reason, paths in by_reason.items():
        yield f"  {printable(reason)}:"
        yield from (f"    {printable(path)}" for path in paths[:_SHOWN_PATHS])
        if len(paths) > _SHOWN_PATHS:
            yield f"    and {len(paths) - _SHOWN_PATHS} more (--json lists them)"
