"""Cases with an API that takes 50 ms per response: how many requests are in progress at once?"""

from typing import Any

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Contestant, Goal
from benchmarks.records import CHILDREN_PER_PARENT
from benchmarks.shop import (
    Paging,
    api_path,
    by_peer,
    by_us,
    ours,
    resource,
    stock,
    tables_of,
)
from benchmarks.verify import whole_table

__all__ = ["dependents", "independent", "many_resources", "numbered"]

_LATENCY_MS = 50
_PAGE = 100
_SHOWN = ("wall", "work_wall", "cpu", "requests")


def numbered(sizes: Sizes) -> Case:
    """Pages whose URLs are known after the first page, which names the total."""
    rows = sizes.pages * _PAGE
    path = api_path(rows, page_size=_PAGE, latency_ms=_LATENCY_MS)
    tables = tables_of("orders", rows)
    contestants: list[Contestant] = []
    goals: list[Goal] = []
    styles: tuple[tuple[Paging, str], ...] = (("page", "page numbers"), ("offset", "offsets"))
    for style, told in styles:
        resources = [resource("orders", style, page_size=_PAGE)]
        contestants += [
            Contestant(
                f"ours_{style}", f"restsource, {told}", "ours", ours(path, resources, tables)
            ),
            Contestant(
                f"dlt_{style}", f"stock dlt, {told}", "peer", stock(path, resources, tables)
            ),
        ]
        text = f"{sizes.pages} pages by {told} at {_LATENCY_MS} ms: faster extract than stock dlt"
        pair = (f"dlt_{style}", f"ours_{style}")
        goals.append(Goal(5, text, "extract_wall", *pair, at_least=6, also="wall"))
    title = f"{sizes.pages} numbered pages, {_LATENCY_MS} ms each"
    shown = ("extract_wall", *_SHOWN)
    return Case("numbered", title, tuple(contestants), tuple(goals), rows=rows, shown=shown)


def independent(sizes: Sizes) -> Case:
    """Independent resources. Each page links to the next one."""
    rows = sizes.pages_of_each * _PAGE
    path = api_path(rows, page_size=_PAGE, latency_ms=_LATENCY_MS)
    names = [f"orders_{number}" for number in range(1, sizes.resources + 1)]
    resources = [resource(name, ("cursor", "link")[i % 2]) for i, name in enumerate(names)]
    tables = {query: right for name in names for query, right in tables_of(name, rows).items()}
    told = f"{sizes.resources} independent resources of {sizes.pages_of_each} pages"
    text = f"{told} at {_LATENCY_MS} ms, by cursor or link: faster than stock dlt"
    flagged = stock(path, resources, tables, parallelized=True)
    return Case(
        "independent",
        f"{told}, {_LATENCY_MS} ms each",
        (
            by_us("ours", "", ours(path, resources, tables)),
            by_peer("dlt", "stock dlt", stock(path, resources, tables)),
            by_peer(
                "dlt_parallel",
                "stock dlt, parallelized",
                flagged,
                "`rest_api_source(..., parallelized=True)`",
            ),
        ),
        (Goal(6, text, "wall", "dlt", "ours", at_least=5, also="work_wall"),),
        rows=rows,
        shown=_SHOWN,
    )


def many_resources(sizes: Sizes) -> Case:
    """Connectors of more and more resources of one small page: is the work in proportion?"""
    path, few = api_path(2), sizes.connectors[0]
    contestants: list[Contestant] = []
    goals: list[Goal] = []
    for number in sizes.connectors:
        names = [f"orders_{one}" for one in range(1, number + 1)]
        tables = {query: right for name in names for query, right in tables_of(name, 2).items()}
        program = ours(path, [resource(name, "page") for name in names], tables)
        contestants.append(by_us(f"ours_{number}", f"{number:,} resources", program))
        if number == few:
            continue
        text = f"{number:,} resources against {few:,}: CPU, in proportion or less"
        pair = (f"ours_{number}", f"ours_{few}")
        goals.append(Goal(6, text, "work_cpu", *pair, at_most=1.2 * number / few))
    title = "Connectors of many resources with one small page each"
    return Case("many_resources", title, tuple(contestants), tuple(goals), rows=2, shown=_SHOWN)


def dependents(sizes: Sizes) -> Case:
    """One request per record of another resource."""
    parents = sizes.parents
    path = api_path(parents, page_size=_PAGE, latency_ms=_LATENCY_MS)
    tables = {
        **whole_table("shop.parents", parents),
        **whole_table("shop.children", parents * CHILDREN_PER_PARENT),
    }
    title = f"The children of {parents:,} parents, {_LATENCY_MS} ms each"
    text = f"the children of {parents:,} parents at {_LATENCY_MS} ms: faster than stock dlt"
    goals = (
        Goal(7, f"{text}, 16 at once", "wall", "dlt", "ours_16", at_least=9),
        Goal(7, f"{text}, nothing set", "wall", "dlt", "ours", at_least=12),
    )
    contestants = _with_dependents(path, tables)
    return Case("dependents", title, contestants, goals, rows=parents, shown=_SHOWN)


def _with_dependents(path: str, tables: dict[str, int]) -> tuple[Contestant, ...]:
    plain, flagged = _family(), _family(parallelized=True)
    sixteen = ours(path, plain, tables, http={"max_concurrency": 16})
    return (
        by_us("ours", "", ours(path, plain, tables)),
        by_us(
            "ours_16",
            "16 at once",
            sixteen,
            '`"http": {"max_concurrency": 16}`; by default up to 20, as the responses allow',
        ),
        by_peer("dlt", "stock dlt", stock(path, plain, tables)),
        by_peer(
            "dlt_parallel",
            "stock dlt, parallelized",
            stock(path, flagged, tables),
            '`"parallelized": true` on the children',
        ),
    )


def _family(**more: Any) -> list[dict[str, Any]]:
    def one(name: str, path: str, **rest: Any) -> dict[str, Any]:
        endpoint = {"path": path, "data_selector": "data", "paginator": "single_page"}
        return {"name": name, "write_disposition": "append", "endpoint": endpoint, **rest}

    return [
        one("parents", "shop/parents"),
        one("children", "shop/{resources.parents.id}/children", **more),
    ]
