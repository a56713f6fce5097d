"""The bytes of a body are read as the text that they are, and no more of them than the file allows."""

import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

import pytest

from restsource_dagster.engine.errors import ResponseError, ResponseTooLargeError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    connector_of,
    failure_of,
    items,
    rows_of,
    session_for,
)
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.faults import FaultServer, Reply

pytestmark = pytest.mark.faults(row=3)

NAMES = [{"id": 1, "name": "Müller €"}]
TEXT = json.dumps(NAMES, ensure_ascii=False)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/json", "text/html", "text/javascript", "application/json", "x", ""],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_without_a_charset_is_unicode(server: FaultServer, kind: str, encoding: str) -> None:
    server.plan["/items"] = Reply(TEXT.encode(encoding), headers={"Content-Type": kind})
    assert rows_of(server) == NAMES


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("application/json; charset=iso-8859-15", "iso-8859-15"),
        ('text/plain; charset="windows-1252"', "windows-1252"),
        ("text/plain; charset=UTF-8", "utf-8"),
        ("text/plain; charset=UTF8", "utf-8"),
        ("application/json; charset=no-such-charset", "utf-8"),
    ],
)
def test_a_charset_that_the_response_names_is_used(
    server: FaultServer, kind: str, encoding: str
) -> None:
    server.plan["/items"] = Reply(TEXT.encode(encoding), headers={"Content-Type": kind})
    assert rows_of(server) == NAMES


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8"])
def test_bytes_that_are_no_text_are_refused_and_not_guessed(server: FaultServer, kind: str) -> None:
    raw = '[{"name": "Müller"}]'.encode("latin-1")
    server.plan["/items"] = Reply(raw, headers={"Content-Type": kind})
    with pytest.raises(ResponseError, match="no text in utf-8"):
        rows_of(server)


MEGABYTE = 1_000_000
LARGE = json.dumps([{"id": 1, "text": "x" * MEGABYTE}]).encode()
SMALL = json.dumps([{"id": 1, "text": "x" * (MEGABYTE - 40)}]).encode()


def packed(raw: bytes, kind: str) -> Reply:
    made: Mapping[str, Any] = {"gzip": gzip.compress, "deflate": zlib.compress}
    body = made[kind](raw) if kind in made else raw
    return Reply(
        body,
        headers={"Content-Encoding": kind} if kind in made else {},
        unframed=kind == "unframed",
    )


@pytest.mark.parametrize("kind", ["plain", "unframed", "gzip", "deflate"])
def test_a_response_larger_than_the_limit_is_refused(server: FaultServer, kind: str) -> None:
    session = session_for(server, max_response_mb=1)
    server.plan["/items"] = packed(LARGE, kind)
    with pytest.raises(ResponseTooLargeError, match=r"resource items, page 1: .*max_response_mb"):
        rows_of(server, session=session)
    server.plan["/items"] = packed(SMALL, kind)
    assert len(rows_of(server, session=session)) == 1


def test_a_body_that_is_announced_as_too_large_is_not_read(server: FaultServer) -> None:
    # what is missing never comes: a client that reads it waits
    server.plan["/items"] = Reply([{"id": 1}], missing=2 * MEGABYTE)
    with pytest.raises(ResponseTooLargeError):
        rows_of(server, session=session_for(server, max_response_mb=1))


@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_error_page_is_limited_too(server: FaultServer, status: int) -> None:
    server.plan["/items"] = Reply(LARGE, status=status)
    with pytest.raises(ResponseTooLargeError):
        rows_of(server, session=session_for(server, max_response_mb=1))


@pytest.mark.parametrize("max_concurrency", [1, 8])
def test_only_the_resource_with_the_large_response_fails(
    server: FaultServer, settings: Settings, max_concurrency: int
) -> None:
    paginator = {"type": "offset", "limit": 2, "total_path": None}
    server.plan |= {
        "/items": packed(LARGE, "gzip"),
        "/small": [{"id": 1}],
        "/paged": page_two_large,
    }
    resources: list[Any] = [items(), {"name": "small", "endpoint": {"paginator": "single_page"}}]
    resources.append({"name": "paged", "endpoint": {"paginator": paginator}})
    http = {"max_response_mb": 1, "max_concurrency": max_concurrency}
    outcomes = load(connector_of(server.url, *resources, http=http), settings)
    assert "http.max_response_mb" in failure_of(outcomes["items"])
    assert failure_of(outcomes["paged"]).startswith("resource paged, page 2: ")
    assert query(settings, "SELECT id FROM shop.small") == [(1,)]


def page_two_large(seen: Any) -> Any:
    return [{"id": 1}, {"id": 2}] if seen.query["offset"] == "0" else packed(LARGE, "gzip")
