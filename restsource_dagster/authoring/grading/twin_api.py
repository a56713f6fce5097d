"""The twin of an API: an HTTP server on 127.0.0.1 with known rows and chosen faults.

Each of its tables is one resource under one attack, at a path of its own.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from restsource_dagster.authoring.grading.attacks import Attack, Fault
from restsource_dagster.authoring.grading.twin_rows import TwinRow, TwinShape, place_value, value_at
from restsource_dagster.connector.models.auth import ApiKeyAuth, BearerAuth, HttpBasicAuth

__all__ = ["FIRST_ROWS", "SECRET", "SINCE_PARAM", "PagingForm", "TwinServer", "TwinTable"]

SINCE_PARAM = "twin_since"
"""The param in which a load tells the start of its cursor, beside those of the file."""
SECRET = "twin-secret"  # noqa: S105 - what the twin's own login takes
_PLACE_PARAM = "twin_place"
_PAGE_SIZE = 5
FIRST_ROWS = 12
_HOLD_SECONDS = 30.0
_MAX_REQUESTS = 300
"""Of one table: a load that asks for more goes on for ever."""


@dataclass(frozen=True)
class PagingForm:
    """How the twin pages, and where its answers say what."""

    kind: str
    """`page`, `offset`, `cursor`, `link`, `header_link`, `header_cursor` or `single`."""
    param: str = ""
    first: int = 0
    """The number of the first page."""
    is_positional: bool = True
    """True if a page is a range of places, so that rows move when others come or go."""
    next_path: str = ""
    last_field: str = ""
    """A field whose value in the last record of a page asks for the next one, in place of `next_path`."""
    next_header: str = ""
    relation: str = "next"
    total_path: str | None = None
    total_header: str | None = None
    has_more_path: str | None = None
    end_path: str | None = None
    records_path: str = ""
    """Empty: the answer is the list of records."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False


