"""What a preview has read, as a draft looks at it: whole answers, their rows, their types."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from restsource_dagster.authoring.detect_records import FoundRecords, find_records
from restsource_dagster.authoring.guesses import SeenAnswer
from restsource_dagster.connector.models.body_format import BodyFormat
from restsource_dagster.engine.paging.response_checks import ID_KEYS
from restsource_dagster.engine.preview.previewed import Preview, PreviewedRequest, PreviewedResource

__all__ = [
    "content_type",
    "first_rows",
    "format_of_answer",
    "guess_delimiter",
    "is_same_row",
    "last_answered",
    "rows_of_answers",
    "rows_seen",
    "seen_answers",
]

_DELIMITER_LINES = 20


def last_answered(found: Preview) -> PreviewedRequest | None:
    """Return the last request that was answered."""
    requests: Sequence[PreviewedRequest] = found.resources[-1].requests if found.resources else ()
    return next((one for one in reversed(requests) if one.status is not None), None)


def format_of_answer(request: PreviewedRequest) -> str | None:
    """Return the format that the type of an answer says, such as `csv`; None for another."""
    return BodyFormat().format_of(content_type(request))


def content_type(request: PreviewedRequest) -> str:
    """Return the type of an answer, "" if it has none."""
    # names of headers have no case
    headers = {name.lower(): value for name, value in request.answer_headers.items()}
    return headers.get("content-type", "")


def guess_delimiter(text: str) -> str | None:
    """Return the delimiter of a CSV text if it is not a comma: the one that is equally often in its first lines."""
    lines = [one for one in text.splitlines()[:_DELIMITER_LINES] if one.strip()]
    # a comma in the header means commas, as a name with both is rare
    if not lines or "," in lines[0]:
        return None
    for delimiter in (";", "\t", "|"):
        # a field that is too long for `csv`
        with suppress(csv.Error):
            rows = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
            if rows[0] > 1 and len(set(rows)) == 1:
                return delimiter
    return None


def is_same_row(one: Any, other: Any) -> bool:
    """True if two rows are equal, or have the same id: counts and times may differ between answers."""
    if one == other or not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return bool(one == other)
    names = [name for name in one if str(name).lower() in ID_KEYS]
    return bool(names) and all(one[name] == other.get(name) for name in names)


def first_rows(seen: PreviewedResource) -> Sequence[Any]:
    """Return the rows of the first answer."""
    answers = seen_answers(seen)
    return find_records(answers[0]).rows if answers else ()


def seen_answers(seen: PreviewedResource) -> list[SeenAnswer]:
    """Return the answers of a preview that are whole and JSON; tokens and cut ones are left out."""
    found = []
    for request in seen.requests:
        try:
            body = json.loads(request.answer)
        except ValueError:  # a token's answer, or one that was cut off
            continue
        found.append(SeenAnswer(request.url, body, request.status or 0, request.answer_headers))
    return found


def rows_of_answers(seen: PreviewedResource) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of all answers; of files of lines those that the preview has kept."""
    answers = seen_answers(seen)
    if not answers:
        yield from (row for row in seen.records if isinstance(row, Mapping))
    for answer in answers:
        yield from (row for row in find_records(answer).rows if isinstance(row, Mapping))


def rows_seen(seen: PreviewedResource | None, records: FoundRecords) -> tuple[Sequence[Any], int]:
    """Return the rows of all pages that were read, and how many pages have rows."""
    pages = [find_records(answer).rows for answer in seen_answers(seen)] if seen else []
    pages = [rows for rows in pages if rows]
    if not pages:
        return records.rows, 1
    return [row for rows in pages for row in rows], len(pages)
