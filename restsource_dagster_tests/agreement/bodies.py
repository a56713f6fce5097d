"""Responses that are no plain JSON, and how they are read (`response`)."""

import gzip
import io
import zipfile
from typing import Any

from restsource_dagster_tests.agreement.rows import Result, Row, page, refused
from restsource_dagster_tests.servers.api import Answer

__all__ = ["ROWS"]

CSV = b"id,note\n1,x\n2,\n"


def answer(body: bytes, content_type: str = "text/csv") -> Answer:
    return Answer(body, headers={"content-type": content_type})


def zipped(name: str, body: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, body)
    return packed.getvalue()


def values(result: Result) -> list[Any]:
    """The ids and the notes."""
    return result.table("id, note")


def read(
    name: str,
    response: dict[str, Any] | None,
    body: bytes = CSV,
    gives: Any = (("1", "x"), ("2", None)),
    *,
    content_type: str = "text/csv",
    selector: Any = ...,
    see: Any = values,
    **more: Any,
) -> Row:
    return Row(
        f"response_{name}",
        {"response": response, "data_selector": selector},
        answer(body, content_type),
        [] if "fails" in more else list(gives),
        see,
        **more,
    )


def wrong(name: str, response: dict[str, Any], **endpoint: Any) -> Row:
    return refused(
        f"response_{name}",
        endpoint={"response": response, "data_selector": ..., **endpoint},
    )


LINES = b'{"id": 1, "note": "x"}\n{"id": 2, "note": null}\n'
NUMBERED = ((1, "x"), (2, None))
XML = b'<a><b id="1"><note>x</note></b><b id="2"><note/></b></a>'

ROWS = (
    Row("response_null", {"response": None}, page(1), [1]),
    read("by_type", {}),
    read("format_null", {"format": None}),
    read("csv", {"format": "csv"}, content_type="text/plain"),
    read("jsonl", {"format": "jsonl"}, LINES, NUMBERED, content_type="text/plain"),
    read(
        "json", {"format": "json"}, b'[{"id": 1, "note": "x"}, {"id": 2, "note": null}]', NUMBERED
    ),
    read(
        "xml",
        {"format": "xml"},
        XML.replace(b'id="', b'n="'),
        selector="a.b",
        gives=[("1", "x"), ("2", None)],
        see=lambda result: result.table("_n, note"),
    ),
    read(
        "attribute_prefix",
        {"format": "xml", "attribute_prefix": ""},
        XML,
        selector="$.a.b[*]",
    ),
    read("encoding", {"encoding": "latin-1"}, b"id,note\n1,\xf6\n", (("1", "ö"),)),
    read("encoding_utf_8", {}, b"id,note\n1,\xf6\n", fails="byte 10 is no text in utf-8"),
    read("gzip", {"compression": "gzip"}, gzip.compress(CSV)),
    read("gzip_told", {}, gzip.compress(CSV)),
    read("zip", {"compression": "zip"}, zipped("a.csv", CSV)),
    read("zip_not", {"compression": "zip"}, fails="is no zip file"),
    read("compression_none", {"compression": "none"}),
    read("member", {"member": "a*"}, zipped("a.csv", CSV)),
    read("max_mb", {"max_mb": 1}, b"id\n" + b"1\n" * 500_001, fails="1 MB"),
    read("allow_empty", {"allow_empty": True}, b"", []),
    read("allow_empty_not", {"allow_empty": False}, b"", fails="the body is empty"),
    read("delimiter", {"delimiter": ";"}, CSV.replace(b",", b";")),
    read("quote", {"quote": "'"}, b"id,note\n'1','x'\n2,\n"),
    read("escape", {"escape": "\\"}, b'id,note\n1,"\\""\n', (("1", '"'),)),
    read("header", {"header": True}),
    read(
        "header_not",
        {"header": False, "column_names": ["id", "note"]},
        CSV.partition(b"\n")[2],
    ),
    read("null_values", {"null_values": ["x"]}, gives=(("1", None), ("2", ""))),
    read("skip_lines", {"skip_lines": 2}, b"a\n\n" + CSV),
    wrong("format_unknown", {"format": "parquet"}),
    wrong("encoding_unknown", {"encoding": "utf-99"}),
    wrong("delimiter_long", {"delimiter": "||"}),
    wrong("names_twice", {"column_names": ["id"]}),
    wrong("no_names", {"header": False}),
    wrong("of_csv", {"format": "jsonl", "delimiter": ";"}),
    wrong("of_xml", {"format": "csv", "attribute_prefix": "@"}),
    wrong("of_zip", {"compression": "gzip", "member": "a"}),
    wrong("selector", {"format": "csv"}, data_selector="items"),
    wrong("xml_without_path", {"format": "xml"}),
    wrong("xml_filter", {"format": "xml"}, data_selector="a.b[?(@.c == 1)]"),
    wrong("link_in_body", {"format": "csv"}, paginator="json_link"),
    wrong("link_in_any_body", {}, paginator={"type": "cursor", "cursor_path": "next"}),
    wrong("graphql", {"format": "jsonl"}, graphql={"query": "{ a }"}),
)
