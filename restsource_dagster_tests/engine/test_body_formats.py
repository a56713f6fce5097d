"""Responses that are no plain JSON: CSV, JSON lines and XML, also packed, also broken in the middle."""

import gzip
import io
import threading
import zipfile
from collections.abc import Mapping
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest
import requests

from restsource_dagster.engine.http.body_file import BodyFile
from restsource_dagster.engine.http.cancellation import Deadline
from restsource_dagster.engine.http.json_body import ApiResponse
from restsource_dagster.engine.paging.file_records import FileFormat, FileRecords
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

CSV = b'id,zip,note\n1,01234,"a, ""b"""\n2,90210,\n3,,""\n'
JSONL = b'{"id": 1, "zip": "01234"}\n\n{"id": 2, "lines": [{"n": 1}]}\n'
XML = (
    b'<?xml version="1.0"?><feed><count>2</count><orders>'
    b'<order id="1"><zip>01234</zip></order><order id="2"><zip/></order></orders></feed>'
)


def file(body: bytes, content_type: str = "application/octet-stream", **headers: str) -> Answer:
    return Answer(body, headers={"content-type": content_type, **headers})


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return packed.getvalue()


def resource(name: str, response: Mapping[str, Any], **endpoint: Any) -> dict[str, Any]:
    """A resource that is replaced; its path is its name."""
    return {
        "name": name,
        "write_disposition": "replace",
        "endpoint": {"path": name, "response": dict(response), **endpoint},
    }


def run(
    api: ApiServer, settings: Settings, *resources: Mapping[str, Any], **client: Any
) -> Mapping[str, Outcome]:
    return load(make_connector(api.url, *resources, client=client), settings)


