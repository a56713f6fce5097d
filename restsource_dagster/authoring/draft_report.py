"""The report of a drafted file: what was written with which evidence, and what was not."""

import json
from collections.abc import Iterator, Sequence

from restsource_dagster.authoring.guesses import Guess
from restsource_dagster.authoring.url_draft import UrlDraft

__all__ = ["report_as_markdown"]


def report_as_markdown(name: str, url: str, draft: UrlDraft) -> str:
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


def _section(title: str, guesses: Sequence[Guess]) -> list[str]:
    if not guesses:
        return []
    rows = [
        f"| {_cell(_code(guess.place))} | {_cell(_value(guess))} | {guess.confidence} | {_cell(guess.evidence)} |"
        for guess in guesses
    ]
    head = ["| place | value | how sure | evidence |", "|---|---|---|---|"]
    return [f"## {title}", "\n".join([*head, *rows])]


def _value(guess: Guess) -> str:
    return "left out" if guess.value is None else _code(json.dumps(guess.value, ensure_ascii=False))


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _paging(draft: UrlDraft) -> Iterator[str]:
    if draft.preview is None or draft.failure:
        return
    yield "## The preview of the file"
    for one in draft.preview.resources:
        yield f"- {one.name}: paging {one.paging.verdict}, {one.paging.evidence}"
        for problem in one.problems:
            yield f"- {one.name}: {problem}"
