"""Guess the cursor of a list in an OpenAPI document: a param that filters by a time, and the field that has it.

A cursor is written only if no change of a row can be missed with it; any other is suggested.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restsource_dagster.authoring.importing.imported_api import literal
from restsource_dagster.authoring.importing.openapi_guesses import DocumentedParam
from restsource_dagster.authoring.importing.openapi_schemas import (
    RecordList,
    References,
    Shape,
    field_path,
    shape_of,
)
from restsource_dagster.authoring.importing.param_names import normal_name
from restsource_dagster.connector.models.incremental_cursor import Incremental

__all__ = ["DocumentedCursor", "guess_cursor"]

_STARTS = r"since|after|from|gte|gt|ge|min|start|begin|newer_than"
_END_OF_NAME = re.compile(rf"_(?:at_)?(?:{_STARTS})(?:_(?:date|time|at|timestamp))?$")
_BEGIN_OF_NAME = re.compile(rf"^(?:if_)?(?:{_STARTS})_")
_BARE_NAME = re.compile(rf"(?:{_STARTS}|last_sync|from_?date|start_?(?:date|time)|date_?from)")
"""Names of filters that name no field."""
_SINCE_NAMES = ("since", "last_sync", "newer_than")
"""Those of them that nearly always mean the last change."""
_CHANGED = re.compile(r"updat|modif|chang|\bedited|_edited|(?:^|_)last_(?:activity|sync)")
_CREATED = re.compile(r"creat|insert|added|issued")
_EVENT = re.compile(
    r"(?:^|_)(?:time|timestamp|ts|occurred|event|logged|played|sent|received|posted|published|started)(?:_|$)"
)
"""Names of times that stay as they are once a row is there."""
_TIME_WORD = re.compile(r"(?:^|_)(?:at|on|date|time|datetime|timestamp|ts|utc|day)(?:_|$)")
_SAYS_TIME = re.compile(r"\b(?:date|time|datetime|timestamp|epoch|ISO[ -]?8601|RFC[ -]?3339)", re.I)
_SAYS_ID = re.compile(r"\b(?:ids?|cursor|page)\b", re.IGNORECASE)
_TIME_FORMATS = ("date", "date-time", "datetime", "timestamp", "unix-time", "date-time-rfc-2822")
_SINGLE_TYPES = ("string", "integer", "number", "")
_MAX_FIELDS = 400


@dataclass(frozen=True)
class DocumentedCursor:
    """The cursor of a list, and the param or header that sends it. `doubt` says why it is a suggestion only."""

    cursor: Incremental
    param: DocumentedParam
    doubt: str | None

    @property
    def suggestion(self) -> str:
        """Why it is not in the file, and what to write there if it is right all the same."""
        value: dict[str, Any] = {"incremental": self.cursor.as_json()}
        if self.param.place == "header":
            value["headers"] = {self.param.name: "{incremental.start_value}"}
        return f"{self.doubt}. If it is right, write {json.dumps(value, ensure_ascii=False)[1:-1]}"


def guess_cursor(
    params: Sequence[DocumentedParam],
    found: RecordList,
    references: References,
    target: str,
    key: str | None,
) -> DocumentedCursor | None:
    """Return the cursor that a filter of the API sends; the one by changes before others. Notes the evidence."""
    times = _times_of(found.record, references)
    guesses = [
        _TimeFilter(param, stem, name, times)
        for param, stem in _start_filters(params)
        if (name := _field_of(param, stem, times)) is not None
    ]
    # the first of the document counts where two are as good
    best = min(guesses, key=lambda each: (each.doubt(key) is not None, each.rank), default=None)
    if best is None:
        return None
    doubt = best.doubt(key)
    cursor = Incremental.of(best.given())
    made = DocumentedCursor(cursor, best.param, doubt)
    place = f"{target}.incremental"
    if doubt is not None:
        best.param.piece.suggested(place, made.suggestion)
        return made
    best.param.piece.guessed(place, f"the name of the param `{best.param.name}`")
    found.record.fields[best.field].guessed(place, f"the name of the field `{best.field}`")
    return made


def _times_of(record: Shape, references: References) -> Mapping[str, Shape]:
    """Return the fields of a record that have times, by their format or name."""
    shapes = {
        name: shape_of(schema, references)
        for name, schema in list(record.fields.items())[:_MAX_FIELDS]
    }
    return {
        name: shape
        for name, shape in shapes.items()
        if shape.kind == "scalar"
        and shape.type in ("string", "integer", "number")
        and (shape.format in _TIME_FORMATS or _is_time_name(normal_name(name)))
    }


def _is_time_name(name: str) -> bool:
    return any(pattern.search(name) for pattern in (_TIME_WORD, _CHANGED, _CREATED, _EVENT))


def _start_filters(params: Sequence[DocumentedParam]) -> Iterator[tuple[DocumentedParam, str]]:
    """Yield the params that ask for rows from a time on, with what is left of their name for a field."""
    names = {each.name for each in params}
    for param in params:
        # beside `Date>` a `Date` is for one day
        if f"{param.name}>" in names:
            continue
        if param.place in ("query", "header") and param.type in _SINGLE_TYPES:
            stem = _stem_of(param.name)
            if stem is not None and (stem or _says_time(param)):
                yield param, stem


def _stem_of(name: str) -> str | None:
    """Return `updated_at` for `updated_at[gte]`, `min_updated_at` and `UpdatedAt>`; "" for `since`; else None."""
    normal = normal_name(name)
    if name.rstrip("=").endswith(">"):
        return normal
    if _BARE_NAME.fullmatch(normal):
        return ""
    for pattern in (_END_OF_NAME, _BEGIN_OF_NAME):
        stem = pattern.sub("", normal)
        if stem != normal:
            return stem.removeprefix("if_")
    return None


def _says_time(param: DocumentedParam) -> bool:
    """True if a param without the name of a field is about a time: GitHub's `since` may be an id, too."""
    if param.schema.get("format").text in _TIME_FORMATS or _TIME_WORD.search(
        normal_name(param.name)
    ):
        return True
    said = param.description
    return bool(_SAYS_TIME.search(said)) if said else param.type == "string"