def rows(settings: Settings, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    return query(settings, f"SELECT {columns} FROM shop.{table} ORDER BY 1")


def failures(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    return {name: one.failure.message for name, one in outcomes.items() if one.failure}


@pytest.mark.parametrize("mode", ["rows", "columnar"])
def test_each_format_is_read_packed_or_not(api: ApiServer, settings: Settings, mode: str) -> None:
    csv_rows = [("1", "01234", 'a, "b"'), ("2", "90210", None), ("3", None, "")]
    given: dict[str, tuple[Answer, dict[str, Any]]] = {
        "plain": (file(CSV, "text/csv; charset=utf-8"), {}),
        "gz": (file(gzip.compress(CSV)), {"format": "csv"}),
        "encoded": (
            file(gzip.compress(CSV), "text/csv", **{"content-encoding": "gzip"}),
            {"compression": "gzip"},
        ),
        "zip": (file(zipped(**{"a.csv": CSV})), {}),
        "utf_16": (file(CSV.decode().encode("utf-16")), {"format": "csv"}),
        "marked": (file(b"\xef\xbb\xbf" + CSV, "text/csv"), {}),
        "tabs": (
            file(CSV.replace(b"a,", b"a;").replace(b",", b"\t"), "text/tab-separated-values"),
            {},
        ),
        "semicolons": (
            file(b"Report\n" + CSV.replace(b"a,", b"a:").replace(b",", b";"), "text/csv"),
            {"delimiter": ";", "skip_lines": 1},
        ),
        "headless": (
            file(CSV.partition(b"\n")[2], "text/csv"),
            {"header": False, "column_names": ["id", "zip", "note"]},
        ),
    }
    if mode == "columnar":  # what it is given are rows, however they came
        given = {name: given[name] for name in ("plain", "gz")}
    made = []
    for name, (answer, response) in given.items():
        api.answers[f"/{name}"] = answer
        made.append(resource(name, response) | {"mode": mode})
    lines = {"lines_plain": JSONL, "lines_gz": gzip.compress(JSONL)}
    for name, body in lines.items():
        api.answers[f"/{name}"] = file(body, "application/x-ndjson")
        made.append(resource(name, {}) | {"mode": mode})
    for name, body in {"xml_plain": XML, "xml_zip": zipped(**{"o.xml": XML})}.items():
        api.answers[f"/{name}"] = file(body, "application/xml")
        made.append(resource(name, {}, data_selector="feed.orders.order[*]") | {"mode": mode})
    api.answers["/json"] = file(gzip.compress(b'{"items": [{"id": 1}]}'))
    made.append(resource("json", {"format": "json"}) | {"mode": mode})
    api.answers["/quoted"] = file(b'"last, first"\n"Doe, Ann"\n', "text/csv")
    made.append(resource("quoted", {}) | {"mode": mode})
    assert failures(run(api, settings, *made)) == {}
    assert rows(settings, "quoted", "last_first") == [("Doe, Ann",)]
    for name in given:
        expected = [
            (
                *row[:2],
                row[2] and row[2].replace(",", {"tabs": ";", "semicolons": ":"}.get(name, ",")),
            )
            for row in csv_rows
        ]
        assert rows(settings, name, "id, zip, note") == expected, name
    for name in lines:
        assert rows(settings, name, "id, zip") == [(1, "01234"), (2, None)]
    for name in ("xml_plain", "xml_zip"):
        assert rows(settings, name, "_id, zip") == [("1", "01234"), ("2", None)]
    assert rows(settings, "json", "id") == [(1,)]


def test_a_body_that_is_broken_fails_with_its_place(api: ApiServer, settings: Settings) -> None:
    many = b"".join(b"%d,x,y\n" % number for number in range(50_000))
    numbers = b"".join(b'{"id": %d}\n' % number for number in range(50_000))
    broken: dict[str, tuple[bytes, dict[str, Any], str]] = {
        "few_values": (b"id,a,b\n" + many + b"7,x\n", {"format": "csv"}, "row 50002 has 2 values"),
        "open_quote": (b'id,a\n1,"x\n2,y\n', {"format": "csv"}, "inside of a quoted value"),
        "same_name": (b"id,a,a\n1,2,3\n", {"format": "csv"}, "two columns are named 'a'"),
        "semicolons": (b"id;a\n1;2\n", {"format": "csv"}, 'Set response.delimiter to ";"'),
        "no_name": (b"id,\n1,2\n", {"format": "csv"}, "column 2 has no name"),
        "latin": (b"id,a\n1,K\xf6ln\n", {"format": "csv"}, "byte 8 is no text in utf-8"),
        "lines": (numbers + b'{"id": 5\n', {"format": "jsonl"}, "line 50001 is not JSON"),
        "list": (b"[1]\n", {"format": "jsonl"}, "line 1 is no JSON object"),
        "cut": (gzip.compress(CSV * 50)[:-9], {"format": "csv"}, "ends in its middle, after byte"),
        "bent": (
            gzip.compress(CSV)[:-8] + b"00000000",
            {"format": "csv"},
            "broken (CRC check failed",
        ),
        "zip": (
            zipped(**{"a.csv": CSV, "b.txt": b"x"}),
            {"format": "csv"},
            "2 files (a.csv, b.txt)",
        ),
        "no_member": (zipped(**{"a.csv": CSV}), {"member": "x*"}, "no file of the zip fits"),
        "bomb": (
            zipped(**{"a.csv": b"id\n" + b"1\n" * 1_000_000}),
            {"max_mb": 1},
            "larger than 1 MB unpacked of a.csv",
        ),
        "empty": (b"", {"format": "csv"}, '"allow_empty": true'),
        "unknown": (b"x", {}, "set response.format"),
    }
    xmls = {
        "open_tag": (XML[:-15], "line 1, column"),
        "other_root": (b"<error><code>5</code></error>", "finds nothing; the file has error"),
        "failed": (b"<feed><status>error</status><orders/></feed>", "something failed"),
        "texts": (b"<feed><orders><order>5</order></orders></feed>", "so it is no record"),
        "entities": (b'<!DOCTYPE f [<!ENTITY a "b">]><feed/>', "declares entities"),
    }
    made = []
    for name, (body, response, _) in broken.items():
        api.answers[f"/{name}"] = file(body)
        made.append(resource(name, response))
    for name, (body, _) in xmls.items():
        api.answers[f"/{name}"] = file(body)
        made.append(resource(name, {"format": "xml"}, data_selector="feed.orders.order"))
    api.answers["/untold"] = file(CSV, "text/csv")
    untold = {"name": "untold", "write_disposition": "replace", "endpoint": "untold"}
    said = failures(run(api, settings, *made, untold))
    expected = {name: text for name, (_, _, text) in broken.items()}
    expected |= {name: text for name, (_, text) in xmls.items()}
    expected["untold"] = 'set "response": {"format": "csv"}'
    assert {
        name: text for name, text in expected.items() if text not in said.get(name, "")
    } == {}, said


def test_files_without_rows_have_none(api: ApiServer, settings: Settings) -> None:
    api.answers |= {
        "/header": file(b"id,a\n"),
        "/nothing": file(b""),
        "/xml": file(b"<a><b/></a>"),
    }
    outcomes = run(
        api,
        settings,
        resource("header", {"format": "csv"}),
        resource("nothing", {"format": "jsonl", "allow_empty": True}),
        resource("xml", {"format": "xml"}, data_selector="a.b.c"),
    )
    assert failures(outcomes) == {}
    assert [one.rows_loaded for one in outcomes.values()] == [0, 0, 0]


def test_pages_of_files_are_read_to_the_last(api: ApiServer, settings: Settings) -> None:
    def by_number(seen: Seen) -> Answer:
        page = int(seen.query["page"])
        return file(
            b"id\n" + (b"%d\n%d\n" % (page * 2, page * 2 + 1) if page < 3 else b""), "text/csv"
        )

    def by_offset(seen: Seen) -> Answer:
        first = int(seen.query["offset"])
        lines = [f'{{"id": {n}}}\n' for n in range(first, min(first + 2, 5))]
        return file("".join(lines).encode(), "application/jsonl")

    def by_link(seen: Seen) -> Answer:
        page = int(seen.query.get("page", 0))
        link = {"link": f'<{api.url}/linked?page={page + 1}>; rel="next"'} if page < 2 else {}
        return file(b"id\n%d\n" % page, "text/csv", **link)

    def by_xml(seen: Seen) -> Answer:
        page = int(seen.query.get("page", 0))
        following = f"<next>?page={page + 1}</next>" if page < 2 else "<next/>"
        return file(f"<r><row><id>{page}</id></row>{following}</r>".encode(), "text/xml")

    api.answers |= {
        "/numbered": by_number,
        "/offset": by_offset,
        "/linked": by_link,
        "/xml": by_xml,
    }
    xml = {"data_selector": "r.row", "paginator": {"type": "json_link", "next_url_path": "r.next"}}
    outcomes = run(
        api,
        settings,
        resource("numbered", {"format": "csv"}, paginator="page_number"),
        resource(
            "offset",
            {"format": "jsonl", "allow_empty": True},
            paginator={"type": "offset", "limit": 2},
        ),
        resource("linked", {}, paginator="header_link"),
        resource("xml", {"format": "xml"}, **xml),
    )
    assert failures(outcomes) == {}
    assert [one.rows_loaded for one in outcomes.values()] == [6, 5, 3, 3]


def test_a_download_that_breaks_is_repeated_and_no_row_comes_twice(
    api: ApiServer, settings: Settings
) -> None:
    body = b"id\n" + b"".join(b"%d\n" % number for number in range(30_000))
    asked = []

    def answer(seen: Seen) -> Answer:
        asked.append(seen)
        sent = body[: len(body) // 2] if len(asked) == 1 else body
        return file(sent, "text/csv", **{"content-length": str(len(body))})

    api.answers["/events"] = answer
    events = resource("events", {}) | {"write_disposition": "append"}
    outcomes = run(api, settings, events)
    assert failures(outcomes) == {}
    assert len(asked) == 2
    assert rows(settings, "events", "count(*), count(DISTINCT id)") == [(30_000, 30_000)]


def test_dependents_and_cursors_work_with_files(api: ApiServer, settings: Settings) -> None:
    def lines(seen: Seen) -> Answer:
        return file(f"n\n{seen.path[-1]}0\n{seen.path[-1]}1\n".encode(), "text/csv")

    api.answers |= {
        "/orders": file(b'{"id": 1, "at": 5}\n{"id": 2, "at": 7}\n', "application/jsonl"),
        "/lines/1": lines,
        "/lines/2": lines,
    }
    orders = {
        "name": "orders",
        "primary_key": "id",
        "endpoint": {
            "path": "orders",
            "response": {},
            "incremental": {"cursor_path": "at", "initial_value": 0, "start_param": "since"},
        },
    }
    below = {
        "name": "lines",
        "primary_key": "n",
        "include_from_parent": ["id"],
        "endpoint": {"path": "lines/{resources.orders.id}", "response": {}},
    }
    assert failures(run(api, settings, orders, below)) == {}
    assert failures(run(api, settings, orders, below)) == {}
    assert [seen.query["since"] for seen in api.asked("/orders")] == ["0", "7"]
    assert rows(settings, "lines", "n, _orders_id") == [
        ("10", 1),
        ("11", 1),
        ("20", 2),
        ("21", 2),
    ]


def test_a_load_in_parts_ends_between_two_files(api: ApiServer, settings: Settings) -> None:
    """Each file has two batches, and each order one line: a checkpoint is due all the time."""
    per_page, pages = 10_500, 2

    def orders(seen: Seen) -> Answer:
        page = int(seen.query["page"])
        ids = range(page * per_page, (page + 1) * per_page) if page < pages else ()
        return file(b"id,group\n" + b"".join(b"%d,%d\n" % (n, n // 3_000) for n in ids), "text/csv")

    api.answers["/orders"] = orders
    for group in range(7):
        api.answers[f"/groups/{group}"] = [{"n": group}]
    root = {
        "name": "orders",
        "write_disposition": "append",
        "endpoint": {"path": "orders", "response": {}, "paginator": "page_number"},
    }
    below = {
        "name": "groups",
        "write_disposition": "append",
        "endpoint": {"path": "groups/{resources.orders.group}"},
    }
    used = settings.model_copy(update={"checkpoint_seconds": 0.0})
    outcomes = load(make_connector(api.url, root, below), used)
    assert failures(outcomes) == {}
    assert outcomes["orders"].checkpoints > 0
    assert rows(settings, "orders", "count(*), count(DISTINCT id)") == [(21_000, 21_000)]
    assert rows(settings, "groups", "count(*), count(DISTINCT n)") == [(7, 7)]


def test_a_value_that_is_refused_is_told_by_its_row_in_the_file(
    api: ApiServer, settings: Settings
) -> None:
    body = b"".join(b'{"id": %d}\n' % number for number in range(25_000)) + b'{"id": 1, "id": 2}\n'
    api.answers["/events"] = file(body, "application/jsonl")
    said = failures(run(api, settings, resource("events", {}) | {"mode": "rows"}))
    assert "page 1, row 25001, field id" in said["events"]


def test_a_column_of_numbers_is_text_unless_the_file_declares_its_type(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = file(b"id,qty\n1,12\n2,7\n", "text/csv")
    typed = resource("orders", {}) | {"columns": {"qty": {"data_type": "bigint"}}}
    assert failures(run(api, settings, typed)) == {}
    assert rows(settings, "orders", "id, qty") == [("1", 12), ("2", 7)]


def test_a_download_gets_the_time_of_an_exchange_for_each_megabyte() -> None:
    seconds = 61.25

    def timers() -> set[threading.Thread]:
        """Those of the deadline that are not over."""
        return {
            one
            for one in threading.enumerate()
            if isinstance(one, threading.Timer)
            and one.interval == seconds
            and not one.finished.is_set()
        }

    stored, response = BodyFile(None), ApiResponse()
    response.raw = io.BytesIO(b"x" * 3_500_000)
    with Deadline(seconds) as deadline:
        used = [timers()]

        def renew() -> None:
            deadline.renew()
            used.append(timers())

        response.store_body(stored, renew)
    stored.close()
    # one at a time, and another one after each megabyte
    assert [len(one) for one in used] == [1, 1, 1, 1]
    assert len(set.union(*used)) == 4


def test_a_file_is_read_in_bounded_memory() -> None:
    line = b'{"id": 1, "text": "' + b"x" * 2_000 + b'"}\n'
    stored = BodyFile(None)
    packed = gzip.compress(line * 1_000, 1)
    for _ in range(100):
        stored.write(packed)  # a gzip of several parts is one file
    response = requests.Response()
    response.headers["Content-Type"] = "application/jsonl"
    records = FileRecords(response, stored, FileFormat())
    before = getrusage(RUSAGE_SELF).ru_maxrss
    count = 0
    while batch := records.next_batch():
        count += len(batch)
    grown = (getrusage(RUSAGE_SELF).ru_maxrss - before) // 1_000
    records.close()
    assert count == 100_000
    assert grown < 100, f"{grown} MB for a file of 200 MB"
