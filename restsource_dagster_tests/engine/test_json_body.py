"""JSON that is parsed fast has the values of the text, or it is parsed again."""

import json
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.engine.http.json_body import (
    DUPLICATE_KEY,
    ApiResponse,
    UnverifiedRecords,
    object_with_duplicate_key,
    scan_values,
)
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.records import RecordReader, extract_records
from restsource_dagster.engine.source.record_values import RecordSanitizer

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def respond(raw: bytes, encoding: str | None = None) -> requests.Response:
    response = ApiResponse()
    response._content = raw
    response.status_code = 200
    response.encoding = encoding
    return response


def records_of(raw: bytes, selector: str | None = "data") -> list[Any]:
    response = respond(raw)
    selection, _ = extract_records(response, RecordReader(selector), response.json())
    sanitizer = RecordSanitizer("things", str.lower, lambda _: None, Redactor())
    return sanitizer.sanitize(selection.records, 1)


@given(JSON)
def test_any_document_is_read_as_python_reads_it(value: Any) -> None:
    raw = json.dumps(value).encode("utf-8", "surrogatepass")
    response = respond(raw)
    expected = json.loads(raw, object_pairs_hook=object_with_duplicate_key)
    read = response.json()
    if isinstance(response, ApiResponse) and response.is_unverified:
        looked = scan_values([read])
        assert looked is None or looked.key_count < raw.count(b'":') or read == expected
        read = response.parse_strictly()
    assert read == expected


@given(st.lists(st.dictionaries(st.text('ab:" ', max_size=3), JSON, max_size=3), min_size=1))
def test_records_are_verified_or_parsed_again(records: list[dict[str, Any]]) -> None:
    raw = json.dumps({"data": records}).encode("utf-8", "surrogatepass")
    response = respond(raw)
    read = extract_records(response, RecordReader("data"), response.json())[0].records
    if isinstance(read, UnverifiedRecords):
        looked = scan_values(read)
        assert looked is None or looked.key_count < read.key_count or list(read) == records


@pytest.mark.parametrize("colon", [":", " :", " : ", "\t:\n"])
def test_a_duplicate_key_is_found_with_any_spacing(colon: str) -> None:
    raw = f"""{{"data": [{{"id"{colon}1, "id"{colon}2}}]}}""".encode()
    response = respond(raw)
    read = extract_records(response, RecordReader("data"), response.json())[0].records
    if isinstance(read, UnverifiedRecords):
        looked = scan_values(read)
        assert looked is None or looked.key_count != read.key_count
        read = read.parse_strictly()
    assert read == [{"id": 2, DUPLICATE_KEY: "id"}]


def test_a_number_beyond_64_bits_keeps_its_digits() -> None:
    assert records_of(b'{"data": [{"id": 123456789012345678901234567}]}') == [
        {"id": pytest.approx(123456789012345678901234567)}
    ]
    (record,) = records_of(b'{"data": [{"id": 123456789012345678901234567}]}')
    assert int(record["id"]) == 123456789012345678901234567


def test_a_cursor_beside_the_records_keeps_its_digits() -> None:
    response = respond(b'{"data": [{"id": 1}], "next": 123456789012345678901234567}')
    _, body = extract_records(response, RecordReader("data"), response.json())
    assert body["next"] == 123456789012345678901234567
    assert response.json() == body


@pytest.mark.parametrize("raw", [b'[{"a": 1e400}]', rb'[{"a": "\ud800"}]'])
def test_json_that_is_not_strict_is_left_to_the_slow_parser(raw: bytes) -> None:
    response = respond(raw)
    assert repr(response.json()) == repr(json.loads(raw))
    assert isinstance(response, ApiResponse)
    assert not response.is_unverified


def test_text_in_another_encoding_is_decoded_by_it() -> None:
    response = respond('[{"city": "Zürich"}]'.encode("latin-1"), "iso-8859-1")
    assert response.json() == [{"city": "Zürich"}]
    response = respond('[{"city": "Zürich"}]'.encode("utf-16"))
    assert response.json() == [{"city": "Zürich"}]
