"""Resources that read the API of shapes in every way that a file can say."""

from collections.abc import Iterator
from typing import Any

from restsource_dagster_tests.faults.shapes import SIZE, Row

__all__ = ["CHILDREN", "CURSORS", "PAGES", "SELECTORS"]


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
