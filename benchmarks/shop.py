"""The shop of the benchmark API: its dlt resources, and the programs that load them."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from benchmarks.model import Bench, Contestant, Sample
from benchmarks.programs import Program
from benchmarks.records import LINES_PER_RECORD
from benchmarks.verify import whole_child_table, whole_table

__all__ = [
    "Paging",
    "api_path",
    "by_hand",
    "by_peer",
    "by_us",
    "ours",
    "resource",
    "stock",
    "tables_of",
]

Paging = Literal["page", "offset", "cursor", "link"]
Nested = Literal["json", "tables"]


def api_path(rows: int, *, page_size: int = 1_000, latency_ms: int = 0) -> str:
    """Return the first part of the API's paths, which sets what the API serves."""
    return f"{rows}/{page_size}/{latency_ms}"


def resource(name: str, paging: Paging, *, page_size: int = 1_000, **more: Any) -> dict[str, Any]:
    """Return a resource of orders. With `page` and `offset` the API names a total."""
    paginator: dict[str, dict[str, Any]] = {
        "page": {"type": "page_number", "base_page": 1, "total_path": "total_pages"},
        "offset": {"type": "offset", "limit": page_size, "total_path": "total"},
        "cursor": {"type": "cursor", "cursor_path": "next_cursor", "cursor_param": "cursor"},
        "link": {"type": "json_link", "next_url_path": "next"},
    }
    endpoint = {
        "path": f"{name}/{paging}",
        "data_selector": "data",
        "paginator": paginator[paging],
    }
    return {"name": name, "write_disposition": "append", "endpoint": endpoint, **more}


def tables_of(name: str, rows: int, *, nested: Nested = "tables") -> dict[str, int]:
    """Return the queries, with their results, for a database with all rows of the resource."""
    table = f"shop.{name}"
    if nested == "json":
        return {**whole_table(table, rows), f"SELECT count(lines) FROM {table}": rows}
    children = whole_child_table(f"{table}__lines", table, rows * LINES_PER_RECORD)
    return {**whole_table(table, rows), **children}


def stock(
    path: str,
    resources: list[dict[str, Any]],
    tables: Mapping[str, int],
    *,
    loader_file_format: str | None = "parquet",
    destination: str = "duckdb",
    **source: Any,
) -> Program:
    """Return stock dlt. Without a format it uses its default. `source` is for `rest_api_source`."""
    how = {"loader_file_format": loader_file_format, "destination": destination}
    orders = {"resources": resources, "source": source, **how}
    return Program("stock_dlt", path, orders, tables)


def ours(
    path: str,
    resources: list[dict[str, Any]],
    tables: Mapping[str, int],
    *,
    defaults: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
) -> Program:
    """Return this project. `defaults` are the file's `resource_defaults`, `http` its `http`."""
    given = {"resource_defaults": defaults, "http": http}
    connector = {key: value for key, value in given.items() if value}
    return Program("ours", path, {"resources": resources, "connector": connector}, tables)


def by_us(name: str, label: str, program: Callable[[Bench], Sample], note: str = "") -> Contestant:
    """Return this project with certain settings as a contestant."""
    return Contestant(name, f"restsource{label and ', '}{label}", "ours", program, note)


def by_peer(
    name: str, label: str, program: Callable[[Bench], Sample], note: str = ""
) -> Contestant:
    """Return another tool as a contestant."""
    return Contestant(name, label, "peer", program, note)


def by_hand(
    name: str, label: str, program: Callable[[Bench], Sample], note: str = ""
) -> Contestant:
    """Return a script written by hand for this API as a contestant."""
    return Contestant(name, label, "floor", program, note)
