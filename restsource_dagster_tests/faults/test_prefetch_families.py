"""The first pages of families are prefetched."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.engine.prefetch.reading import prefetch_threads
from restsource_dagster_tests.faults.http_parts import Notes, connector_of
from restsource_dagster_tests.faults.prefetch_runs import run_result, with_and_without_prefetch
from restsource_dagster_tests.faults.test_shared_database import person
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.waiting import wait_for

pytestmark = pytest.mark.faults(row=20)

LINK = {"type": "json_link", "next_url_path": "next"}
AT: dict[str, Any] = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}


class Feeds:
    """Rows behind links, one path each."""

    def __init__(self, server: FaultServer, *names: str, pages: int = 6, together: int = 0) -> None:
        self.server = server
        self.together = together
        self.trouble: dict[tuple[str, int], Any] = {}
        self.rows = {name: [{"id": n, "at": n} for n in range(3 * pages)] for name in names}
        server.plan |= {f"/{name}": self._answers(name) for name in names}

    def grow(self) -> None:
        for rows in self.rows.values():
            rows += [{"id": len(rows) + n, "at": len(rows) - 1 + n} for n in range(5)]

    def _answers(self, name: str) -> Any:
        def answer(seen: Arrival) -> Any:
            page, since = int(seen.query.get("page", 1)), int(seen.query.get("since", 0))
            if (name, page) in self.trouble:
                return self.trouble[name, page]
            rows = [row for row in self.rows[name] if row["at"] >= since]
            following = f"/{name}?page={page + 1}&since={since}" if 3 * page < len(rows) else None
            body = {"data": rows[3 * page - 3 : 3 * page], "next": following}
            return Reply(body, together=self.together)

        return answer


def linked(name: str, **more: Any) -> dict[str, Any]:
    endpoint = {"path": name, "data_selector": "data", "paginator": LINK}
    endpoint |= {key: more.pop(key) for key in ("incremental",) if key in more}
    return {"name": name, "endpoint": endpoint, **more}


EVERY_KIND = [
    linked("replaced", write_disposition="replace"),
    linked("merged", primary_key="id", incremental=AT),
    linked("appended", write_disposition="append", incremental=AT),
    linked("lagging", primary_key="id", incremental={**AT, "lag": 2}),
    linked("descending", primary_key="id", incremental={**AT, "row_order": "desc"}),
    linked("bounded", primary_key="id", incremental={**AT, "end_value": 9, "row_order": "asc"}),
    linked("fresh", write_disposition="replace", incremental=AT),
    linked("parents", primary_key="id", incremental=AT),
    {
        "name": "children",
        "primary_key": "id",
        "endpoint": {"path": "parents/{resources.parents.id}"},
    },
]
NAMES = [resource["name"] for resource in EVERY_KIND[:-1]]
TROUBLES = {
    "the first family, a later page, an end without an answer": {
        ("replaced", 1): Reply(status=404),
        ("appended", 3): Reply({"error": "sorry"}),
        ("lagging", 2): Reply(reset=True),
    },
    "all": {(name, 1): Reply(status=403) for name in NAMES},
}
NO_TROUBLE = "none"


def test_families_of_every_kind_leave_the_same_run_after_run(
    server: FaultServer, tmp_path: Path
) -> None:
    feeds = Feeds(server, *NAMES)
    server.plan |= {f"/parents/{n}": [{"id": n}] for n in range(60)}
    both = with_and_without_prefetch(tmp_path, server.url, *EVERY_KIND, max_concurrency=8)
    for trouble in (*TROUBLES, NO_TROUBLE):
        feeds.trouble = TROUBLES.get(trouble, {})
        sequential, prefetched = (run_result(*one) for one in both)
        assert prefetched == sequential, trouble
        feeds.grow()
    assert not any(fields[0] for fields in sequential.outcomes.values())
    assert prefetch_threads() == {}


def test_no_unneeded_request_is_sent(server: FaultServer, tmp_path: Path) -> None:
    feeds = Feeds(server, *NAMES)
    server.plan |= {f"/parents/{n}": [{"id": n}] for n in range(40)}
    seen = []
    for connector, settings in with_and_without_prefetch(
        tmp_path, server.url, *EVERY_KIND, max_concurrency=8
    ):
        server.arrivals.clear()
        results = []
        for _ in range(2):
            results.append(run_result(connector, settings))
            feeds.grow()
        assert not any(fields[0] for fields in results[-1].outcomes.values())
        seen.append((results, Counter(arrival.target for arrival in server.arrivals)))
        feeds.rows = {name: rows[:18] for name, rows in feeds.rows.items()}
    (results, needed), (prefetched, requested) = seen
    # a call that ends before its last page may be a page ahead when it ends
    more = requested - needed
    assert {target.partition("?")[0] for target in more} <= {"/bounded", "/descending"}
    assert more.total() <= 4
    assert needed - requested == Counter()
    assert prefetched == results


def test_all_families_are_requested_at_once(server: FaultServer, settings: Settings) -> None:
    names = [f"feed_{n}" for n in range(8)]
    Feeds(server, *names, together=8)
    run_result(connector_of(server.url, *(linked(name) for name in names)), settings)
    assert server.peak == 8
    paths = [arrival.path for arrival in server.arrivals]
    before_the_first_ended = paths[: len(paths) - paths[::-1].index("/feed_0")]
    assert set(before_the_first_ended) == {f"/{name}" for name in names}


class Waiting(Notes):
    """Continues with the first family once its first page is requested."""

    def __init__(self) -> None:
        super().__init__()
        self.requested = threading.Event()

    def phase(self, family: str, phase: str) -> None:
        wait_for(self.requested, "a request for the first page")


def test_the_first_page_is_requested_while_the_database_is_opened(
    server: FaultServer, settings: Settings
) -> None:
    observer = Waiting()

    def answer(seen: Arrival) -> Any:
        observer.requested.set()
        return [{"id": 1}]

    server.plan["/items"] = answer
    list(
        ingest(
            connector_of(server.url, "items"), settings=settings, environment={}, observer=observer
        )
    )
    assert len(server.arrivals) == 1


def test_at_most_one_page_is_requested_if_the_database_cannot_be_opened(
    server: FaultServer, settings: Settings
) -> None:
    Feeds(server, "one", "two")
    connector = connector_of(server.url, linked("one"), linked("two"))
    run_result(connector, settings)
    server.arrivals.clear()
    impatient = settings.model_copy(update={"lock_wait_seconds": 0.2})
    with person(settings, "write"):
        outcomes = list(ingest(connector, settings=impatient, environment={}))
    assert all(outcome.failed for outcome in outcomes)
    assert [arrival.target for arrival in server.arrivals] in ([], ["/one"])


def test_a_cursor_that_a_person_sets_is_used(server: FaultServer, settings: Settings) -> None:
    feeds = Feeds(server, "one", "two")
    connector = connector_of(
        server.url,
        *(linked(name, primary_key="id", incremental=AT) for name in ("one", "two")),
    )
    run_result(connector, settings)
    server.arrivals.clear()
    feeds.grow()
    list(ingest(connector, settings=settings, environment={}, set_cursor={"two": 12}))
    starts = {arrival.path: arrival.query["since"] for arrival in reversed(server.arrivals)}
    assert starts == {"/one": "17", "/two": "12"}
    assert {arrival.query["since"] for arrival in server.asked("/two")} == {"12"}


def test_nothing_is_requested_for_a_family_that_may_not_be_appended_to(
    server: FaultServer, settings: Settings
) -> None:
    Feeds(server, "one", "two")
    by_id = {"cursor_path": "id", "initial_value": 0, "start_param": "since"}
    first = [linked(name, write_disposition="append", incremental=AT) for name in ("one", "two")]
    run_result(connector_of(server.url, *first), settings)
    server.arrivals.clear()
    other = [linked(name, write_disposition="append", incremental=by_id) for name in ("one", "two")]
    outcomes = run_result(connector_of(server.url, *other), settings).outcomes
    assert all("has rows from before" in fields[0].message for fields in outcomes.values())
    assert server.arrivals == []


def test_a_run_that_is_closed_ends_its_threads(server: FaultServer, settings: Settings) -> None:
    names = [f"feed_{n}" for n in range(6)]
    feeds = Feeds(server, *names, pages=40)
    feeds.trouble = {("feed_3", 5): Reply(status=503, headers={"Retry-After": "100"})}
    connector = connector_of(server.url, *(linked(name) for name in names))
    outcomes = ingest(connector, settings=settings, environment={})
    next(outcomes)
    before = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]
    assert prefetch_threads() == {}
    assert time.monotonic() - before < 60  # it doesn't wait for the retry
