"""A page that its columns verify is what Python's own parser reads."""

import json
import re
from typing import Any

import pytest
from dlt.common.schema import Schema
from dlt.common.schema.utils import new_table
from hypothesis import example, given
from hypothesis import strategies as st

from restsource_dagster.engine.columnar.flatten import (
    NotColumnarError,
    SchemaRules,
    flatten_records,
    is_verified,
)
from restsource_dagster.engine.http.json_body import (
    ApiResponse,
    UnverifiedRecords,
    object_with_duplicate_key,
)
from restsource_dagster.engine.paging.records import RecordReader, extract_records

WORDS = st.text('ab":{\\ é', max_size=4)
NUMBERS = (
    st.integers(-(2**65), 2**65)
    | st.integers(-100, 100)
    | st.floats(allow_nan=False, allow_infinity=False)
)
NESTED = st.recursive(
    st.none() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(
    st.fixed_dictionaries({"id": NUMBERS, "words": WORDS, "inside": NESTED}), min_size=1, max_size=3
)


def verify_page(raw: str, nesting: int) -> tuple[bool, Any]:
    """Return whether a page is verified, and its records. Objects below `nesting` levels stay JSON."""
    schema = Schema("shop")
    schema.update_table(new_table("things", columns=[]))
    schema.tables["things"]["x-normalizer"] = {"max_nesting": nesting}
    response = ApiResponse()
    response._content, response.status_code = raw.encode("utf-8", "surrogatepass"), 200
    records = extract_records(response, RecordReader("$"), response.json())[0].records
    if not isinstance(records, UnverifiedRecords):
        return False, None
    try:
        tables = flatten_records("things", records, SchemaRules(schema))
    except NotColumnarError:
        return False, None
    return is_verified(records, tables), list(records)


def exceeds_64_bits(value: Any) -> bool:
    """True if the value has a whole number beyond 64 bits."""
    if isinstance(value, dict):
        return any(map(exceeds_64_bits, value.values()))
    if isinstance(value, list):
        return any(map(exceeds_64_bits, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def written(value: Any, doubled: str | None, escaped: bool, ascii_only: bool) -> str:
    """Return a value as JSON, with a key twice in each object, or with quotes in texts escaped."""

    def again(inner: Any) -> str:
        return written(inner, doubled, escaped, ascii_only)

    if isinstance(value, dict):
        fields = [f"{again(key)}: {again(inner)}" for key, inner in value.items()]
        return "{" + ", ".join([f'"{doubled}": 0', *fields] if doubled else fields) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(again, value)) + "]"
    text = json.dumps(value, ensure_ascii=ascii_only)
    if escaped and isinstance(value, str):
        return re.sub(r"\\(.)", lambda m: "\\u0022" if m[1] == '"' else m[0], text)
    return text


@given(
    records=RECORDS,
    doubled=st.none() | st.sampled_from(["id", "a", "new"]),
    escaped=st.booleans(),
    ascii_only=st.booleans(),
    nesting=st.integers(0, 2),
)
@example([{"id": 1, "inside": {"x": 'a":b'}}], "id", True, False, 0)
@example([{"id": 1, "inside": {"x": 2**63}}], None, False, False, 0)
def test_a_verified_page_has_the_records_that_were_written(
    records: Any, doubled: str | None, escaped: bool, ascii_only: bool, nesting: int
) -> None:
    raw = written(records, doubled, escaped, ascii_only)
    verified, read = verify_page(raw, nesting)
    expected = json.loads(raw, object_pairs_hook=object_with_duplicate_key)
    if verified:
        assert read == expected
        assert not exceeds_64_bits(expected)


@pytest.mark.parametrize(
    "inside",
    [
        {"a": [{"b": None}, {"b": 1}], "c": "é"},
        [{"a": 2**60}, {"a": 1.5}],
        {"a": "1234567890123456789012"},
        {"a": 2**62},
    ],
)
@pytest.mark.parametrize("nesting", [0, 5])
def test_a_plain_page_is_verified(inside: Any, nesting: int) -> None:
    records = [{"id": number, "inside": inside} for number in range(60)]
    assert verify_page(json.dumps(records), nesting) == (True, records)


@pytest.mark.parametrize(
    "inside",
    [
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a": 1, "a": 2, "b": "x\\u0022:"}',
        '{"a": 1, "a": 2, "b": "x\\"\\u003a"}',
        '{"a": 1, "a": 2, "b": "x\\"\\u003A"}',
        '{"a": 9223372036854775808}',
        "[-9223372036854775809]",
        '{"a": ' * 220 + "1" + "}" * 220,
    ],
)
def test_a_page_with_a_repeated_key_or_a_large_number_is_not_verified(inside: str) -> None:
    assert verify_page(f'[{{"id": 1, "inside": {inside}}}]', 0)[0] is False
