"""Applies the `processing_steps` of a resource to the records of a page.

They come after the paging, which counts the records that the API sent, and before the cursor and the
table, which see only what the last step leaves. That is dlt's order.

jq computes with 64-bit floats. A whole number beyond 2^53 goes through it as an object that no record
has, so it is unchanged afterwards, and calculating with it is an error.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from restsource_dagster.connector.models.deletes import DELETED_AT
from restsource_dagster.connector.models.processing_steps import (
    DropStep,
    FilterStep,
    HashSettings,
    HashStep,
    MapStep,
    ParseJsonStep,
    ProcessingStep,
    RenameStep,
    YieldMapStep,
    compile_jq,
)
from restsource_dagster.engine.errors import RecordError
from restsource_dagster.engine.http.json_body import (
    DUPLICATE_KEY,
    UnverifiedRecords,
    object_with_duplicate_key,
    scan_values,
)
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.source.column_names import ColumnNames
from restsource_dagster.engine.source.record_values import MAX_RECORD_DEPTH

__all__ = ["DeletionMark", "RecordSteps", "read_fields"]

_SNIPPET_CHARS = 120
_VERDICT_CHARS = 40
_BEGINS_WITH_DAY = re.compile(r"(?!0000)\d{4}-?\d\d-?\d\d")
"""How a time begins. APIs write 0000-00-00, and "0", where there is none."""
_EXACT_INTEGER = 2**53
"""jq rounds whole numbers beyond this one."""
_LONG_NUMBER = re.compile(rb"\d{16}")
"""Is in the text of every whole number beyond 2^53."""
_STAND_IN = f"{secrets.token_hex(8)}:"
"""With a big number behind it the only key of the object that stands for it while jq has the record.

