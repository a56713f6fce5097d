"""Orders of an API in each kind of paging, with lines below them, to be loaded in parts."""

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = ["LINES", "PAGE", "PAGING", "WALL", "PagedOrders", "paged"]

PAGE = 5
WALL = Answer({"error": "quota"}, 429, {"Retry-After": "3600"})
PAGING: dict[str, dict[str, Any]] = {
    "offset": {"type": "offset", "limit": PAGE, "total_path": "total"},
    "page": {
        "type": "page_number",
        "base_page": 1,
        "total_path": None,
        "stop_after_empty_page": True,
    },
    "link": {"type": "json_link", "next_url_path": "next"},
    "cursor": {"type": "cursor", "cursor_path": "cursor", "cursor_param": "after"},
    "header": {"type": "header_link"},
    "detected": {},
}
LINES = {
    "name": "lines",
    "primary_key": "line",
    "endpoint": {
        "path": "orders/{resources.orders.id}/lines",
        "data_selector": "data",
        "paginator": {"type": "json_link", "next_url_path": "next"},
    },
}


def paged(kind: str, **more: Any) -> dict[str, Any]:
    """The resource `orders` in a kind of paging."""
    endpoint: dict[str, Any] = {"path": "orders", "data_selector": "data"}
    if PAGING[kind]:
        endpoint["paginator"] = PAGING[kind]
    return {"name": "orders", "endpoint": {**endpoint, **more.pop("endpoint", {})}, **more}


class PagedOrders:
    """Orders in pages of five; their order and their number may change at any time.

    With `page` the pages of kinds that follow a link or a cursor have another size.
    """

    def __init__(self, api: ApiServer, rows: int, lines: int = 2, page: int = PAGE) -> None:
        self.api = api
        self.page = page
        self.rows: list[dict[str, Any]] = [
            {"id": number, "name": f"order {number}"} for number in range(rows)
        ]
        self.lines = lines
        self.requests_left = 1_000_000
        self.requests = 0
        self.refuses_places = False
        self.before: Callable[[int], None] = lambda _: None
        """Called with the number of each request before it is answered."""
        api.answers["/orders"] = self.answer
        for number in range(rows + 50):
            api.answers[f"/orders/{number}/lines"] = self.answer_lines

    def is_at_wall(self) -> bool:
        """Count a request; True if the quota is used up."""
        self.requests += 1
        self.before(self.requests)
        self.requests_left -= 1
        return self.requests_left < 0

    def answer(self, seen: Seen) -> Any:
        """A page in every kind of paging at once."""
        if self.is_at_wall():
            return WALL
        query = seen.query
        if "after" in query:
            start = int(base64.b64decode(query["after"]).decode())
        elif "page" in query:
            start = (int(query["page"]) - 1) * self.page
        else:
            start = int(query.get("offset", 0))
        if start and self.refuses_places:
            return Answer({"error": "this place has expired"}, 410)
        after = start + self.page
        page = self.rows[start:after]
        body: dict[str, Any] = {"data": page, "total": len(self.rows)}
        headers = {}
        if after < len(self.rows):
            link = f"{self.api.url}/orders?offset={after}"
            body |= {"next": link, "cursor": base64.b64encode(str(after).encode()).decode()}
            headers["Link"] = f'<{link}>; rel="next"'
        else:
            body |= {"next": None, "cursor": None}
        return Answer(body, 200, headers)

    def answer_lines(self, seen: Seen) -> Any:
        """The lines of an order, one per page."""
        if self.is_at_wall():
            return WALL
        order = int(urlsplit(seen.path).path.split("/")[2])
        at = int(seen.query.get("at", 0))
        body: dict[str, Any] = {"data": [{"line": order * 100 + at}], "next": None}
        if at + 1 < self.lines:
            body["next"] = f"{self.api.url}/orders/{order}/lines?at={at + 1}"
        return body

    @property
    def all_lines(self) -> list[int]:
        """The keys of all lines."""
        return sorted(row["id"] * 100 + at for row in self.rows for at in range(self.lines))
