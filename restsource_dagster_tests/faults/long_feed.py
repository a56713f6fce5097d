"""A long load of orders with nested items, in each paging and disposition, killed until it is done."""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery, Run
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = ["LOADS", "PAGINGS", "WALL", "Interrupted", "LongFeed", "kill_until_done"]

LOADS = ("append", "merge", "replace", "family")
"""What a load does; the family replaces its parent and appends the lines below it."""
PAGINGS = ("link", "cursor", "offset", "page")
WALL = Answer({"error": "quota"}, 429, {"Retry-After": "86400"})
LINES = 20
"""The lines of each order of the family."""
_ITEMS = 2
_LAST_SECONDS = 0.8
"""How long a run goes on after its last page before it is killed: as long as a part takes to be loaded."""

_CHECKS = {
    "rows": "SELECT count(*) FROM shop.orders",
    "different rows": "SELECT count(DISTINCT id) FROM shop.orders",
    "sum": "SELECT sum(id) FROM shop.orders",
    "items": "SELECT count(*) FROM shop.orders__items",
    "items of their order": "SELECT count(*) FROM shop.orders__items i JOIN shop.orders o "
    "ON i._dlt_parent_id = o._dlt_id WHERE i.value // 10 = o.id",
}
_LINE_CHECKS = {
    "lines": "SELECT count(*) FROM shop.lines",
    "different lines": "SELECT count(DISTINCT id) FROM shop.lines",
    "sum of lines": "SELECT sum(id) FROM shop.lines",
}


class LongFeed:
    """An API with `rows` rows in pages of `page` rows: orders, or in the family mostly lines."""

    def __init__(self, api: ApiServer, load: str, paging: str, rows: int, page: int) -> None:
        self.load, self.paging, self.page = load, paging, page
        self.orders = rows // LINES if load == "family" else rows
        self.requests = 0
        self.quota = 1 << 60
        self._api = api
        api.answers["/orders"] = self._orders
        if load == "family":
            for number in range(1, self.orders + 1):
                api.answers[f"/orders/{number}/lines"] = self._lines(number)

    @property
    def file(self) -> dict[str, Any]:
        """The connector file."""
        paginator: dict[str, dict[str, Any]] = {
            "link": {"type": "json_link", "next_url_path": "next"},
            "cursor": {"type": "cursor", "cursor_path": "cursor", "cursor_param": "after"},
            "offset": {"type": "offset", "limit": self.page, "total_path": "total"},
            "page": {"type": "page_number", "base_page": 1, "total_path": "pages"},
        }
        endpoint = {"path": "orders", "data_selector": "data", "paginator": paginator[self.paging]}
        replaces = self.load in ("replace", "family")
        orders = {
            "name": "orders",
            "write_disposition": "replace" if replaces else self.load,
            "endpoint": endpoint,
            **({} if self.load == "append" else {"primary_key": "id"}),
        }
        lines = {
            "name": "lines",
            "write_disposition": "append",
            "endpoint": {"path": "orders/{resources.orders.id}/lines", "paginator": "single_page"},
        }
        return {
            "name": "shop",
            "schedule": {"mode": "manual"},
            "client": {"base_url": self._api.url},
            "resources": [orders, lines] if self.load == "family" else [orders],
        }

    def expected(self) -> dict[str, int]:
        """The right results of the checks."""
        count = self.orders
        total = count * (count + 1) // 2
        found = {
            "rows": count,
            "different rows": count,
            "sum": total,
            "items": count * _ITEMS,
            "items of their order": count * _ITEMS,
        }
        if self.load == "family":
            lines = count * LINES
            sum_of_lines = LINES * 1_000 * total + count * sum(range(LINES))
            found |= {"lines": lines, "different lines": lines, "sum of lines": sum_of_lines}
        return found

    def found(self, settings: Settings) -> dict[str, int]:
        """The results of the checks."""
        checks = _CHECKS | (_LINE_CHECKS if self.load == "family" else {})
        return {name: int(query(settings, sql)[0][0]) for name, sql in checks.items()}

    def _orders(self, seen: Seen) -> Answer:
        if self._is_used_up():
            return WALL
        given = seen.query
        if "page" in given:
            first = (int(given["page"]) - 1) * self.page
        else:
            first = int(given.get("after", given.get("offset", 0)))
        last = min(first + self.page, self.orders)
        data = [
            {"id": number, "name": f"order {number}", "items": [number * 10, number * 10 + 1]}
            for number in range(first + 1, last + 1)
        ]
        more = last < self.orders
        return _json(
            data=data,
            total=self.orders,
            pages=-(-self.orders // self.page),
            next=f"{self._api.url}/orders?after={last}" if more else None,
            cursor=str(last) if more else None,
        )

    def _lines(self, order: int) -> Callable[[Seen], Answer]:
        def answer(_: Seen) -> Answer:
            if self._is_used_up():
                return WALL
            rows = [{"id": order * 1_000 + line, "text": "x" * 20} for line in range(LINES)]
            return Answer(json.dumps(rows).encode())

        return answer

    def _is_used_up(self) -> bool:
        self._api.seen.clear()  # it would hold all requests of a long campaign
        if self.quota <= 0:
            return True
        self.quota -= 1
        self.requests += 1
        return False


def _json(**body: Any) -> Answer:
    return Answer(json.dumps(body).encode())


@dataclass(frozen=True)
class Interrupted:
    """A load that was killed again and again until it was done."""

    kills: int
    undisturbed: int
    """The requests of the same load without a kill."""
    requests: int
    tables: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """How many times the requests of an undisturbed load were made."""
        return self.requests / self.undisturbed


def kill_until_done(
    feed: LongFeed, folder: Path, nursery: Nursery, kills: int, seed: str, part_seconds: float
) -> Interrupted:
    """Kill the load so many times at random moments, then let it end.

    The moments are spread over the pages of an undisturbed load, which is made first, in a folder of its
    own: seconds would depend on what else the machine does.
    """
    dice = random.Random(seed)

    def start(where: str, seconds: float = part_seconds) -> Run:
        return nursery.start(feed.file, folder / where, checkpoint_seconds=seconds)

    # as a whole: parts ask for the same pages
    pages = sum("page" in event for event in start("undisturbed", 60.0).finish().told)
    undisturbed, feed.requests = feed.requests, 0
    killed = 0
    while killed < kills:
        run = start("killed")
        # a run that continues has less to do than the whole load
        for _ in range(dice.randint(0, 2 * pages // (kills + 1))):
            if "ended" in run.wait_for("page"):
                break
        # in the middle of a request, of a load, or of what is between them
        time.sleep(dice.uniform(0.0, _LAST_SECONDS))
        run.kill()
        if run.end()["ended"] == 0:
            # it was done before: the next run is another load
            break
        killed += 1
    else:
        start("killed").finish()
    found = feed.found(make_settings(folder / "killed"))
    return Interrupted(killed, undisturbed, feed.requests, found)