Of an object jq makes no number, and two of them that are added keep both keys.
"""
_STAND_IN_START = _STAND_IN[:8]
"""What is left of it where jq names the object in an error: older versions show 11 characters."""
_STAND_IN_OBJECT = re.compile(rf'\{{"{_STAND_IN}(-?[0-9]+)": ?null\}}')

_FAILED = 'catch {error: (if type == "string" then . else tojson end)}'
_RESULTS = f"map(try [%s] {_FAILED})"
"""For each record the list of its results, or an object with the error."""
_ONE_RESULT = "map(%s)"
"""The results of a program that has one for each record. An error has no number."""

Record = dict[str, Any]
Path = tuple[str, ...]


class DeletionMark:
    """Gives the records that say they are deleted the time `moment`, in a field of their own."""

    def __init__(self, condition: str, moment: datetime) -> None:
        """`condition` is a jq program with one result: true, false or null, or a time as text."""
        self._condition, self._moment = condition, moment.isoformat()
        self.counted = 0

    def apply(self, records: list[Any]) -> None:
        """Add the field to the records that the condition holds for.

        Raises `_StepError` for a result that may mean either, such as 0 or the text "false".
        """
        verdicts = _verdicts(self._condition, records)
        for row, (record, verdict) in enumerate(zip(records, verdicts, strict=True), 1):
            _require_object(record, row)
            if DELETED_AT in record:
                problem = (
                    "the record has this field, and it is the name of the column for deleted rows"
                )
                raise _StepError(problem, row, record, DELETED_AT)
            if _is_deleted(verdict, row, record):
                record[DELETED_AT] = self._moment

    def count(self, records: Sequence[Any]) -> None:
        """Count the records that have the field."""
        self.counted += sum(isinstance(one, dict) and DELETED_AT in one for one in records)


def _is_deleted(verdict: Any, row: int, record: Any) -> bool:
    if verdict is None or isinstance(verdict, bool):
        return bool(verdict)
    # `deleted_at` has a time, and an empty text where others have null
    if isinstance(verdict, str) and (not verdict or _BEGINS_WITH_DAY.match(verdict)):
        return bool(verdict)
    shown = json.dumps(verdict)[:_VERDICT_CHARS]
    problem = (
        f"the condition gives {shown}, and needs true, false, null or a time. Compare it with what "
        "deleted records have, such as `.deleted == 1`"
    )
    raise _StepError(problem, row, record)


class RecordSteps:
    """The processing steps of one resource. Each page goes through all of them."""

    def __init__(
        self,
        resource: str,
        steps: Sequence[ProcessingStep],
        redactor: Redactor,
        names: ColumnNames | None = None,
        mark: DeletionMark | None = None,
    ) -> None:
        """`names` renames fields after all steps, and `mark` sees what the table would get."""
        self._resource, self._names, self._mark = resource, names, mark
        self._redactor = redactor
        self._steps = [(step, self._function(step)) for step in steps]
        # Records may lack a field, so a misspelt one is no error. A message at the end names it.
        self._unseen = {named for step in steps for named in _named_fields(step)}
        self._has_records = False

    def __bool__(self) -> bool:
        """Return True if there are any, or fields to rename or add."""
        return bool(self._steps) or self._names is not None or self._mark is not None

    def apply(self, records: list[Any], page: int) -> list[Any]:
        """Return what the steps make of the verified records of a page, which they may change.

        Raises `RecordError` if a step can't take a record, with the number that it has in that step.
        """
        self._has_records = self._has_records or bool(records)
        for number, (step, function) in enumerate(self._steps, 1):
            try:
                records = function(records)
            except _StepError as error:
                name = next(iter(type(step).model_fields))
                raise self._error_of(
                    error, page, f"processing_steps[{number - 1}] ({name})"
                ) from None
        if self._names is not None:
            records = self._names.apply(records)
        if self._mark is not None:
            try:
                self._mark.apply(records)
            except _StepError as error:
                raise self._error_of(error, page, "deleted_when") from None
        return _as_page(records)

    def count_deleted(self, records: Sequence[Any]) -> None:
        """Count the records that say they are deleted, of those that are loaded."""
        if self._mark is not None:
            self._mark.count(records)

    @staticmethod
    def is_deleted(record: Any) -> bool:
        """True if a record, after `apply`, says that it is deleted."""
        return isinstance(record, dict) and DELETED_AT in record

    @property
    def rows_deleted(self) -> int | None:
        """The number of loaded records that say they are deleted; None if the file has no `deleted_when`."""
        return None if self._mark is None else self._mark.counted

    def _error_of(self, error: "_StepError", page: int, place: str) -> RecordError:
        shown = self._redactor.snippet(repr(error.record), _SNIPPET_CHARS)
        text = f"{place}: {self._redactor(error.problem)}. The record starts {shown}"
        return RecordError(self._resource, page, error.row, error.field, text)

    def describe_unseen(self) -> str | None:
        """Return a sentence on the fields that no record had; None if there is nothing to say."""
        if not self._unseen or not self._has_records:
            return None
        unseen = ", ".join(f"{field} ({step})" for step, field in sorted(self._unseen))
        return f"processing_steps: no record had the field {unseen}"

    def verify(self, records: list[Any], page: int) -> list[Any]:
        """Return the records as they are in the response.

        Raises `RecordError` for a duplicate key, and for a record that is nested too deeply.
        """
        if isinstance(records, UnverifiedRecords):
            scan = scan_values(records)
            # no key was lost, so none stood twice
            if scan is not None and scan.key_count == records.key_count:
                return list(records)
            records = records.parse_strictly()
        for row, record in enumerate(records, 1):
            try:
                field = _duplicate_key(record, MAX_RECORD_DEPTH)
            except RecursionError:
                problem = f"it is nested deeper than {MAX_RECORD_DEPTH} levels"
                raise RecordError(self._resource, page, row, "", problem) from None
            if field:
                problem = "the key is there twice in one object, with different values"
                raise RecordError(self._resource, page, row, field, problem)
        return records

    def _function(self, step: ProcessingStep) -> Callable[[list[Any]], list[Any]]:
        function: Callable[[list[Any]], list[Any]]
        match step:
            case FilterStep():
                function = partial(_filter, step.filter)
            case MapStep():
                function = partial(_map, step.map)
            case YieldMapStep():
                function = partial(_yield_map, step.yield_map)
            case RenameStep():
                function = partial(_rename, _by_place(step.rename), self._see("rename"))
            case DropStep():
                function = partial(_change, step.drop, _drop, self._see("drop"))
            case HashStep():
                hash_value = partial(_hash, _hash_key(step))
                function = partial(_change, _hashed_fields(step), hash_value, self._see("hash"))
            case ParseJsonStep():
                see = self._see("parse_json")
                function = partial(_change, step.parse_json, _parse_json, see)
        return function

    def _see(self, step: str) -> Callable[[Iterable[str]], None]:
        return lambda fields: self._unseen.difference_update((step, field) for field in fields)


class _StepError(Exception):
    """A record that a step can't take; `row` counts from 1."""

    def __init__(self, problem: str, row: int, record: Any, field: str = "") -> None:
        super().__init__(problem)
        self.problem, self.row, self.record, self.field = problem, row, record, field


