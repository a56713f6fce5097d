"""`restsource grade`: what a file survives, tried on a twin of its API."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from dotenv import load_dotenv

from restsource_dagster.cli.common import find_resources
from restsource_dagster.cli.options import (
    AttacksOption,
    ConfigsOption,
    JsonOption,
    MaxSecondsOption,
    NameOrFileArgument,
    OfflineOption,
    PreviewResourcesArgument,
)
from restsource_dagster.cli.output import (
    exit_on_failure,
    print_json,
    print_lines,
    print_notice,
    stdout_to_stderr,
)
from restsource_dagster.cli.preview_command import (
    INTERRUPTED,
    find_file_or_connector,
    run_preview,
    stopping_at_interrupt,
)
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # importing dlt takes a second
    from restsource_dagster.authoring.grading.grade import Grade, GradedResource
    from restsource_dagster.engine.preview.previewed import Preview

__all__ = ["grade_command"]

_PREVIEW_SECONDS = 30.0


def grade_command(
    name: NameOrFileArgument,
    resources: PreviewResourcesArgument = None,
    offline: OfflineOption = False,
    attacks: AttacksOption = None,
    max_seconds: MaxSecondsOption = 60.0,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try what a file survives, on a twin of its API that misbehaves.

    The twin is made from the file and a preview: a server on this machine that pages, filters and asks for a
    login as the file says, with rows like the previewed ones. The file loads from it into a temporary database,
    while pages come twice, rows are added and deleted, the next page never changes, the API answers 429 and
    500, an answer is cut off, the run is killed, and rows are late, change or tie at the cursor. After one
    more load the table is compared with the twin: what is lost, doubled or stale, and which option of the
    file would help. What no twin can be made of is named.

    Ctrl-C ends it and shows what was tried. Exit code 1 if rows were lost or doubled without an error.

    Example: restsource grade shop orders --attacks late,delete
    """
    settings, connector = find_file_or_connector(name, configs)
    wanted = find_resources(connector, resources or [])
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    chosen = _chosen(attacks)
    found = None if offline else _preview(connector, settings, wanted)
    with stdout_to_stderr():
        from restsource_dagster.authoring.grading.grade import grade
        from restsource_dagster.engine.preview.preview_limits import PreviewEnd

        end = PreviewEnd()
        with stopping_at_interrupt(end):
            made = grade(
                connector,
                found,
                resources=wanted,
                attacks=chosen,
                seconds=max_seconds,
                end=end,
            )
    if as_json:
        print_json(made.as_dict())
    else:
        print_lines(_lines(made))
    exit_on_failure(interrupted=made.ended == INTERRUPTED, failed=not made.is_fine)


def _chosen(attacks: str | None) -> Sequence[str]:
    """Return the attacks of the option. Raises `typer.BadParameter` for an unknown one."""
    from restsource_dagster.authoring.grading.attacks import ATTACKS

    names = list(ATTACKS) if attacks is None else [one.strip() for one in attacks.split(",")]
    for name in names:
        if name not in ATTACKS:
            raise typer.BadParameter(
                f"there is no attack {printable(name)}; there are {', '.join(ATTACKS)}",
                param_hint="--attacks",
            )
    return names


def _preview(connector: Connector, settings: Settings, wanted: tuple[str, ...]) -> "Preview":
    """Return a preview, and print what is wrong with it. Raises `typer.Exit` if it was interrupted."""
    from restsource_dagster.engine.preview.preview_limits import PreviewLimits

    limits = PreviewLimits(rows=5, calls=1, seconds=_PREVIEW_SECONDS)
    found = run_preview(connector, settings, wanted, limits)
    for problem in (*found.problems, *(text for one in found.resources for text in one.problems)):
        print_notice(printable(problem))
    exit_on_failure(interrupted=found.ended == INTERRUPTED, failed=False)
    return found


def _lines(made: "Grade") -> Iterator[str]:
    for resource in made.resources:
        yield from _resource_lines(resource)
    for text in made.not_modelled:
        yield f"not modelled: {printable(text)}"
    if made.ended:
        yield f"ended early: {made.ended}; --max-seconds gives it more time"
    counts = [one.lost + one.doubled for each in made.resources for one in each.attacks]
    tried = sum(one.verdict != "not tried" for each in made.resources for one in each.attacks)
    if made.is_fine:
        yield f"No row was lost or doubled without an error in {tried} attacks ({made.seconds:.0f} s)."
    else:
        fallen = sum(count > 0 for count in counts)
        yield f"{fallen} of {tried} attacks lose or double rows without an error ({made.seconds:.0f} s)."


def _resource_lines(resource: "GradedResource") -> Iterator[str]:
    name = printable(resource.name)
    if resource.not_modelled is not None:
        yield f"{name}: not modelled: {printable(resource.not_modelled)}"
        return
    source = "as in the preview" if resource.rows_from == "preview" else "made from the file alone"
    yield f"{name} (rows {source})"
    for one in resource.attacks:
        yield f"  {one.attack:<13} {one.in_words:<15} {one.text}"
        if one.helps is not None:
            yield f"  {'':<13} {'':<15} would help: {one.helps}"
        elif one.failure is not None:
            yield f"  {'':<13} {'':<15} {_first_line(one.failure)}"


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return printable(line if len(line) <= 160 else f"{line[:159]}…")
