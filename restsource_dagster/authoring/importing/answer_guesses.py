"""Guess the records, paging, key and cursor of the answers that a source has, by the detection of a draft."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import requests
from pydantic import TypeAdapter, ValidationError

from restsource_dagster.authoring.detect_fields import guess_cursors, guess_primary_key
from restsource_dagster.authoring.detect_paging import guess_paginators
from restsource_dagster.authoring.detect_records import find_records
from restsource_dagster.authoring.guesses import Guess, SeenAnswer
from restsource_dagster.authoring.importing.imported_api import (
    ImportedPaginator,
    ImportedStep,
)
from restsource_dagster.authoring.importing.source_requests import (
    AnsweredParts,
    SentAnswer,
    SourceRequest,
)
from restsource_dagster.connector.models.incremental_cursor import Incremental

__all__ = ["guess_of_answers"]

_PAGINATOR: TypeAdapter[ImportedPaginator] = TypeAdapter(ImportedPaginator)
_STEPS: TypeAdapter[tuple[ImportedStep, ...]] = TypeAdapter(tuple[ImportedStep, ...])


def guess_of_answers(request: SourceRequest, name: str) -> AnsweredParts:
    """Return what the answers of a request say, and note the evidence at the answer.

    Only what is likely is taken: nothing can be asked for here, so nothing can be proved.
    """
    first = request.answers[0]
    seen = SeenAnswer(_address(request, first), first.body, first.status, first.headers)
    records = find_records(seen)
    target = f"resources.{name}"
    if records.failure is not None:
        first.piece.not_mapped(f"no answer to guess from: {records.failure}")
        return AnsweredParts()
    pages = [records.rows]
    for other in request.answers[1:]:
        again = find_records(SeenAnswer(_address(request, other), other.body, other.status))
        if again.failure is None and again.selector == records.selector:
            pages.append(again.rows)
    rows = [row for page in pages for row in page]
    notes: list[tuple[str, Guess]] = [
        (f"{target}.{guess.place}", guess) for guess in records.guesses
    ]
    paging = _likely(guess_paginators(seen, records.listed)) if records.listed else None
    key = _likely([made] if (made := guess_primary_key(rows, name, pages=len(pages))) else [])
    cursor = _likely([g for g in guess_cursors(seen, rows) if "start_param" in (g.value or {})])
    for guess in (paging, key, cursor):
        if guess is not None:
            notes.append((f"{target}.{guess.place}", guess))
    for place, guess in notes:
        first.piece.guessed(place, guess.evidence)
    return AnsweredParts(
        data_selector=records.selector,
        paginator=_paginator_of(paging),
        primary_key=key.value if key else None,
        incremental=Incremental.of(_with_start(cursor.value)) if cursor else None,
        processing_steps=_STEPS.validate_python([dict(step) for step in records.steps]),
    )


def _address(request: SourceRequest, answer: SentAnswer) -> str:
    """Return the address of an answer; with a host of its own if variables make it none."""
    given = answer.url or request.shown_url
    try:
        requests.Request("GET", given).prepare()
    except (requests.RequestException, ValueError):
        _, _, query = given.partition("?")
        return f"https://source.invalid/{quote(request.path)}?{query}"
    return given


def _likely(guesses: Sequence[Guess]) -> Guess | None:
    return next((guess for guess in guesses if guess.confidence != "possible"), None)


def _with_start(cursor: Any) -> dict[str, Any]:
    return {"initial_value": "1970-01-01T00:00:00Z", **cursor}


def _paginator_of(guess: Guess | None) -> ImportedPaginator | None:
    if guess is None:
        return None
    value = {"type": guess.value} if isinstance(guess.value, str) else guess.value
    try:
        return _PAGINATOR.validate_python(value)
    except ValidationError:  # a kind that a source's answers can't have
        return None