def _hashed_fields(step: HashStep) -> list[str]:
    return step.hash.fields if isinstance(step.hash, HashSettings) else step.hash


def _hash_key(step: HashStep) -> bytes | None:
    return step.hash.key.encode() if isinstance(step.hash, HashSettings) else None


def _named_fields(step: ProcessingStep) -> Iterator[tuple[str, str]]:
    """Yield the name of a step and each field that it names."""
    match step:
        case RenameStep():
            yield from (("rename", field) for field in step.rename)
        case DropStep():
            yield from (("drop", field) for field in step.drop)
        case HashStep():
            yield from (("hash", field) for field in _hashed_fields(step))
        case ParseJsonStep():
            yield from (("parse_json", field) for field in step.parse_json)


def _as_page(records: list[Any]) -> list[Any]:
    """Return records that can be written as columns, as those of a response can."""
    try:
        raw = orjson.dumps(records)
    except TypeError:
        # a number beyond 64 bits or half a character: such a page is loaded row by row
        return records
    return UnverifiedRecords.of(
        records,
        raw.count(b'":'),
        raw,
        lambda: json.loads(raw, object_pairs_hook=object_with_duplicate_key),
    )


def _duplicate_key(value: Any, levels: int) -> str | None:
    """Return the key that is twice in an object of `value`, None if there is none.

    Raises `RecursionError` if objects and lists are nested deeper than so many levels.
    """
    if levels < 0:
        raise RecursionError
    if isinstance(value, dict):
        if DUPLICATE_KEY in value:
            return str(value[DUPLICATE_KEY])
        value = list(value.values())
    if isinstance(value, list):
        below = (_duplicate_key(item, levels - 1) for item in value)
        return next(filter(None, below), None)
    return None


_SAFE_CONDITION = re.compile(
    r"""(?:
        \s | [()] | [=!<>]= | [<>] | -?\d+(?:\.\d+)? | "(?:[^"\\]|\\[^(])*"
        | \b(?:and|or|true|false|null)\b
        | \|\s*(?:not|length|ascii_downcase)\b
        | \|\s*(?:test|startswith|endswith|contains)\((?="[^"\\]*"\))
        | \.(?P<field>[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*
    )*""",
    re.VERBOSE | re.ASCII,
)
"""A condition that has one result, and reads nothing but the fields that it names."""
_NAMED_FIELD = re.compile(r'"(?:[^"\\]|\\.)*"|(?<!\w)\.([A-Za-z_]\w*)', re.ASCII)


def read_fields(program: str) -> frozenset[str] | None:
    """Return the fields at the top of a record that a condition reads; None if it may read others."""
    if not _SAFE_CONDITION.fullmatch(program):
        return None
    return frozenset(name for name in _NAMED_FIELD.findall(program) if name)