@dataclass
class TwinTable:
    """A resource under an attack: its truth, and how it answers."""

    name: str
    shape: TwinShape
    paging: PagingForm
    attack: Attack
    order: str | None = None
    """`asc` or `desc` by cursor; None: by number."""
    filters: bool = False
    """True if a request says from where on it wants rows."""
    since_param: str = SINCE_PARAM
    first_rows: int = FIRST_ROWS
    """How many rows there are in each list at first."""
    above: "TwinTable | None" = None
    """The table of the parent: there is a list of rows below each of its rows."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """The numbers of the rows of `above`, by the value with which a request names one."""
    group_at: int | str = -1
    """Where a request has that value: the index of a part of its path, or the name of a param."""
    group: int = 0
    """The list that is asked for, or that changes: the number of its row in `above`; 0 without a parent."""
    rows: dict[int, TwinRow] = field(default_factory=dict)
    requests: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    """Set while an answer waits for the death of who asked."""
    released: threading.Event = field(default_factory=threading.Event)
    _has_fired: bool = False
    _sent: dict[str, str] = field(default_factory=dict)
    """The place of the last row of each page, by its `last_field`."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        lists = sorted(set(self.groups.values())) or [0]
        for number in range(1, self.first_rows * len(lists) + 1):
            # without an order of the answers, the newest row is not the last one
            place = number if self.order or self.shape.key_is_cursor else (number * 7) % 13
            self.rows[number] = TwinRow(number, 2 * place, group=lists[number % len(lists)])
        if not self.shape.key_is_cursor:
            # two rows of the newest moment: there are ties at the boundary from the start on
            newest = self.newest
            second = max(row.id for row in self.rows.values() if row.at == newest - 2)
            self.rows[second] = replace(self.rows[second], at=newest)

    @property
    def newest(self) -> int:
        """The place in time of the newest row."""
        return max(row.at for row in self.rows.values())

    def add(self, at: int, *, first: bool = False) -> None:
        """Add a row; `first` in the order of answers that have none by time."""
        numbers = list(self.rows)
        # rows without an order by time come by number
        number = min(numbers) - 1 if first and self.order is None else max(numbers) + 1
        self.rows[number] = TwinRow(number, at, group=self.group)

    def change_after_first_load(self) -> None:
        """Change the truth between two loads, if the attack does."""
        with self._lock:
            if self.attack.between is not None:
                self.group = self._changing_list()
                self.attack.between(self)

    def _changing_list(self) -> int:
        """Return the list that changes between two loads."""
        above = self.above
        if above is None:
            return 0
        if above.shape.cursor is not None:
            # below a row that has not changed for long: a load asks for the changed ones only
            return min(above.rows.values(), key=lambda row: row.at).id
        if above.above is not None:
            list_above = above._changing_list()
            return next(row.id for row in above.rows.values() if row.group == list_above)
        return max(self.rows.values(), key=lambda row: (row.at, row.id)).group

    def ordered(self, group: int) -> list[TwinRow]:
        """Return the rows of a list in the order of the answers."""
        sign = -1 if self.order == "desc" else 1
        rows = (row for row in self.rows.values() if row.group == group)
        return sorted(rows, key=lambda row: self._place(row, sign))

    def _place(self, row: TwinRow, sign: int = 1) -> tuple[int, int]:
        return (sign * row.at if self.order else 0, row.id)

    def _row_above(self, path: str, query: Mapping[str, str]) -> str:
        if isinstance(self.group_at, str):
            return query.get(self.group_at, "")
        return unquote(path.split("/")[self.group_at])

    def answer(self, path: str, query: Mapping[str, str], base_url: str) -> _Answer:
        """Return the answer to a request."""
        with self._lock:
            self.requests += 1
            if self.requests > _MAX_REQUESTS:
                return _Answer(403, {"message": "the twin has answered often enough"})
            if self.groups:
                found = self.groups.get(self._row_above(path, query))
                if found is None:
                    return _Answer(404, {"message": "there is no such row above"})
                self.group = found
            start = self._start(query)
            # an attack is on the second page: by then rows have been read
            is_second = start != self._first_place or self.paging.kind == "single"
            fault = self._fire() if is_second else None
            if fault == "429":
                return _Answer(429, {"message": "slow down"}, {"Retry-After": "1"})
            if fault == "500":
                return _Answer(500, {"message": "sorry"})
            made = self._page(path, query, start, base_url, fault)
        if fault == "hold":
            # outside of the lock: other requests go on while this one hangs
            self.held.set()
            self.released.wait(_HOLD_SECONDS)
        return made

    def _fire(self) -> Fault | None:
        """Let the attack happen, once; a next page that is stuck stays so."""
        if self._has_fired:
            return "stuck" if self.attack.fault == "stuck" else None
        self._has_fired = True
        if self.attack.while_paging is not None:
            self.attack.while_paging(self)
        return self.attack.fault

    @property
    def _first_place(self) -> str:
        return "0" if self.paging.is_positional else ""

    def _start(self, query: Mapping[str, str]) -> str:
        """Return where the page starts: a number, or the place of the row before it."""
        paging = self.paging
        if paging.kind == "page":
            number = int(query.get(paging.param, paging.first)) - paging.first
            return str(number * _PAGE_SIZE)
        if paging.kind == "offset":
            return str(int(query.get(paging.param, 0)))
        name = paging.param if paging.kind in ("cursor", "header_cursor") else _PLACE_PARAM
        start = query.get(name, self._first_place)
        return self._sent.get(start, start)

    def _page(
        self,
        path: str,
        query: Mapping[str, str],
        start: str,
        base_url: str,
        fault: Fault | None,
    ) -> _Answer:
        rows = self._wanted(query)
        at = self._index(rows, start)
        size = len(rows) if self.paging.kind == "single" else _PAGE_SIZE
        if fault == "repeat":
            # the rows of the page before; what follows is then the page that was asked for
            page, at_next = rows[max(0, at - size) : at], at
            if self.paging.kind in ("page", "offset"):
                at_next = at + size
        elif fault == "stuck":
            page, at_next = rows[size : 2 * size], size
        else:
            page, at_next = rows[at : at + size], at + size
        has_more = fault == "stuck" or at_next < len(rows)
        place = start if fault == "stuck" else self._place_before(rows, at_next)
        return self._written(
            page, len(rows), place if has_more else None, path, query, base_url, fault == "cut"
        )

    def _wanted(self, query: Mapping[str, str]) -> list[TwinRow]:
        cursor, text = self.shape.cursor, query.get(self.since_param, "")
        rows = self.ordered(self.group)
        # a first load has no start, and Python writes it so
        if not self.filters or cursor is None or text in ("", "None"):
            return rows
        bound = cursor.read(text)
        return rows if bound is None else [row for row in rows if cursor.key(row.at) >= bound]

    def _index(self, rows: list[TwinRow], start: str) -> int:
        if self.paging.is_positional:
            return int(start)
        if not start:
            return 0
        at, number = map(int, start.split("."))
        sign = -1 if self.order == "desc" else 1
        before = self._place(TwinRow(number, at), sign)
        # the row itself may be gone by now, and its place is still known
        return sum(self._place(row, sign) <= before for row in rows)

    def _place_before(self, rows: list[TwinRow], index: int) -> str:
        if self.paging.is_positional:
            return str(index)
        row = rows[min(index, len(rows)) - 1] if rows else TwinRow(0, 0)
        return f"{row.at}.{row.id}"

    def _written(
        self,
        page: Iterable[TwinRow],
        total: int,
        place: str | None,
        path: str,
        query: Mapping[str, str],
        base_url: str,
        is_cut: bool,
    ) -> _Answer:
        paging = self.paging
        page = list(page)
        records = [self.shape.record(row) for row in page]
        if paging.last_field and page:
            last = value_at(records[-1], paging.last_field)
            self._sent[str(last)] = f"{page[-1].at}.{page[-1].id}"
        body: Any = records
        # rounded up
        pages = -(-total // _PAGE_SIZE)
        said = pages if paging.kind == "page" else total
        link = f"{base_url}{path}?{urlencode({**query, _PLACE_PARAM: place or ''})}"
        if paging.records_path:
            body = {}
            place_value(body, paging.records_path, records)
            fields: dict[str | None, Any] = {
                paging.total_path: said,
                paging.has_more_path: place is not None,
                paging.end_path: place is None,
            }
            if paging.next_path:
                following = place if paging.kind == "cursor" else link
                fields[paging.next_path] = following if place is not None else None
            for at, value in fields.items():
                if at:
                    place_value(body, at, value)
        headers = {paging.total_header: str(said)} if paging.total_header else {}
        if place is not None and paging.kind == "header_link":
            header = paging.next_header
            headers[header or "Link"] = link if header else f'<{link}>; rel="{paging.relation}"'
        if place is not None and paging.kind == "header_cursor":
            headers[paging.next_header] = place
        return _Answer(200, body, headers, is_cut)


class TwinServer:
    """Serves tables on 127.0.0.1, at a free port, while it is open as a context."""

    def __init__(self, tables: Iterable[TwinTable], auth: Any, is_over: Callable[[], bool]) -> None:
        """Serve tables to whom has a login, and refuse every request once `is_over` returns True."""
        self.tables = {table.name: table for table in tables}
        self._auth = auth
        self._is_over = is_over
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for table in self.tables.values():
            # else the shutdown would wait for the requests that are held
            table.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        twin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                # a client that is killed while it waits has closed the connection
                with suppress(OSError):
                    self._send(twin.answer(parts.path, query, dict(self.headers)))

            def _send(self, answer: _Answer) -> None:
                raw = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw[: len(raw) // 2] if answer.is_cut else raw)
                # the announced length does not come: only the end of the connection says so
                self.close_connection = self.close_connection or answer.is_cut

            def handle(self) -> None:
                # a client that keeps its connection open also ends it so
                with suppress(ConnectionError):
                    super().handle()

            def log_message(self, *_: object) -> None:
                """Write nothing: the engine says what it asks for."""

        return Handler

    def answer(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> _Answer:
        """Return the answer of a table to whom has the login that the file names."""
        if self._is_over():
            return _Answer(403, {"message": "the grade is over"})
        # the name of a table is the first part of each path
        table = self.tables.get(path.split("/")[1])
        if table is None:
            return _Answer(404, {"message": "there is no such table"})
        # a file that sends its login to the wrong place fails here, as it does at the API
        if not _is_login(self._auth, query, {name.lower(): headers[name] for name in headers}):
            return _Answer(401, {"message": "who are you?"})
        return table.answer(path, query, self.url)


def _is_login(auth: Any, query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    sent = headers.get("authorization", "")
    if isinstance(auth, BearerAuth):
        return sent == f"Bearer {SECRET}"
    if isinstance(auth, HttpBasicAuth):
        pair = base64.b64encode(f"{SECRET}:{SECRET}".encode()).decode()
        return sent == f"Basic {pair}"
    if isinstance(auth, ApiKeyAuth):
        name = auth.name or "Authorization"
        if auth.location == "cookie":
            return f"{name}={SECRET}" in headers.get("cookie", "")
        place = query if auth.location in ("query", "param") else headers
        return place.get(name if place is query else name.lower()) == SECRET
    return True
