"""What the file could say of a resource, from what its preview has read: guesses, and parts of an answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from restsource_dagster.authoring.builder.edited_file import EditedFile
from restsource_dagster.authoring.detect_fields import (
    guess_cursors,
    guess_primary_key,
    texts_without_order,
)
from restsource_dagster.authoring.detect_paging import guess_paginators
from restsource_dagster.authoring.detect_records import find_records, json_path
from restsource_dagster.authoring.guesses import Guess, SeenAnswer, params_sent_by
from restsource_dagster.authoring.preview_answers import rows_seen, seen_answers
from restsource_dagster.engine.preview.previewed import PreviewedResource

__all__ = ["AnswerOffer", "ShownGuess", "guesses_of", "offers_at", "take"]

_PLACES = ("endpoint.", "primary_key", "processing_steps")
_MAX_OFFERS = 3
"""Of the names that the param of a next page may have."""


@dataclass(frozen=True)
class ShownGuess:
    """A guess beside what the file says."""

    guess: Guess
    is_in_file: bool = False
    can_take: bool = True


def guesses_of(file: EditedFile, seen: PreviewedResource) -> tuple[ShownGuess, ...]:
    """Return the guesses for a resource, in the order of the file: rows, paging, key, cursor.

    A paging is proved if the file has it and a second page was other than the first.
    """
    answers = seen_answers(seen)
    if not answers:
        return ()
    records = find_records(answers[0])
    if records.failure is not None:
        return ()
    rows, pages = rows_seen(seen, records)
    key = guess_primary_key(rows, seen.name, pages=pages)
    found = [
        *records.guesses,
        *(guess_paginators(answers[0], records.listed) if records.listed else ()),
        *([key] if key else []),
        *guess_cursors(answers[0], rows),
        *texts_without_order(rows),
    ]
    return tuple(_shown(file, seen, guess) for guess in found)


def _shown(file: EditedFile, seen: PreviewedResource, guess: Guess) -> ShownGuess:
    has_place = guess.place.startswith(_PLACES)
    given = file.in_resource(seen.name, guess.place) if has_place else None
    is_in_file = has_place and guess.value is not None and _is_said(given, guess.value)
    if is_in_file and guess.place == "endpoint.paginator" and seen.paging.verdict == "proved":
        evidence = f"{guess.evidence}; {seen.paging.evidence}"
        guess = replace(guess, confidence="proved", evidence=evidence)
    can_take = has_place and not is_in_file and guess.value is not None
    return ShownGuess(guess, is_in_file, can_take)


def _is_said(given: Any, value: Any) -> bool:
    """True if a value of the file says what a guess says; it may say more."""
    if isinstance(given, Mapping) and isinstance(value, Mapping):
        return all(given.get(name) == part for name, part in value.items())
    return bool(given == value)


def take(
    file: EditedFile, resource: str, place: str, value: Any, sent: Mapping[str, str] | None = None
) -> None:
    """Write a guess into the file with the params that belong to it, and take out those that it sends itself.

    Raises `TextEditError`.
    """
    file.put(resource, place, value)
    for name, text in (sent or {}).items():
        file.put(resource, ("endpoint", "params", name), text)
    params = file.in_resource(resource, "endpoint.params")
    own = params_sent_by(value) & set(params if isinstance(params, dict) else ())
    if own and own == set(params):
        file.put(resource, "endpoint.params", None)
        return
    for name in own:
        file.put(resource, ("endpoint", "params", name), None)


@dataclass(frozen=True)
class AnswerOffer:
    """What a part of an answer can be, and what the file then says."""

    label: str
    place: str
    value: Any


def offers_at(
    answer: SeenAnswer, steps: Sequence[str | int], *, selector: str | None = None
) -> tuple[AnswerOffer, ...]:
    """Return what the value at a place of an answer can be: the rows, the key, the cursor, the next page.

    `steps` are keys and indices. `selector` is the file's `data_selector`: what is below its list is a field
    of a row.
    """
    value = _at(answer.body, steps)
    if isinstance(value, list):
        names = [step for step in steps if isinstance(step, str)]
        if len(names) < len(steps):  # a list in a row
            return ()
        # without a selector, an answer that is a list is the rows
        path = json_path(tuple(names)) if names else None
        return (AnswerOffer("Rows are here", "endpoint.data_selector", path),)
    if isinstance(value, Mapping) or value is None or isinstance(value, bool):
        return ()
    field = _field_of_row(steps)
    if field is not None:
        return tuple(_field_offers(answer, field, selector))
    return tuple(_page_offers(answer, tuple(str(step) for step in steps), value))


def _at(body: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        body = body[step]
    return body


def _field_of_row(steps: Sequence[str | int]) -> tuple[str, ...] | None:
    """Return the names below the last index; None for what is in no list."""
    indices = [at for at, step in enumerate(steps) if isinstance(step, int)]
    if not indices or indices[-1] == len(steps) - 1:
        return None
    return tuple(str(step) for step in steps[indices[-1] + 1 :])


def _field_offers(
    answer: SeenAnswer, field: tuple[str, ...], selector: str | None
) -> list[AnswerOffer]:
    offers = []
    if len(field) == 1:
        offers.append(AnswerOffer("This is the key", "primary_key", field[0]))
    path = json_path(field)
    found = find_records(answer)
    rows = found.rows if selector is None or found.selector == selector else ()
    known = [one.value for one in guess_cursors(answer, rows) if one.value["cursor_path"] == path]
    cursor = known[0] if known else {"cursor_path": path}
    offers.append(AnswerOffer("This is the cursor", "endpoint.incremental", cursor))
    return offers


def _page_offers(answer: SeenAnswer, names: tuple[str, ...], value: Any) -> list[AnswerOffer]:
    path, place = json_path(names), "endpoint.paginator"
    if isinstance(value, str) and (urlsplit(value).scheme in ("http", "https") or value[:1] == "/"):
        link = {"type": "json_link", "next_url_path": path}
        return [AnswerOffer("This is the link to the next page", place, link)]
    found = find_records(answer)
    guesses = guess_paginators(answer, found.listed)
    known = [one.value for one in guesses if path in _texts_of(one.value)]
    if known:
        return [
            AnswerOffer(f"This is the paging: {_short(one)}", place, one)
            for one in known[:_MAX_OFFERS]
        ]
    if not isinstance(value, str):
        return []
    cursor = {"type": "cursor", "cursor_path": path, "cursor_param": "cursor"}
    return [AnswerOffer("This is the cursor of the next page, sent as `cursor`", place, cursor)]


def _texts_of(value: Any) -> set[str]:
    parts = value.values() if isinstance(value, Mapping) else [value]
    return {part for part in parts if isinstance(part, str)}


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
