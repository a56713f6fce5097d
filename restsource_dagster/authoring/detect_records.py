"""Where the rows are in an answer, and what makes rows of it if they are columns or keyed by an id."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restsource_dagster.authoring.guesses import Guess, SeenAnswer
from restsource_dagster.connector.models.processing_steps import compile_jq
from restsource_dagster.engine.dlt_compat import RECORD_KEY_PATTERNS, jsonpath
from restsource_dagster.engine.paging.records import NotDetectedError, detect_selector
from restsource_dagster.engine.paging.response_checks import (
    ID_KEYS,
    describe_failure,
    failure_beside_records,
    failure_field,
    looks_like_an_error,
    normalized_field_name,
    split_names,
)

__all__ = ["FoundRecords", "find_records", "json_path"]

_MAX_DEPTH = 5
_MIN_KEYED = 2
_SHARED_KEYS = 0.5
"""The part of their keys that the values of an object share at least if they are its rows."""
_COLUMN_NAMES = split_names("columns fields headers header columnnames fieldnames cols names")
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_JQ_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
Path = tuple[str, ...]


@dataclass(frozen=True)
class FoundRecords:
    """The rows of an answer, and the guesses that lead to them."""

    selector: str | None = None
    """None for an answer that is itself the list of rows, or if no rows were found."""
    steps: tuple[Mapping[str, str], ...] = ()
    """`processing_steps` that make the rows."""
    rows: tuple[Any, ...] = ()
    listed: Sequence[Any] = ()
    """What the API counts as rows of a page: the list itself."""
    guesses: tuple[Guess, ...] = ()
    failure: str | None = None
    """Why the answer has no rows to guess from; None if it has some, or is an empty list."""


def find_records(answer: SeenAnswer) -> FoundRecords:
    """Return where the rows are. The engine's and dlt's own detection comes first."""
    body = answer.body
    if (failure := _failure_of(answer)) is not None:
        return FoundRecords(failure=failure)
    found = _columns(body) or _from_engine(body) or _named_list(answer) or _keyed(body)
    return found or _single_record(body)


def _failure_of(answer: SeenAnswer) -> str | None:
    """Return a sentence if an answer is an error, whatever its status."""
    body = answer.body
    if not 200 <= answer.status < 300:
        return f"the API answered {answer.status}"
    if isinstance(body, Mapping):
        name = failure_field(body) or failure_beside_records(body, _first_list(body))
        if name is not None:
            return (
                f"the answer says in `{name}` that something failed{describe_failure(body, name)}"
            )
        if looks_like_an_error(body):
            return "the answer looks like an error message"
    elif not isinstance(body, list):
        return "the answer is neither an object nor a list"
    return None


def _first_list(body: Any) -> Sequence[Any]:
    return next((items for _, items in _lists(body)), ())


def _from_engine(body: Any) -> FoundRecords | None:
    """Return what a run without `data_selector` would read, if that is a list of objects."""
    try:
        path = detect_selector(body)
    except NotDetectedError:
        return None
    if path is None:
        return None
    [found] = jsonpath.find_values(path, body)[:1] or [None]
    if not isinstance(found, list) or not _may_be_rows(found):
        return None
    if isinstance(body, list):
        text = (
            f"the answer is a list of {len(found)} objects"
            if found
            else "the answer is an empty list"
        )
        return _found(None, found, text)
    names = _path_of(body, found)
    others = [place for place, _ in _lists(body) if place != names]
    only = "the only list of objects" if not others else "the list with a usual name"
    return _found(json_path(names), found, f"`{'.'.join(names)}` is {only}: {len(found)} rows")


def _named_list(answer: SeenAnswer) -> FoundRecords | None:
    """Return the list that is called as the path's last part, else the longest one."""
    lists = list(_lists(answer.body))
    if not lists:
        return None
    wanted = normalized_field_name(answer.path[-1]) if answer.path else ""
    named = [one for one in lists if normalized_field_name(one[0][-1]) == wanted]
    if named:
        path, items = named[0]
        return _found(
            json_path(path), items, f"`{'.'.join(path)}` is called as the last part of the URL"
        )
    # an object with an id is itself a row, as an order is that has lines
    lists = [one for one in lists if not _is_in_record(answer.body, one[0])]
    if not lists:
        return None
    usual = [one for one in lists if one[0][-1].lower() in RECORD_KEY_PATTERNS]
    path, items = max(usual or lists, key=lambda one: (len(one[1]), -len(one[0])))
    others = ", ".join(f"`{'.'.join(other)}`" for other, _ in lists if other != path)
    is_only = not others
    evidence = f"`{'.'.join(path)}` is {'the only list of objects' if is_only else 'the longest list of objects'}"
    evidence += "" if is_only else f"; there is {others}, too"
    return _found(json_path(path), items, evidence, is_sure=is_only)


