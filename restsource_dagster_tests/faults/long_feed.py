"""A long load of orders with nested items, in each paging and disposition, killed until it is done."""

import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery, Run
from restsource_dagster_tests.making import count_rows, make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

__all__ = ["LOADS", "PAGINGS", "WALL", "Interrupted", "LongFeed", "kill_until_done"]

LOADS = ("append", "merge", "replace", "family")
"""What a load does; the family replaces its parent and appends the lines below it."""
PAGINGS = ("link", "cursor", "offset", "page")
WALL = Answer({"error": "quota"}, 429, {"Retry-After": "86400"})
_ITEMS = 2
_LAST_SECONDS = 0.8
"""How long a run goes on after a request before it is killed: as long as a part takes to be loaded."""

_PLACES = ("after", "offset", "page")

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
    """An API with `orders` orders in pages of `page` of them, each with two items and, in the family, `lines` lines."""

    def __init__(
        self, api: ApiServer, load: str, paging: str, orders: int, page: int, lines: int = 20
    ) -> None:
        self.load, self.paging, self.page = load, paging, page
        self.orders, self.lines = orders, lines
        self.requests = 0
        self.quota = 1 << 60
        self._api = api
        self._changed = threading.Condition()
        self._different: set[str] = set()
        api.answers["/orders"] = self._orders
        if load == "family":
            for number in range(1, self.orders + 1):
                api.answers[f"/orders/{number}/lines"] = self._lines(number)

    def restart(self) -> None:
        """Count requests from 0 again."""
        with self._changed:
            self.requests = 0
            self._different.clear()

    @property
    def repeated(self) -> int:
        """How many requests have been made before."""
        with self._changed:
            return self.requests - len(self._different)

    @property
    def different(self) -> int:
        """How many different requests have been made."""
        with self._changed:
            return len(self._different)

    def wait_for(self, different: int) -> None:
        """Wait until so many different requests have been made."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: len(self._different) >= different, PATIENCE_SECONDS
            )
        assert came, f"{len(self._different)} different requests came, and {different} should"

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
            lines = count * self.lines
            sum_of_lines = self.lines * 1_000 * total + count * sum(range(self.lines))
            found |= {"lines": lines, "different lines": lines, "sum of lines": sum_of_lines}
        return found

    def is_stored(self, settings: Settings) -> bool:
        """True if the tables have all rows."""
        lines = self.orders * self.lines if self.load == "family" else 0
        counts = {"orders": self.orders, "orders__items": self.orders * _ITEMS, "lines": lines}
        return all(count_rows(settings, table) == count for table, count in counts.items())

    def found(self, settings: Settings) -> dict[str, int]:
        """The results of the checks."""
        checks = _CHECKS | (_LINE_CHECKS if self.load == "family" else {})
        return {name: int(query(settings, sql)[0][0]) for name, sql in checks.items()}

    def _orders(self, seen: Seen) -> Answer:
        if self._is_used_up(seen):
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
        def answer(seen: Seen) -> Answer:
            if self._is_used_up(seen):
                return WALL
            rows = [{"id": order * 1_000 + line, "text": "x" * 20} for line in range(self.lines)]
            return Answer(json.dumps(rows).encode())

        return answer

    def _is_used_up(self, seen: Seen) -> bool:
        self._api.seen.clear()  # it would hold all requests of a long campaign
        if self.quota <= 0:
            return True
        self.quota -= 1
        with self._changed:
            self.requests += 1
            # a first page may be asked for with its number or without
            place = next((v for k, v in seen.query.items() if k in _PLACES), "")
            self._different.add(f"{seen.path} {place}")
            self._changed.notify_all()
        return False


def _json(**body: Any) -> Answer:
    return Answer(json.dumps(body).encode())


@dataclass(frozen=True)
class Kill:
    """A kill, and what it cost."""

    requests: int
    """The different requests that were made before it."""
    phase: str
    """The phase that the run was in."""
    repeated: int
    """The requests that the next run made again."""


@dataclass(frozen=True)
class Interrupted:
    """A load that was killed again and again until it was done."""

    kills: Sequence[Kill]
    undisturbed: int
    """The requests of the same load without a kill."""
    requests: int
    tables: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """How many times the requests of an undisturbed load were made."""
        return self.requests / self.undisturbed


def kill_until_done(
    feed: LongFeed,
    folder: Path,
    nursery: Nursery,
    kills: int,
    seed: str,
    part_seconds: Callable[[float], float],
) -> Interrupted:
    """Kill the load so many times at random moments, then let it end.

    The moments are spread over the requests of an undisturbed load, which is made first, in a folder of its
    own: seconds would depend on what else the machine does. `part_seconds` takes the seconds of that load.
    """
    dice = random.Random(seed)
    undisturbed = nursery.start(feed.file, folder / "undisturbed").finish()
    requests, different = feed.requests, feed.different
    seconds = part_seconds(undisturbed.told[-1]["at"] - undisturbed.told[0]["at"])
    feed.restart()

    def start() -> Run:
        return nursery.start(feed.file, folder / "killed", checkpoint_seconds=seconds)

    # the requests made again by the end of each run
    ends: list[tuple[int, str]] = []
    repeated: list[int] = []
    for moment in sorted(dice.randint(1, different) for _ in range(kills)):
        run = start()
        feed.wait_for(moment)
        # in the middle of a request, of a load, or of what is between them
        time.sleep(dice.uniform(0.0, _LAST_SECONDS))
        run.kill()
        is_done = run.end()["ended"] == 0 or feed.is_stored(make_settings(folder / "killed"))
        repeated.append(feed.repeated)
        if is_done:
            break  # the next run is another load; it may be killed when all is stored
        ends.append((moment, run.phase))
    else:
        start().finish()
        repeated.append(feed.repeated)
    found = [
        Kill(moment, phase, after - before)
        for (moment, phase), before, after in zip(ends, repeated, repeated[1:], strict=False)
    ]
    return Interrupted(found, requests, feed.requests, feed.found(make_settings(folder / "killed")))
