"""What the rows of one or two pages say: their key, their cursor, texts without an order, parents."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from restsource_dagster.authoring.guesses import Confidence, Guess, SeenAnswer
from restsource_dagster.connector.cursor_format import moment_of, parse_number, text_sort_key
from restsource_dagster.connector.time_formats import patterns_for, read_time, write_moment
from restsource_dagster.engine.paging.response_checks import normalized_field_name, split_names

__all__ = [
    "ParentInPath",
    "guess_cursors",
    "guess_primary_key",
    "parent_in_path",
    "texts_without_order",
]

_KEY_NAMES = ("id", "_id", "uuid", "guid", "key", "code", "number", "slug", "sku", "name")
"""Names of keys, the usual ones first; `name` and the like only if nothing better is there."""
_WEAK_KEYS = frozenset({"code", "number", "slug", "sku", "name", "key"})
_MIN_ROWS = 2
_UPDATE_WORDS = split_names("updated modified changed lastupdate lastmodified lastchange edited")
_TIME_WORDS = _UPDATE_WORDS | split_names("created inserted timestamp date time at on day since")
_FILTER_WORDS = split_names("since after from gte gt start begin min newer")
_FILTER_ENDS = re.compile(r"(?:__|\[|_)?(?:gte|gt|since|after|from|start|min|begin|ge)\]?$", re.I)
_SORT_PARAMS = split_names("sort sortby order orderby ordering sortorder")
_ID = re.compile(r"\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24}", re.IGNORECASE)
_LIKE_DATE = re.compile(r"(?=.{6,40}$)(?=(?:\D*\d){3})[\w:+-]+(?:[/., -]+[\w:+-]+)+")
"""Trying all patterns takes milliseconds, so only what has the form of a date is tried."""
_TIME_IN_TEXT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
)
_COMPARISON = re.compile(r"(\w+)[\s:'\"]*(?:\bge\b|\bgt\b|>=?)[\s'\":]*$")
"""The field before a time that rows have to be at or after: `updated >= "`, `modifiedon ge `, `updated_at:>=`."""
_SAMPLES = 5
_DAY_CHARS = len("2024-01-01")
_MIN_EPOCH_MILLISECONDS = 100_000_000_000
"""In seconds this is the year 5138."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
Rows = Sequence[Any]


def _objects(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if isinstance(row, Mapping)]


def guess_primary_key(rows: Rows, resource: str = "", *, pages: int = 1) -> Guess | None:
    """Return the field that identifies a row: in each row, unique, and called as keys are; else None.

    `pages` is how many pages the rows are from.
    """
    found = _objects(rows)
    # of a single row every field is unique
    if len(found) < _MIN_ROWS or len(found) < len(rows):
        return None
    # `orderId` is the key of `orders`, and in `lines` it is that of the parent
    singular = normalized_field_name(resource).removesuffix("s")
    own = (f"{singular}id", f"{singular}uuid", f"{singular}key", f"{singular}code")
    candidates = [name for name in found[0] if _is_unique(found, name)]
    ranked = sorted(
        (
            (_KEY_NAMES.index(name.lower()) if name.lower() in _KEY_NAMES[:4] else 4, name)
            for name in candidates
            if name.lower() in _KEY_NAMES or (singular and normalized_field_name(name) in own)
        ),
    )
    for _, name in ranked:
        is_weak = name.lower() in _WEAK_KEYS
        evidence = (
            f"`{name}` is in all {len(found)} rows of {pages} page{'s' * (pages > 1)}, and unique"
        )
        confidence: Confidence = (
            "proved" if pages > 1 and not is_weak else "possible" if is_weak else "likely"
        )
        return Guess("primary_key", name, evidence, confidence)
    first = next(iter(found[0]), "")
    # `ticket_id` of `search`: which kind of thing it identifies can't be told
    if first in candidates and normalized_field_name(first).endswith(("id", "uuid")):
        evidence = f"`{first}` is the first field of all {len(found)} rows, and unique"
        return Guess("primary_key", first, evidence, "possible")
    return None


