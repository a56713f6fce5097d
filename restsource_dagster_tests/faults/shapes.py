"""A well-behaved API that pages, filters and nests in every way, and resources that read it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = ["CHILDREN", "CURSORS", "PAGES", "SELECTORS", "Shapes"]

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


def _resource(name: str, path: str, selector: str | None = None, **endpoint: Any) -> Row:
    more = {"data_selector": selector} if selector else {}
    hints = {key: endpoint.pop(key) for key in list(endpoint) if key in _HINTS}
    hints.setdefault("write_disposition", "replace")
    return {"name": name, "endpoint": {"path": path, **more, **endpoint}, **hints}


_HINTS = ("write_disposition", "primary_key", "include_from_parent", "parallelized")


def _pages() -> Iterator[Row]:
    shapes: dict[str, tuple[str, str | None, Any]] = {
        "json_link": ("links", "data", {"type": "json_link", "next_url_path": "paging.next"}),
        "detected_link": ("links", "data", None),
        "header_link": ("link_headers", None, "header_link"),
        "detected_header": ("link_headers", None, "auto"),
        "offset": ("offsets", "data", {"type": "offset", "limit": SIZE, "total_path": "total"}),
        "offset_without_total": (
            "offsets",
            "data",
            {"type": "offset", "limit": SIZE, "total_path": None},
        ),
        "offset_up_to": (
            "offsets",
            "data",
            {"type": "offset", "limit": SIZE, "total_path": None, "maximum_offset": 6},
        ),
        "page_number": (
            "pages",
            "data",
            {"type": "page_number", "base_page": 1, "total_path": "pages"},
        ),
        "page_without_total": (
            "pages",
            "data",
            {"type": "page_number", "base_page": 1, "total_path": None},
        ),
        "cursor": (
            "cursors",
            "data",
            {"type": "cursor", "cursor_path": "next", "cursor_param": "after"},
        ),
        "header_cursor": (
            "cursor_headers",
            None,
            {"type": "header_cursor", "cursor_key": "x-next", "cursor_param": "after"},
        ),
        "single_page": ("data", "data", "single_page"),
    }
    for name, (path, selector, paginator) in shapes.items():
        more = {"paginator": paginator} if paginator else {}
        yield _resource(name, path, selector, **more)
    yield _resource(
        "offset_in_body",
        "search",
        "data",
        method="POST",
        json={"all": True},
        paginator={
            "type": "offset",
            "limit": SIZE,
            "total_path": "total",
            "offset_body_path": "offset",
            "limit_body_path": "limit",
        },
    )


PAGES = list(_pages())
SELECTORS = [
    _resource("bare", "bare"),
    _resource("root", "bare", "$"),
    _resource("detected", "data"),
    _resource("plain", "data", "data"),
    _resource("starred", "data", "data[*]"),
    _resource("deep", "deep", "a.b.items"),
    _resource("detected_deep", "deep"),
    _resource("wrapped", "wrapped", "data[*].item"),
    _resource("single_object", "single", "answer"),
    _resource("scalars", "words", "words"),
    _resource("empty", "nothing", "data"),
]
CHILDREN = [
    _resource("parents", "data", "data", primary_key="id", write_disposition="merge"),
    _resource("by_path", "rows/{resources.parents.id}/children", "kids"),
    _resource(
        "with_parent",
        "rows/{resources.parents.id}/children",
        "kids",
        include_from_parent=["id", "name"],
    ),
    _resource(
        "by_param",
        "rows/{number}/children",
        "kids",
        params={"number": {"type": "resolve", "resource": "parents", "field": "id"}},
    ),
    _resource("by_query", "children", "kids", params={"row": "{resources.parents.id}"}),
    _resource("by_nested_field", "rows/{resources.parents.place.geo.x}", "$"),
    _resource("in_threads", "rows/{resources.parents.id}/children", "kids", parallelized=True),
    _resource(
        "grandparents",
        "rows/{resources.parents.id}/children",
        "kids",
        include_from_parent=["id"],
    ),
    _resource(
        "grandchildren",
        "rows/{resources.grandparents._parents_id}/children/{resources.grandparents.n}/toys",
    ),
]
_AT = {"cursor_path": "at", "initial_value": 0}


def _cursors() -> Iterator[Row]:
    for name, more in {"appended": {}, "merged": {"primary_key": "id"}}.items():
        kind = {"write_disposition": "merge" if more else "append", **more}
        yield _resource(f"{name}_client_side", "data", "data", incremental=_AT, **kind)
        asked = {**_AT, "start_param": "since"}
        yield _resource(f"{name}_start_param", "data", "data", incremental=asked, **kind)
        params = {"since": "{incremental.start_value}"}
        yield _resource(
            f"{name}_placeholder", "data", "data", incremental=_AT, params=params, **kind
        )
        body = {"since": "{incremental.start_value}"}
        yield _resource(
            f"{name}_body",
            "search",
            "data",
            incremental=_AT,
            method="POST",
            json=body,
            paginator={
                "type": "offset",
                "limit": SIZE,
                "total_path": "total",
                "offset_body_path": "offset",
                "limit_body_path": "limit",
            },
            **kind,
        )
        window = {**_AT, "initial_value": 2, "end_value": 5}
        if name == "merged":  # a window that is appended comes again with every run
            window |= {"start_param": "since", "end_param": "until"}
            yield _resource(f"{name}_window", "data", "data", incremental=window, **kind)
            closed = {**window, "range_end": "closed"}
            yield _resource(f"{name}_closed", "bare", incremental=closed, **kind)
            late = {**asked, "lag": 3}
            yield _resource(f"{name}_lag", "data", "data", incremental=late, **kind)
        yield _resource(
            f"{name}_param",
            "data",
            "data",
            params={"since": {"type": "incremental", **_AT}},
            **kind,
        )
        exclude = {**_AT, "cursor_path": "nothing", "on_cursor_value_missing": "exclude"}
        yield _resource(f"{name}_exclude", "data", "data", incremental=exclude, **kind)
        nested = {"cursor_path": "place.geo.x", "initial_value": 0}
        yield _resource(f"{name}_nested", "bare", incremental=nested, **kind)
        fall = {"cursor_path": "at", "last_value_func": "min"}
        yield _resource(f"{name}_min", "bare", incremental=fall, **kind)
        opened = {**asked, "range_start": "open"}
        yield _resource(f"{name}_open", "data", "data", incremental=opened, **kind)
        asc = {**asked, "row_order": "asc"}
        yield _resource(f"{name}_asc", "data", "data", incremental=asc, **kind)


CURSORS = list(_cursors())
