"""The API of all measurements. It is fast enough that no contestant waits for it.

`python -m benchmarks.server --rows 200000` renders the records, prints its port on a line and serves
until its standard input ends. That happens when the process that started it ends.

The path of a request has all its settings, so one server serves every case:

    /{rows}/{page_size}/{latency_ms}/{resource}/{style}

| style | parameters | the response has |
|---|---|---|
| `page` | `page`, from 1 | `total_pages`, `total`, `has_more` |
| `endless` | `page`, from 1 | nothing: the page after the last one is empty |
| `offset` | `offset`, a multiple of the page size | `total` |
| `cursor` | `cursor` | `next_cursor`, null on the last page |
| `link` | `page`, from 1 | `next`, a URL, null on the last page |
| `parents` | none | all records in one page, no total |
| `{id}/children` | none | the children of one parent |

`/requests` returns the number of requests since the last request of `/requests`. All resources have
the same records.
"""

import argparse
import asyncio
import json
import socket
import sys
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from benchmarks.records import child_page, rendered

__all__ = ["Api", "main"]

HOST = "127.0.0.1"
_CHUNK = 100
"""How many records are rendered together, and sent as they are if all of them are asked for."""
_RENDERED_ROWS = 1_000_000
"""How many records are rendered before the first request; the others take their time when asked for."""


@dataclass(frozen=True)
class _Asked:
    """The settings in the path of a request."""

    rows: int
    size: int
    resource: str
    style: str
    base: str


class Api:
    """Returns responses by path: a status, a body in pieces, and seconds to wait before it is sent."""

    def __init__(self, rows: int) -> None:
        rows = min(rows, _RENDERED_ROWS)
        self._chunks = [rendered(first, _CHUNK) for first in range(1, rows + 1, _CHUNK)]
        self._children: dict[int, bytes] = {}
        self.requests = 0

    def answer(self, target: str, host: str) -> tuple[int, list[bytes], float]:
        """Return the response to a GET of `target`."""
        url = urlsplit(target)
        if url.path == "/requests":
            counted, self.requests = self.requests, 0
            return 200, [b"%d" % counted], 0.0
        self.requests += 1
        try:
            rows, size, latency, resource, *style = url.path.strip("/").split("/")
            base = f"http://{host}{url.path}"
            asked = _Asked(int(rows), int(size), resource, "/".join(style), base)
            return 200, self._body(asked, parse_qs(url.query)), int(latency) / 1_000
        except (ValueError, KeyError) as error:
            return 404, [json.dumps({"error": f"{target}: {error!r}"}).encode()], 0.0

    def _body(self, asked: _Asked, query: dict[str, list[str]]) -> list[bytes]:
        if asked.style.endswith("/children"):
            return [self._child(int(asked.style.split("/")[0]))]
        if asked.style == "parents":
            return [b'{"data":[', *self._rows(0, asked.rows), b"]}"]
        given = {key: int(values[0]) for key, values in query.items()}
        pages = -(-asked.rows // asked.size)
        first = given.get("cursor", given.get("offset", (given.get("page", 1) - 1) * asked.size))
        page = first // asked.size + 1
        count = max(0, min(asked.size, asked.rows - first))
        tail = self._tail(asked, first, page, pages)
        return [b'{"data":[', *self._rows(first, count), b"]", tail, b"}"]

    @staticmethod
    def _tail(asked: _Asked, first: int, page: int, pages: int) -> bytes:
        following = first + asked.size
        styles: dict[str, dict[str, object]] = {
            "page": {"total": asked.rows, "total_pages": pages, "has_more": page < pages},
            "endless": {},
            "offset": {"total": asked.rows},
            "cursor": {"next_cursor": following if following < asked.rows else None},
            "link": {"next": f"{asked.base}?page={page + 1}" if page < pages else None},
        }
        more = styles[asked.style]
        return b"," + json.dumps(more)[1:-1].encode() if more else b""

    def _rows(self, first: int, count: int) -> list[bytes]:
        """Return `count` records from index `first`, with commas between them."""
        pieces: list[bytes] = []
        end = first + count
        while first < end:
            number, skipped = divmod(first, _CHUNK)
            size = min(_CHUNK - skipped, end - first)
            whole = size == _CHUNK and number < len(self._chunks)
            pieces += [self._chunks[number] if whole else rendered(first + 1, size), b","]
            first += size
        return pieces[:-1]

    def _child(self, parent: int) -> bytes:
        if parent not in self._children:
            self._children[parent] = child_page(parent)
        return self._children[parent]


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for clients that send one request after the other."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=16 * 2**20)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" not in self._received:
            return
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        status, pieces, latency = self._api.answer(first.split(" ")[1], headers["host"])
        if latency:
            asyncio.get_running_loop().call_later(latency, self._send, status, pieces)
        else:
            self._send(status, pieces)

    def _send(self, status: int, pieces: list[bytes]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        body = b"".join(pieces)
        head = (
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not Found'}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)


async def _serve(rows: int) -> None:
    api = Api(rows)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(api), HOST, 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, required=True, help="the most records of one resource")
    asyncio.run(_serve(parser.parse_args().rows))


if __name__ == "__main__":
    main()
