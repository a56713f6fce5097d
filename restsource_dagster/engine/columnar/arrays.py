"""From a column's values to Arrow, only where the result is that of dlt's row by row coercion."""

import base64
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.schema.typing import TColumnSchema

from restsource_dagster.engine.columnar.errors import NotColumnarError
from restsource_dagster.engine.columnar.sheets import Cells

__all__ = ["random_ids", "to_array"]

_ID_CHARACTERS = 14  # what dlt's ten random bytes come to in base64
_PLAIN: dict[str, frozenset[type]] = {
    "text": frozenset({str}),
    "bigint": frozenset({int}),
    "double": frozenset({float, int}),
    "bool": frozenset({bool}),
    "timestamp": frozenset({str}),
    "json": frozenset({dict, list}),
}


def to_array(cells: Cells, column: TColumnSchema, kind: pa.DataType) -> pa.Array:
    """The values as an array of type `kind`, the type of dlt's `column`.

    Raises `NotColumnarError` if dlt would coerce a value, make a variant column of it, or refuse it.
    """
    name, data_type = column["name"], str(column["data_type"])
    if not cells.types:
        return pa.nulls(len(cells.values), kind)
    if not cells.types <= _PLAIN.get(data_type, frozenset()):
        found = ", ".join(sorted(one.__name__ for one in cells.types))
        raise NotColumnarError(f"{name} is {data_type} and got {found}")
    try:
        if data_type == "timestamp":
            array = _timestamps(cells.values, kind)
        elif data_type == "json":
            array = pa.array(cells.texts, kind)
        else:
            array = pa.array(cells.values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise NotColumnarError(f"{name} is {data_type}: {error}") from None
    if data_type == "double" and not pc.all(pc.is_finite(array)).as_py():
        raise NotColumnarError(f"{name} has a number that is not finite")
    return array


def random_ids(count: int) -> pa.Array:
    """So many identifiers like dlt's own: random, in base64."""
    text = base64.b64encode(secrets.token_bytes(count * _ID_CHARACTERS * 3 // 4 + 3))
    return pa.StringArray.from_buffers(count, _offsets(count), pa.py_buffer(text))


@lru_cache(maxsize=16)  # pages are of few sizes
def _offsets(count: int) -> pa.Buffer:
    """Where each identifier starts."""
    return pa.array(range(0, (count + 1) * _ID_CHARACTERS, _ID_CHARACTERS), pa.int32()).buffers()[1]


def _timestamps(values: Sequence[Any], kind: pa.TimestampType) -> pa.Array:
    """Texts in ISO 8601 as moments; without a zone they are taken for UTC, as dlt does.

    Arrow reads a text with a zone only as a moment, one without only as a wall clock.
    """
    texts = pa.array(values, pa.string())
    if kind.tz is None:
        raise NotColumnarError("a time without a zone")
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        return pc.assume_timezone(pc.cast(texts, pa.timestamp(kind.unit)), kind.tz)