def _is_in_record(body: Any, path: Path) -> bool:
    for key in path:
        if ID_KEYS & {str(name).lower() for name in body}:
            return True
        body = body[key]
    return False


def _keyed(body: Any) -> FoundRecords | None:
    """Return the rows of an object whose keys are ids: `{"17": {...}, "18": {...}}`."""
    for path, holder in _objects(body):
        values = list(holder.values())
        if len(values) < _MIN_KEYED or not all(isinstance(one, dict) and one for one in values):
            continue
        if not _are_alike(values):
            continue
        where = f"`{'.'.join(path)}`" if path else "the answer"
        evidence = (
            f"{where} is an object of {len(values)} objects with the same fields, by their keys"
        )
        own = next(
            (
                name
                for name in values[0]
                if all(_is_key(row.get(name), key) for key, row in holder.items())
            ),
            None,
        )
        if own is not None:
            selector = f"{json_path(path)}.*" if path else "$.*"
            return _found(selector, values, f"{evidence}, which each has as `{own}`")
        name = "key" if all("key" not in row for row in values) else "_key"
        step = {"yield_map": f"to_entries[] | {{{name}: .key}} + .value"}
        return _stepped(path, body, step, f"{evidence}; the key becomes the field `{name}`")
    return None


def _is_key(value: Any, key: str) -> bool:
    return value is not None and not isinstance(value, bool | list | dict) and str(value) == key


def _are_alike(values: Sequence[Mapping[str, Any]]) -> bool:
    sets = [set(one) for one in values]
    shared, every = set.intersection(*sets), set.union(*sets)
    return bool(shared) and len(shared) >= _SHARED_KEYS * len(every)


def _columns(body: Any) -> FoundRecords | None:
    """Return the rows of an answer in columns: parallel lists, or names beside lists of values."""
    for path, holder in _objects(body):
        found = _names_and_rows(path, holder, body) or _parallel_lists(path, holder, body)
        if found is not None:
            return found
    if isinstance(body, list) and len(body) > 1 and _is_table(body) and _are_names(body[0]):
        names = json.dumps([str(name) for name in body[0]])
        # each row is a record of its own, the names too
        steps = (
            {"filter": f". != {names}"},
            {"map": f"[{names}, .] | transpose | map({{(.[0]): .[1]}}) | add"},
        )
        rows = [dict(zip(body[0], one, strict=True)) for one in body[1:]]
        return FoundRecords(
            "$",
            steps,
            tuple(rows),
            body,
            (
                Guess("endpoint.data_selector", "$", "the answer is a list of lists"),
                Guess(
                    "processing_steps",
                    list(steps),
                    "the first of them has the names of the columns",
                ),
            ),
        )
    return None


def _names_and_rows(path: Path, holder: Mapping[str, Any], body: Any) -> FoundRecords | None:
    tables = [key for key, value in holder.items() if isinstance(value, list) and _is_table(value)]
    for key, value in holder.items():
        if normalized_field_name(key) not in _COLUMN_NAMES or not isinstance(value, list):
            continue
        label = _label_of(value)
        for table in tables:
            if label is None or len(holder[table][0]) != len(value):
                continue
            step = {
                "yield_map": f"[.{_jq(key)}[]{label}] as $names | .{_jq(table)}[] | "
                "[$names, .] | transpose | map({(.[0]): .[1]}) | add"
            }
            evidence = f"`{table}` has lists of {len(value)} values, and `{key}` as many names"
            return _stepped(path, body, step, evidence)
    return None


def _label_of(names: Sequence[Any]) -> str | None:
    """Return the jq path of a column's name in the list of columns; None if it has none."""
    if _are_names(names):
        return ""
    if names and all(isinstance(one, Mapping) for one in names):
        for label in ("name", "field", "id", "key", "label"):
            if all(isinstance(one.get(label), str) for one in names):
                return f".{label}"
    return None