def _filter(program: str, records: list[Any]) -> list[Any]:
    return [
        record
        for record, verdict in zip(records, _verdicts(program, records), strict=True)
        # jq's own truth: 0 and "" are true
        if verdict is not None and verdict is not False
    ]


def _verdicts(program: str, records: list[Any]) -> list[Any]:
    """Return the result of a condition for each record."""
    fields, shown = read_fields(program), records
    if fields is not None and all(isinstance(record, dict) for record in records):
        # jq takes longer to read a record than to judge it
        shown = [{name: one[name] for name in fields if name in one} for one in records]
        # if there is an error, all results are asked for again, each with its record
        with suppress(_StepError):
            return _run_jq(program, _ONE_RESULT, shown)
    verdicts = []
    for row, (record, results) in enumerate(_results(program, records), 1):
        if len(results) != 1:
            problem = (
                f"the program has {len(results)} results for the record, and a condition has one; "
                "`any(...)` and `all(...)` make one of several"
            )
            raise _StepError(problem, row, record)
        verdicts.append(results[0])
    return verdicts


def _map(program: str, records: list[Any]) -> list[Any]:
    made = []
    for row, (record, results) in enumerate(_results(program, records), 1):
        if len(results) != 1:
            other = "filter" if not results else "yield_map"
            problem = (
                f"the program has {len(results)} results for the record, and each record becomes one; "
                f"use `{other}`"
            )
            raise _StepError(problem, row, record)
        made.append(results[0])
    return made


def _yield_map(program: str, records: list[Any]) -> list[Any]:
    return [made for _, results in _results(program, records) for made in results]