def _is_unique(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [row.get(name) for row in rows]
    # a key is a text or a whole number: two floats that print alike may differ
    if any(value is None or isinstance(value, bool | float | list | dict) for value in values):
        return False
    return len({str(value) for value in values}) == len(values)


@dataclass(frozen=True)
class _Times:
    """The times in a field of all rows."""

    name: str
    moments: Sequence[int]
    cursor_format: str | None = None
    sample: Any = None
    """The value of the first row."""

    @property
    def order(self) -> str | None:
        """`asc` or `desc` if the rows follow it, and not all are equal."""
        # equal times are in every order
        if len(set(self.moments)) < _MIN_ROWS:
            return None
        steps = list(pairwise(self.moments))
        if all(one <= other for one, other in steps):
            return "asc"
        return "desc" if all(one >= other for one, other in steps) else None


def guess_cursors(answer: SeenAnswer, rows: Rows) -> tuple[Guess, ...]:
    """Return fields that may be the incremental cursor, the surest first.

    A param of the URL that filters by time is the best sign, then one that sorts by a field whose order the
    rows follow. The value is the object `incremental`, with `start_param` if the URL has
    such a param.
    """
    found = _objects(rows)
    times = [one for name in (found[0] if found else ()) if (one := _times(found, name))]
    filters = [
        (name, value) for name, value in answer.params.items() if _is_time_filter(name, value)
    ]
    guesses = []
    for param, value in filters:
        if (field := _field_of_filter(param, times)) is not None:
            guesses.append(_filtered_cursor(answer, param, value, field))
    guesses += _cursors_in_expressions(answer, times)
    taken = {guess.value["cursor_path"] for guess in guesses}
    counters = [
        one for name in (found[0] if found else ()) if (one := _counter(found, name, answer))
    ]
    for field in sorted([*times, *counters], key=_rank):
        # a filter by the same field says more than the order
        if field.name not in taken and (guess := _ordered_cursor(answer, field, len(found))):
            guesses.append(guess)
    return tuple(guesses)


def _rank(field: _Times) -> tuple[bool, bool]:
    return (not _is_update(field.name), field.order is None)


def _is_update(name: str) -> bool:
    normal = normalized_field_name(name)
    return any(word in normal for word in _UPDATE_WORDS)


def _times(rows: Sequence[Mapping[str, Any]], name: str) -> _Times | None:
    """Return the times of a field if each row has one; a number counts only if it is called so."""
    values = [row.get(name) for row in rows]
    if any(value is None or isinstance(value, bool | list | dict) for value in values):
        return None
    is_text = all(isinstance(value, str) for value in values)
    # an amount of 1700000000 reads as a time, too
    words = {word.lower() for word in _WORD.findall(name)}
    if not is_text and not words & _TIME_WORDS and not _is_update(name):
        return None
    moments = [moment_of(value) for value in values]
    known = [moment for moment in moments if moment is not None]
    if len(known) == len(values) and known:
        return _Times(name, known, sample=values[0])
    # a number has been tried above, and no pattern reads one
    pattern = _pattern_of([str(value) for value in values]) if is_text else None
    if pattern is None:
        return None
    read = [moment_of(read_time(str(value), [pattern])) for value in values]
    return _Times(name, [one for one in read if one is not None], pattern, values[0])


def _counter(rows: Sequence[Mapping[str, Any]], name: str, answer: SeenAnswer) -> _Times | None:
    """Return the numbers of a field that the order or a filter param of the URL names."""
    values = [row.get(name) for row in rows]
    if any(type(value) is not int for value in values) or not values:
        return None
    # any number may grow by chance: an id, a price
    if not _is_sorted_by(answer, name):
        return None
    return _Times(name, [int(value) for value in values if value is not None])


def _is_sorted_by(answer: SeenAnswer, name: str) -> bool:
    return any(
        normalized_field_name(param) in _SORT_PARAMS
        and normalized_field_name(name) in normalized_field_name(value)
        for param, value in answer.params.items()
    )


def _is_time_filter(name: str, value: str) -> bool:
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(words & _FILTER_WORDS) and (
        moment_of(value) is not None or _pattern_of([value]) is not None
    )


def _field_of_filter(param: str, times: Sequence[_Times]) -> _Times | None:
    """Return the field that a filter param is about: the one with its name, else the only one."""
    stem = normalized_field_name(_FILTER_ENDS.sub("", param))
    for field in times:
        normal = normalized_field_name(field.name)
        # `updated_since` means `updated_at`
        if stem and (stem in normal or normal.removesuffix("at") in stem):
            return field
    # `since=` without a name of a field nearly always means the last change
    updates = [field for field in times if _is_update(field.name)]
    if len(updates) == 1:
        return updates[0]
    return times[0] if len(times) == 1 else None


def _filtered_cursor(answer: SeenAnswer, param: str, value: str, field: _Times) -> Guess:
    number = parse_number(value)
    # the order of two pages may be chance, unless the request asks for it
    is_ordered = field.order is not None and _is_sorted_by(answer, field.name)
    cursor = {
        "cursor_path": field.name,
        "initial_value": int(number) if number is not None else value,
        "start_param": param,
        **_conversion(value, number, field),
        **({"row_order": field.order} if is_ordered else {}),
        **({"cursor_format": field.cursor_format} if field.cursor_format else {}),
    }
    text = f"the request filters by `{param}`, and `{field.name}` has a time in each row"
    return Guess("endpoint.incremental", cursor, text)


def _cursors_in_expressions(answer: SeenAnswer, times: Sequence[_Times]) -> Iterator[Guess]:
    """Yield the cursors that stand in an expression, such as OData's `$filter=modifiedon ge 2026-01-01T00:00:00Z`."""
    for param, text in answer.params.items():
        found = list(_TIME_IN_TEXT.finditer(text))
        # two times are a range, and a text that is one time is no expression
        if len(found) != 1 or found[0].span() == (0, len(text)):
            continue
        before, time = text[: found[0].start()], found[0][0]
        start = _COMPARISON.search(before)
        field = next((one for one in times if start and one.name == start[1]), None)
        if field is None or field.cursor_format or moment_of(time) is None:
            continue
        cursor = {
            "cursor_path": field.name,
            "initial_value": time,
            **_conversion(time, None, field),
        }
        sent = f"{before}{{incremental.start_value}}{text[found[0].end() :]}"
        said = f"`{param}` filters by `{field.name}`, which has a time in each row"
        yield Guess("endpoint.incremental", cursor, said, params={param: sent})


def _conversion(value: str, number: Any, field: _Times) -> Mapping[str, Any]:
    """Return `convert` if the param is spelt otherwise than the rows, and the start as rows spell it."""
    if field.cursor_format or not isinstance(field.sample, str):
        return {}
    # the API takes days, and rows have times: a day that starts the range loses no row
    if number is None:
        is_day = len(value) == _DAY_CHARS < len(field.sample)
        return {"convert": "date"} if is_day else {}
    moment = moment_of(value)
    if moment is None or parse_number(field.sample) is not None:
        return {}
    # no cursor is near the year 5138, so a larger number has milliseconds
    unit = "epoch_seconds" if abs(number) < _MIN_EPOCH_MILLISECONDS else "epoch_milliseconds"
    return {"convert": unit, "initial_value": write_moment(moment, "iso8601")}


def _ordered_cursor(answer: SeenAnswer, field: _Times, rows: int) -> Guess | None:
    cursor: dict[str, Any] = {
        "cursor_path": field.name,
        **({"cursor_format": field.cursor_format} if field.cursor_format else {}),
    }
    if field.order is not None:
        by = _is_sorted_by(answer, field.name)
        text = f"the {rows} rows are in the order of `{field.name}`" + (
            ", as the URL asks" if by else ""
        )
        cursor["row_order"] = field.order
        # two pages may be in an order by chance, and with a wrong one later runs would miss rows
        return Guess("endpoint.incremental", cursor, text, "likely" if by else "possible")
    if _is_update(field.name):
        text = f"`{field.name}` has a time in each row; the rows are not in its order"
        return Guess("endpoint.incremental", cursor, text, "possible")
    return None


def texts_without_order(rows: Rows) -> tuple[Guess, ...]:
    """Return the fields whose texts are dates that sort wrongly as texts, such as `27/11/2026`.

    The value is the `cursor_format` that would read them; None if days and months could be either.
    """
    found = _objects(rows)
    guesses = []
    for name in found[0] if found else ():
        values = [row[name] for row in found if isinstance(row.get(name), str)]
        if len(values) < len(found) or any(_has_order(value) for value in values):
            continue
        patterns = _patterns_of(values)
        if len(patterns) == 1:
            text = f"`{name}` has texts such as {values[0]!r}, which sort as texts, not as times"
            guesses.append(Guess(f"cursor_format of {name}", patterns[0], text))
        elif patterns:
            text = f"`{name}` has texts such as {values[0]!r}: {' or '.join(patterns)}, which no row decides"
            guesses.append(Guess(f"cursor_format of {name}", None, text, "possible"))
    return tuple(guesses)


def _has_order(value: str) -> bool:
    return moment_of(value) is not None or text_sort_key(value)[0] in ("time", "number")


def _pattern_of(values: Sequence[str]) -> str | None:
    patterns = _patterns_of(values)
    return patterns[0] if len(patterns) == 1 else None


def _patterns_of(values: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns that read all texts: days above 12 tell days from months."""
    if not all(_LIKE_DATE.match(value) for value in values):
        return ()
    # patterns are found in a few texts and tried on all
    sampled = list(dict.fromkeys(values))[:_SAMPLES]
    candidates = dict.fromkeys(pattern for value in sampled for pattern in patterns_for(value))
    return tuple(
        pattern
        for pattern in candidates
        if all(read_time(value, [pattern]) is not None for value in values)
    )


@dataclass(frozen=True)
class ParentInPath:
    """An id in a path: the resource is below another one."""

    parent: str
    """The path of the parent's list, such as `users`."""
    name: str
    """The parent's name, such as `users`."""
    value: str
    """The id in the URL."""
    path: str
    """The path with `{parent}` for the id, such as `users/{parent}/orders`."""

    def path_with(self, field: str) -> str:
        """Return the path that takes the id from the parent's field."""
        return self.path.replace("{parent}", f"{{resources.{self.name}.{field}}}")


def parent_in_path(path: Sequence[str]) -> ParentInPath | None:
    """Return the parent that the last id in a path names; None if it ends there or has none."""
    ids = [at for at, part in enumerate(path) if at and _ID.fullmatch(part)]
    # an id at the end names one record, not a list below it
    if not ids or ids[-1] == len(path) - 1:
        return None
    at = ids[-1]
    # two ids beside one another: which list they are of can't be told
    if _ID.fullmatch(path[at - 1]):
        return None
    name = re.sub(r"\W+", "_", path[at - 1]).lower()
    filled = "/".join([*path[:at], "{parent}", *path[at + 1 :]])
    return ParentInPath("/".join(path[:at]), name, path[at], filled)