def _field_of(param: DocumentedParam, stem: str, times: Mapping[str, Shape]) -> str | None:
    """Return the field that a filter is about: the one that its name names, else the one that is described."""
    if stem and stem not in ("date", "time", "timestamp", "ts", "datetime"):
        own = next((name for name in times if _core(name) == _core(stem)), None)
        return own or _by_kind(stem, times)
    if not _says_time(param) and _SAYS_ID.search(param.description):
        return None
    bare = normal_name(param.name)
    return (
        _by_kind(param.description.lower(), times)
        or next((name for name in times if normal_name(name) in (stem, bare)), None)
        or (_by_kind("updated", times) if bare in _SINCE_NAMES else _only_event(times))
    )


def _only_event(times: Mapping[str, Shape]) -> str | None:
    """Return the only time of a row if it is that of an event: a filter by dates goes by nothing else."""
    name = next(iter(times)) if len(times) == 1 else None
    return name if name and _EVENT.search(normal_name(name)) else None


def _by_kind(said: str, times: Mapping[str, Shape]) -> str | None:
    """Return the time of the last change, or else of the creation, if a text speaks of one."""
    if _CHANGED.search(said):
        # where rows never change, the filter goes by their creation
        return _first(_CHANGED, times) or _first(_CREATED, times)
    return _first(_CREATED, times) if _CREATED.search(said) else None


def _first(pattern: re.Pattern[str], times: Mapping[str, Shape]) -> str | None:
    return next((name for name in times if pattern.search(normal_name(name))), None)


def _core(name: str) -> str:
    """Return a name without the words that only say that it is a time."""
    words = [word for word in normal_name(name).split("_") if word]
    kept = [word for word in words if not _TIME_WORD.fullmatch(word)]
    return "_".join(kept or words)


@dataclass(frozen=True)
class _TimeFilter:
    """A param that filters by a field."""

    param: DocumentedParam
    stem: str
    field: str
    times: Mapping[str, Shape]

    @property
    def rank(self) -> int:
        normal = normal_name(self.field)
        return 0 if _CHANGED.search(normal) else 1 if _CREATED.search(normal) else 2

    def doubt(self, key: str | None) -> str | None:
        """Return why rows could be missed or doubled with this cursor; None if they can't."""
        changed = _first(_CHANGED, self.times)
        if self.rank == 0:
            unknown = "no key is known, so each change would be stored as another row"
            return None if key is not None else unknown
        if changed is not None:
            return f"`{self.field}` stays as it is when a row changes, so changes would be missed"
        is_fixed = self.rank == 1 or _EVENT.search(normal_name(self.field)) is not None
        return None if is_fixed else f"rows with an earlier `{self.field}` may come later"

    def given(self) -> dict[str, Any]:
        """Return the cursor as the file has it: rows may spell times otherwise than the param."""
        shape = self.times[self.field]
        is_number = shape.type in ("integer", "number")
        is_mail_time = "2822" in shape.format
        given: dict[str, Any] = {
            "cursor_path": field_path((self.field,)),
            "initial_value": 0 if is_number else "1970-01-01T00:00:00Z",
        }
        if self.param.place == "query":
            given["start_param"] = literal(self.param.name)
        if is_mail_time:
            given["cursor_format"] = "rfc2822"
        if convert := self._convert(is_number=is_number, is_mail_time=is_mail_time):
            given["convert"] = convert
        if _is_nullable(shape):
            given["on_cursor_value_missing"] = "include"
        return given

    def _convert(self, *, is_number: bool, is_mail_time: bool) -> str | None:
        """Return the format in which the param wants the cursor, if rows have another one."""
        said = self.param.description
        form = self.param.schema.get("format").text or ""
        if self.param.type in ("integer", "number") or "unix" in form:
            unit = "milliseconds" if re.search("millisecond", said, re.IGNORECASE) else "seconds"
            return None if is_number else f"epoch_{unit}"
        if form == "date" or re.search(r"\bYYYY-MM-DD\b(?!.?T?HH)", said, re.IGNORECASE):
            return "date"
        if form in ("date-time", "datetime"):
            return "iso8601" if is_number or is_mail_time else None
        return "iso8601" if is_mail_time else None


def _is_nullable(shape: Shape) -> bool:
    given = shape.piece.get("type").value
    return shape.piece.get("nullable").value is True or (
        isinstance(given, list) and "null" in given
    )