def _results(program: str, records: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each record with the results of a program."""
    all_results = _run_jq(program, _RESULTS, records)
    for row, (record, results) in enumerate(zip(records, all_results, strict=True), 1):
        if isinstance(results, dict):
            raise _StepError(results["error"], row, record)
        yield record, [_with_floats(made, record) for made in results]


def _run_jq(program: str, frame: str, records: list[Any]) -> list[Any]:
    """Return what a jq program gives for each record, in the form of `frame`."""
    text, has_big_numbers = _to_text(records)
    try:
        output: str = compile_jq(program, frame).input_text(text).text()
    except ValueError as error:
        # an error of one record is caught in the frame: this is one of the page
        raise _StepError(str(error), 1, records[0]) from None
    if has_big_numbers:
        output = _STAND_IN_OBJECT.sub(r"\1", output)
    # Python's parser keeps numbers beyond 64 bits
    results: list[Any] = json.loads(output) if has_big_numbers else orjson.loads(output)
    if has_big_numbers and _STAND_IN_START in output:
        row = next(row for row, one in enumerate(results) if _STAND_IN_START in json.dumps(one))
        problem = "jq can't calculate with whole numbers beyond 2^53, it would round them"
        raise _StepError(problem, row + 1, records[row])
    return results


def _to_text(records: list[Any]) -> tuple[str, bool]:
    """Return records as JSON for jq, and whether it has texts for numbers that jq would round."""
    # orjson refuses numbers beyond 64 bits and half a character
    with suppress(TypeError):
        raw = orjson.dumps(records)
        if not _LONG_NUMBER.search(raw):
            return raw.decode(), False
    return json.dumps(_with_stand_ins(records)), True


def _with_stand_ins(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_stand_ins(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_stand_ins(item) for item in value]
    if type(value) is int and abs(value) > _EXACT_INTEGER:
        return {f"{_STAND_IN}{value}": None}
    return value


def _with_floats(made: Any, record: Any) -> Any:
    """Return a result with the floats of its record where jq wrote `2` for `2.0`.

    A column gets its type from the first value, so that `2` and then `2.5` would make two columns.
    """
    if type(made) is int and type(record) is float and made == record:
        return record
    if type(made) is dict and type(record) is dict:
        return {k: _with_floats(v, record[k]) if k in record else v for k, v in made.items()}
    if type(made) is list and type(record) is list and len(made) == len(record):
        return [_with_floats(item, other) for item, other in zip(made, record, strict=True)]
    return made


def _holders(value: Any, path: Sequence[str]) -> Iterator[Record]:
    """Yield the objects that have the last field of a path. A list stands for its items."""
    if isinstance(value, list):
        for item in value:
            yield from _holders(item, path)
    elif isinstance(value, dict) and path[0] in value:
        if len(path) == 1:
            yield value
        else:
            yield from _holders(value[path[0]], path[1:])


def _objects_at(value: Any, path: Path) -> Iterator[Record]:
    """Yield the objects that a path leads to."""
    if not path:
        yield value
        return
    for holder in _holders(value, path):
        inner = holder[path[-1]]
        yield from (
            one for one in (inner if isinstance(inner, list) else [inner]) if isinstance(one, dict)
        )


def _require_object(record: Any, row: int) -> None:
    if not isinstance(record, dict):
        raise _StepError("the record is no object, so it has no fields", row, record)


def _by_place(names: Mapping[str, str]) -> list[tuple[Path, dict[str, str]]]:
    """Return old and new names by the path of the object that they are in, innermost first."""
    found: dict[Path, dict[str, str]] = {}
    for field, new in names.items():
        *place, old = field.split(".")
        found.setdefault(tuple(place), {})[old] = new
    # a renamed object is not found under its old name any more
    return sorted(found.items(), key=lambda one: -len(one[0]))


def _rename(
    places: Sequence[tuple[Path, dict[str, str]]],
    see: Callable[[Iterable[str]], None],
    records: list[Any],
) -> list[Any]:
    seen: set[str] = set()
    for row, record in enumerate(records, 1):
        _require_object(record, row)
        for path, names in places:
            for holder in _objects_at(record, path):
                found = names.keys() & holder.keys()
                if not found:
                    continue
                seen.update(".".join((*path, old)) for old in found)
                # all are taken out first: two fields may change their names
                for old, item in [(old, holder.pop(old)) for old in names if old in found]:
                    # the other field would be lost, and which one is the order of the record
                    if names[old] in holder:
                        problem = f"the record has a field `{names[old]}` already"
                        raise _StepError(problem, row, record, ".".join((*path, old)))
                    holder[names[old]] = item
    see(seen)
    return records


def _change(
    fields: Sequence[str],
    change: Callable[[Record, str], None],
    see: Callable[[Iterable[str]], None],
    records: list[Any],
) -> list[Any]:
    """Change each of the fields in each record. `change` gets the object and the field's name."""
    paths = [(field, field.split(".")) for field in fields]
    seen: set[str] = set()
    for row, record in enumerate(records, 1):
        _require_object(record, row)
        for field, path in paths:
            for holder in _holders(record, path):
                seen.add(field)
                try:
                    change(holder, path[-1])
                except ValueError as error:
                    raise _StepError(str(error), row, record, field) from None
    see(seen)
    return records


def _drop(holder: Record, name: str) -> None:
    del holder[name]


def _hash(key: bytes | None, holder: Record, name: str) -> None:
    value = holder[name]
    if value is None:
        return
    text = (
        value
        if isinstance(value, str)
        else json.dumps(value, separators=(",", ":"), sort_keys=True)
    )
    # half a character is replaced where rows are stored, and hashed as what it is
    data = text.encode("utf-8", "surrogatepass")
    made = hashlib.sha256(data) if key is None else hmac.new(key, data, hashlib.sha256)
    holder[name] = made.hexdigest()


def _parse_json(holder: Record, name: str) -> None:
    text = holder[name]
    if not isinstance(text, str):
        return
    # APIs write an empty text where there is no object
    if not text.strip():
        holder[name] = None
        return
    try:
        holder[name] = json.loads(text, object_pairs_hook=object_with_duplicate_key)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the text is not JSON ({error})") from None
