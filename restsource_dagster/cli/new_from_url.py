"""`restsource new --url`: ask an API, and write the file that its answers suggest, with a report.

The report says what is in the file with which evidence, and what is not.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer
from dotenv import load_dotenv

from restsource_dagster.authoring.importing.imported_api import EnvVariables
from restsource_dagster.authoring.typed_login import (
    LoginOptions,
    TypedLoginError,
    read_auth,
    read_body,
    read_headers,
    url_without_secrets,
)
from restsource_dagster.cli.env_file import add_to_env
from restsource_dagster.cli.output import (
    EXIT_FAILED,
    exit_on_failure,
    print_json,
    print_lines,
    print_notice,
    result_console,
    stdout_to_stderr,
)
from restsource_dagster.cli.preview_command import INTERRUPTED, stopping_at_interrupt
from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.settings import Settings, read_environment
from restsource_dagster.state.store import make_private_folder

if TYPE_CHECKING:  # importing dlt takes a second
    from restsource_dagster.authoring.guesses import Guess
    from restsource_dagster.authoring.sent_body import SentBody
    from restsource_dagster.authoring.url_draft import ApiLogin, UrlDraft

__all__ = ["draft_as_dict", "write_from_url"]

_REPORTS = "reports"


def write_from_url(
    name: str,
    path: Path,
    url: str,
    login: LoginOptions,
    settings: Settings,
    *,
    data: str | None,
    as_json: bool,
) -> None:
    """Ask the API, write the file, its report and the lines of `.env`, and print what was found.

    `data` is the body of a POST as it was typed.
    Nothing is written if nothing could be guessed. Raises `typer.Exit` then, and if the preview of the file
    has a problem.
    """
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    variables = EnvVariables(name)
    from restsource_dagster.authoring.url_draft import ApiLogin

    try:
        asked = url_without_secrets(url, variables)
        block = ApiLogin(read_auth(login, variables), read_headers(login, variables))
        body = read_body(data, variables)
    except TypedLoginError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from None
    environment = read_environment()
    _ask_missing(asked, block, body, variables, environment)
    known = {**environment, **{key: text for key, text in variables.values().items() if text}}
    draft, interrupted = _ask_api(name, asked, block, body, settings, known)
    if draft.failure is not None or interrupted:
        print_notice(printable(f"Nothing is written: {draft.failure or 'it was stopped'}"))
        if draft.failure and draft.failure.endswith("no login was given"):
            print_notice("Give one with --bearer, --basic, --api-key or --header.")
        if as_json:
            print_json(draft_as_dict(None, None, [], draft))
        exit_on_failure(interrupted=interrupted, failed=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(draft.value, indent=2, ensure_ascii=False) + "\n")
    report = _write_report(name, asked, draft, settings)
    missing = add_to_env(variables.values())
    if as_json:
        print_json(draft_as_dict(path, report, missing, draft))
    else:
        _print_draft(path, report, missing, draft)
    if draft.preview is None or not draft.preview.is_fine:
        raise typer.Exit(EXIT_FAILED)


def _ask_api(
    name: str,
    url: str,
    login: "ApiLogin",
    body: "SentBody | None",
    settings: Settings,
    environment: Mapping[str, str],
) -> "tuple[UrlDraft, bool]":
    with stdout_to_stderr():
        from restsource_dagster.authoring.url_draft import draft_from_url
        from restsource_dagster.engine.preview.preview_limits import PreviewEnd

        end = PreviewEnd()
        if sys.stderr.isatty():
            print_notice(f"Asking {printable(urlsplit(url).netloc)} ...")
        with stopping_at_interrupt(end):
            draft = draft_from_url(
                name,
                url,
                login=login,
                body=body,
                settings=settings,
                environment=environment,
                end=end,
            )
    return draft, end.reason == INTERRUPTED


def _ask_missing(
    url: str,
    login: "ApiLogin",
    body: "SentBody | None",
    variables: EnvVariables,
    environment: Mapping[str, str],
) -> None:
    """Note the variables that have no value; ask for them on a terminal."""
    sent = body.endpoint() if body else {}
    named = find_references([url, dict(login.auth or {}), dict(login.headers), sent])
    for reference in sorted(named):
        # another place than a variable, or a default
        if not reference.isidentifier() or variables.values().get(reference):
            continue
        if environment.get(reference):
            continue
        value = ""
        if sys.stdin.isatty():
            value = typer.prompt(
                f"The value of {reference}\n", hide_input=True, prompt_suffix="> ", default=""
            )
        variables.note(reference, value)


def _write_report(name: str, url: str, draft: "UrlDraft", settings: Settings) -> Path:
    folder = settings.state_dir / _REPORTS
    make_private_folder(settings.state_dir)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(_report_as_markdown(name, url, draft), encoding="utf-8")
    return path


def draft_as_dict(
    path: Path | None, report: Path | None, missing: list[str], draft: "UrlDraft"
) -> Mapping[str, Any]:
    """Return what was written, guessed and tried as JSON values."""
    return {
        "path": None if path is None else str(path),
        "report": None if report is None else str(report),
        "missing": missing,
        "failure": draft.failure,
        "file": draft.value,
        "guesses": [guess.as_dict() for guess in draft.guesses],
        "refuted": list(draft.refuted),
        "preview": None if draft.preview is None else draft.preview.as_dict(),
    }


def _print_draft(path: Path, report: Path, missing: list[str], draft: "UrlDraft") -> None:
    print_lines([f"Wrote {printable(str(path))}:"])
    print_lines(_guess_lines(draft.written))
    if unsure := [guess for guess in draft.guesses if guess.confidence == "possible"]:
        print_lines(["Not sure enough for the file:", *_guess_lines(unsure)])
    if draft.refuted:
        tried = f"{len(draft.refuted)} other reading{'s' * (len(draft.refuted) > 1)} did not pass"
        print_lines([f"{tried}; {printable(str(report))} says why."])
    for variable in missing:
        print_notice(f"Write the value of {variable} into .env.")
    print_lines([""])
    if draft.preview is not None:
        from restsource_dagster.cli.preview_report import print_preview

        print_preview(draft.preview, result_console())
        if draft.preview.is_fine:
            print_lines(
                [f"To load it now: restsource run {path.stem}. Dagster loads it once an hour."]
            )


def _guess_lines(guesses: "tuple[Guess, ...] | list[Guess]") -> Iterator[str]:
    for guess in guesses:
        value = "left out" if guess.value is None else json.dumps(guess.value, ensure_ascii=False)
        yield printable(f"  {guess.place} {value}")
        yield printable(f"      {guess.confidence}: {guess.evidence}")


def _report_as_markdown(name: str, url: str, draft: "UrlDraft") -> str:
    """Return the report in Markdown. `url` holds references in place of secrets."""
    possible = [guess for guess in draft.guesses if guess.confidence == "possible"]
    parts = [
        f"# How {name} was made",
        f"From {_code(url)}. The file is yours to change; this report is not read by anything.",
    ]
    if draft.failure:
        parts += ["## Nothing could be guessed", draft.failure]
    parts += _section("What is in the file", draft.written)
    parts += _section("What may be so, and is not in the file", possible)
    if draft.refuted:
        parts += ["## What was tried and did not pass", *(f"- {text}" for text in draft.refuted)]
    parts += list(_paging(draft))
    return "\n\n".join(parts) + "\n"


def _section(title: str, guesses: "Sequence[Guess]") -> list[str]:
    if not guesses:
        return []
    rows = [
        f"| {_cell(_code(guess.place))} | {_cell(_value(guess))} | {guess.confidence} | {_cell(guess.evidence)} |"
        for guess in guesses
    ]
    head = ["| place | value | how sure | evidence |", "|---|---|---|---|"]
    return [f"## {title}", "\n".join([*head, *rows])]


def _value(guess: "Guess") -> str:
    return "left out" if guess.value is None else _code(json.dumps(guess.value, ensure_ascii=False))


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _paging(draft: "UrlDraft") -> Iterator[str]:
    if draft.preview is None or draft.failure:
        return
    yield "## The preview of the file"
    for one in draft.preview.resources:
        yield f"- {one.name}: paging {one.paging.verdict}, {one.paging.evidence}"
        for problem in one.problems:
            yield f"- {one.name}: {problem}"
