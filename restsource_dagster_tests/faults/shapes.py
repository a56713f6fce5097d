"""A well-behaved API that pages, filters and nests in every way."""

import json
from collections.abc import Callable
from typing import Any

from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = ["SIZE", "Row", "Shapes"]

Row = dict[str, Any]
SIZE = 3


class Shapes:
    """Ten rows, each with nested objects and, unless `flat`, lists; below each, two children."""

    def __init__(self, api: ApiServer, *, flat: bool = False) -> None:
        self.api = api
        self._flat = flat
        self.rows: list[Row] = []
        api.answers |= {
            "/links": self._links,
            "/link_headers": self._link_headers,
            "/offsets": self._offsets,
            "/pages": self._pages,
            "/cursors": self._cursors,
            "/cursor_headers": self._cursor_headers,
            "/bare": self._since,
            "/data": lambda seen: {"data": self._since(seen), "count": len(self.rows)},
            "/deep": lambda _: {"a": {"b": {"items": self.rows}}},
            "/wrapped": lambda _: {"data": [{"item": one} for one in self.rows]},
            "/single": lambda _: {"answer": self.rows[0]},
            "/words": lambda _: {"words": ["a", "b", "c"]},
            "/search": self._search,
            "/nothing": lambda _: {"data": []},
        }
        for number in range(1, 11):
            self._add(number)
        api.answers["/children"] = lambda seen: self._children(int(seen.query["row"]))(seen)

    def grow(self) -> None:
        """Two more rows, one of them with the newest cursor that was there before."""
        self._add(11, at=self.rows[-1]["at"])
        self._add(12)

    def _add(self, number: int, at: int | None = None) -> None:
        one = row(number, at, flat=self._flat)
        self.rows.append(one)
        self.api.answers[f"/rows/{number}"] = one
        self.api.answers[f"/rows/{number}/children"] = self._children(number)
        for n in (1, 2):
            self.api.answers[f"/rows/{number}/children/{n}/toys"] = [{"toy": n * number}]

    def _children(self, number: int) -> Callable[[Seen], Any]:
        return lambda _: {"kids": [{"n": n, "name": f"{number}-{n}"} for n in (1, 2)]}

    def _since(self, seen: Seen) -> list[Row]:
        since, until = int(seen.query.get("since", 0)), int(seen.query.get("until", 10**9))
        return [one for one in self.rows if since <= one["at"] < until]

    def _page(self, start: int) -> list[Row]:
        return self.rows[start : start + SIZE]

    def _links(self, seen: Seen) -> Any:
        start = int(seen.query.get("start", 0))
        following = f"{self.api.url}/links?start={start + SIZE}"
        more = start + SIZE < len(self.rows)
        return {"data": self._page(start), "paging": {"next": following if more else None}}

    def _link_headers(self, seen: Seen) -> Any:
        start = int(seen.query.get("start", 0))
        link = f'<{self.api.url}/link_headers?start={start + SIZE}>; rel="next"'
        more = start + SIZE < len(self.rows)
        return Answer(self._page(start), headers={"link": link} if more else {})

    def _offsets(self, seen: Seen) -> Any:
        start = int(seen.query.get("offset", 0))
        return {"data": self._page(start), "total": len(self.rows)}

    def _pages(self, seen: Seen) -> Any:
        page = int(seen.query.get("page", 1))
        return {"data": self._page((page - 1) * SIZE), "pages": -(-len(self.rows) // SIZE)}

    def _cursors(self, seen: Seen) -> Any:
        start = int(seen.query.get("after", 0))
        more = start + SIZE < len(self.rows)
        return {"data": self._page(start), "next": str(start + SIZE) if more else None}

    def _cursor_headers(self, seen: Seen) -> Any:
        start = int(seen.query.get("after", 0))
        more = start + SIZE < len(self.rows)
        return Answer(self._page(start), headers={"x-next": str(start + SIZE)} if more else {})

    def _search(self, seen: Seen) -> Any:
        asked = json.loads(seen.body)
        start = int(asked.get("offset", 0))
        rows = [one for one in self.rows if one["at"] >= int(asked.get("since", 0))]
        return {"data": rows[start : start + SIZE], "total": len(rows)}


def row(number: int, at: int | None = None, *, flat: bool = False) -> Row:
    lists = {
        "tags": [f"tag {number}", "all"],
        "parts": [{"part": part, "size": {"cm": part}} for part in range(number % 3)],
    }
    return {
        "id": number,
        "at": number if at is None else at,
        "name": f"name {number}",
        "flag": number % 2 == 0,
        "price": number / 4,
        "nothing": None,
        "place": {"city": "Rome", "geo": {"x": number, "y": 0.5}},
        **({} if flat else lists),
    }
