"""An API that takes 50 ms for every answer: who waits for one at a time, who for many?"""

from typing import Any

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Contestant, Goal
from benchmarks.records import CHILDREN_PER_PARENT
from benchmarks.shop import Paging, api_path, ours, resource, stock, tables_of
from benchmarks.verify import whole_table

__all__ = ["dependents", "independent", "numbered"]

_LATENCY_MS = 50
_PAGE = 100
_SHOWN = ("wall", "work_wall", "cpu", "requests")


def numbered(sizes: Sizes) -> Case:
    """Pages whose addresses are known as soon as the first one has told the total."""
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
    """Resources that have nothing to do with one another; each page names the next one."""
    rows = sizes.pages_of_each * _PAGE
    path = api_path(rows, page_size=_PAGE, latency_ms=_LATENCY_MS)
    names = [f"orders_{number}" for number in range(1, sizes.resources + 1)]
    resources = [resource(name, ("cursor", "link")[i % 2]) for i, name in enumerate(names)]
    tables = {query: right for name in names for query, right in tables_of(name, rows).items()}
    text = f"{sizes.resources} resources of {sizes.pages_of_each} pages at {_LATENCY_MS} ms, by cursor or link"
    return Case(
        "independent",
        f"{sizes.resources} independent resources of {sizes.pages_of_each} pages, {_LATENCY_MS} ms each",
        (
            Contestant("ours", "restsource", "ours", ours(path, resources, tables)),
            Contestant("dlt", "stock dlt", "peer", stock(path, resources, tables)),
            Contestant(
                "dlt_parallel",
                "stock dlt, parallelized",
                "peer",
                stock(path, resources, tables, parallelized=True),
                "`rest_api_source(..., parallelized=True)`",
            ),
        ),
        (
            Goal(
                6,
                f"{text}: faster than stock dlt",
                "wall",
                "dlt",
                "ours",
                at_least=5,
                also="work_wall",
            ),
        ),
        rows=rows,
        shown=_SHOWN,
    )


def dependents(sizes: Sizes) -> Case:
    """A call for each row of another resource."""
    parents = sizes.parents
    path = api_path(parents, page_size=_PAGE, latency_ms=_LATENCY_MS)
    tables = {
        **whole_table("shop.parents", parents),
        **whole_table("shop.children", parents * CHILDREN_PER_PARENT),
    }
    plain, flagged = _family(), _family(parallelized=True)
    text = f"the children of {parents:,} parents at {_LATENCY_MS} ms"
    return Case(
        "dependents",
        f"The children of {parents:,} parents, {_LATENCY_MS} ms each",
        (
            Contestant("ours", "restsource", "ours", ours(path, plain, tables)),
            Contestant(
                "ours_16",
                "restsource, 16 at once",
                "ours",
                ours(path, plain, tables, http={"max_concurrency": 16}),
                '`"http": {"max_concurrency": 16}`; the default is 8',
            ),
            Contestant("dlt", "stock dlt", "peer", stock(path, plain, tables)),
            Contestant(
                "dlt_parallel",
                "stock dlt, parallelized",
                "peer",
                stock(path, flagged, tables),
                '`"parallelized": true` on the children',
            ),
        ),
        (
            Goal(
                7,
                f"{text}: faster than stock dlt, 16 at once",
                "wall",
                "dlt",
                "ours_16",
                at_least=9,
            ),
            Goal(7, f"{text}: faster than stock dlt, nothing set", "wall", "dlt", "ours"),
        ),
        rows=parents,
        shown=_SHOWN,
    )


def _family(**more: Any) -> list[dict[str, Any]]:
    def one(name: str, path: str, **rest: Any) -> dict[str, Any]:
        endpoint = {"path": path, "data_selector": "data", "paginator": "single_page"}
        return {"name": name, "write_disposition": "append", "endpoint": endpoint, **rest}

    return [
        one("parents", "shop/parents"),
        one("children", "shop/{resources.parents.id}/children", **more),
    ]