def _parallel_lists(path: Path, holder: Mapping[str, Any], body: Any) -> FoundRecords | None:
    lists = {
        key: value
        for key, value in holder.items()
        if isinstance(value, list)
        and value
        and not any(isinstance(one, dict | list) for one in value)
    }
    lengths = {len(value) for value in lists.values()}
    # two lists of tags may have one length by chance; what is beside them would be the record
    if len(lists) < 2 or len(lengths) != 1 or lengths == {1}:
        return None
    if len(lists) < len(holder) and any(name.lower() in ("id", "_id") for name in holder):
        return None
    names = list(lists)
    columns = ", ".join(f".{_jq(name)}" for name in names)
    fields = ", ".join(f"{json.dumps(name)}: .[{at}]" for at, name in enumerate(names))
    step = {"yield_map": f"[{columns}] | transpose[] | {{{fields}}}"}
    size = lengths.pop()
    return _stepped(
        path, body, step, f"{len(names)} lists of {size} values each stand side by side"
    )


def _is_table(value: Sequence[Any]) -> bool:
    return (
        bool(value)
        and all(isinstance(row, list) for row in value)
        and len({len(row) for row in value}) == 1
        and bool(value[0])
    )


def _are_names(value: Sequence[Any]) -> bool:
    return (
        bool(value) and all(isinstance(one, str) for one in value) and len(set(value)) == len(value)
    )


def _stepped(path: Path, body: Any, step: Mapping[str, str], evidence: str) -> FoundRecords:
    selector = json_path(path) or "$"
    holder = body
    for key in path:
        holder = holder[key]
    rows = compile_jq(step["yield_map"], "%s").input(holder).all()
    return FoundRecords(
        selector,
        (step,),
        tuple(rows),
        [holder],
        (
            Guess("endpoint.data_selector", selector, evidence),
            Guess("processing_steps", [dict(step)], f"it makes {len(rows)} rows of them"),
        ),
    )


def _single_record(body: Any) -> FoundRecords:
    return FoundRecords(
        "$",
        (),
        (body,) if isinstance(body, dict) and body else (),
        [body],
        (
            Guess(
                "endpoint.data_selector",
                "$",
                "no list of objects is in the answer, so the whole answer is one row",
                "possible",
            ),
        ),
    )


def _found(
    selector: str | None, rows: Sequence[Any], evidence: str, *, is_sure: bool = True
) -> FoundRecords:
    guess = Guess("endpoint.data_selector", selector, evidence, "likely" if is_sure else "possible")
    return FoundRecords(selector, (), tuple(rows), rows, (guess,))


def _may_be_rows(items: Sequence[Any]) -> bool:
    return not items or any(isinstance(item, dict) for item in items)


def _lists(body: Any, path: Path = ()) -> Iterator[tuple[Path, list[Any]]]:
    """Yield the lists of objects in an object, the outer ones first; not those within rows."""
    if not isinstance(body, Mapping) or len(path) >= _MAX_DEPTH:
        return
    for key, value in body.items():
        if isinstance(value, list) and value and _may_be_rows(value):
            yield (*path, str(key)), value
    for key, value in body.items():
        yield from _lists(value, (*path, str(key)))


def _objects(body: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield an object and those in it, the outer ones first."""
    if not isinstance(body, Mapping) or len(path) >= _MAX_DEPTH:
        return
    yield path, body
    for key, value in body.items():
        yield from _objects(value, (*path, str(key)))


def _path_of(body: Any, wanted: Any, path: Path = ()) -> Path:
    """Return the keys that lead to a value, which is in the body."""
    for key, value in body.items() if isinstance(body, Mapping) else ():
        if value is wanted:
            return (*path, str(key))
        if inner := _path_of(value, wanted, (*path, str(key))):
            return inner
    return ()


def json_path(names: Path) -> str:
    """Return the JSON path of keys; a key with other characters than those of a name is quoted."""
    return ".".join(name if _PLAIN_KEY.fullmatch(name) else json.dumps(name) for name in names)


def _jq(name: str) -> str:
    return name if _JQ_KEY.fullmatch(name) else json.dumps(name)
