"""APIs that return no more than some rows to one query: the paging starts anew from the last cursor value."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.engine.windowed import day, load_window, window_of
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

MOST = 1_000
PAGE = 100
OFFSET = {"type": "offset", "limit": PAGE, "total_path": "total"}
CURSOR = {
    "cursor_path": "at",
    "initial_value": 0,
    "start_param": "since",
    "end_param": "until",
    "row_order": "asc",
}


class Search:
    """Serves `rows` in the order of `at`, and refuses what is after the first `most` of a query."""

    def __init__(self, api: ApiServer, times: list[Any], most: int = MOST) -> None:
        self.api, self.most = api, most
        self.rows = [{"id": number, "at": at} for number, at in enumerate(times)]
        self.sends_start = True
        self.caps_total = False
        api.answers["/search"] = self.answer

    def answer(self, seen: Seen) -> Any:
        kind = type(self.rows[0]["at"])
        since, offset = kind(seen.query["since"]), int(seen.query.get("offset", 0))
        limit = int(seen.query.get("limit", PAGE))
        if offset + limit > self.most:
            return Answer({"error": "the result window is too large"}, 400)
        found = [
            row
            for row in self.rows
            if row["at"] > since or (self.sends_start and row["at"] == since)
        ]
        page = found[offset : offset + limit]
        total = min(len(found), self.most) if self.caps_total else len(found)
        is_last = offset + limit >= len(found)
        following = f"/search?since={since}&limit={limit}&offset={offset + limit}"
        return {"items": page, "total": total, "next": None if is_last else following}

    @property
    def asked(self) -> list[str]:
        """The values that queries start from, each once."""
        return list(dict.fromkeys(seen.query["since"] for seen in self.api.seen))

    def connector(self, *others: Any, **more: Any) -> Connector:
        cursor = {**CURSOR, **more.pop("cursor", {})}
        paginator = {**OFFSET, "max_rows": self.most, **more.pop("paginator", {})}
        kept = {name: value for name, value in paginator.items() if value is not None}
        endpoint = {
            "path": "search",
            "data_selector": "items",
            "paginator": kept,
            "incremental": cursor,
        }
        made = {"name": "search", "primary_key": "id", "endpoint": endpoint, **more}
        return make_connector(self.api.url, made, *others)

    def stored(self, settings: Settings) -> tuple[Any, ...]:
        sql = "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM shop.search"
        return query(settings, sql)[0]


def test_a_search_of_10000_rows_loads_25000_none_twice_and_none_missing(
    api: ApiServer, settings: Settings
) -> None:
    search = Search(api, [number // 2 for number in range(25_000)], most=10_000)
    connector = search.connector(paginator={"limit": 1_000})
    outcome = load(connector, settings)["search"]
    assert outcome.failure is None
    assert search.stored(settings) == (25_000, 25_000, 0, 24_999)
    # one query after the other, and none past its end
    assert search.asked == ["0", "4998", "9996"]
    assert all(int(seen.query["offset"]) + 1_000 <= 10_000 for seen in api.seen)
    assert outcome.cursor is not None
    assert outcome.cursor.last_value == 12_499


@pytest.mark.parametrize(
    ("kind", "mode", "sends_start"),
    [
        ("offset", "rows", True),
        ("offset", "auto", False),
        ("links", "auto", True),
        ("links", "rows", False),
        ("total", "auto", False),
    ],
)
def test_each_row_is_loaded_once_in_each_kind_of_paging(
    api: ApiServer, settings: Settings, mode: str, kind: str, sends_start: bool
) -> None:
    # some values have more rows than a page
    times = sorted([number // 7 for number in range(1_900)] + [100] * 250 + [200] * 350)
    search = Search(api, times)
    search.sends_start, search.caps_total = sends_start, kind == "total"
    links = {"type": "json_link", "next_url_path": "next", "limit": None, "total_path": None}
    paginator = links if kind == "links" else {}
    connector = search.connector(
        mode=mode, paginator=paginator, cursor={} if sends_start else {"initial_value": -1}
    )
    outcome = load(connector, settings)["search"]
    assert outcome.failure is None
    assert search.stored(settings) == (2_500, 2_500, 0, 2_499)
    assert len(search.asked) == 3
    later = load(connector, settings)["search"]
    assert later.failure is None
    assert search.asked[3:] == [str(times[-1])]


def test_pages_that_do_not_divide_the_most_rows_end_before_it(
    api: ApiServer, settings: Settings
) -> None:
    search = Search(api, list(range(2_000)))
    load(search.connector(paginator={"limit": 300}), settings)
    assert search.stored(settings)[:2] == (2_000, 2_000)
    assert max(int(seen.query["offset"]) for seen in api.seen) == 600


def test_more_rows_with_one_value_than_a_query_returns_are_an_error_that_says_what_to_do(
    api: ApiServer, settings: Settings
) -> None:
    search = Search(api, sorted([*range(500), *[250] * 1_100]))
    failure = load(search.connector(), settings)["search"].failure
    assert failure is not None
    assert "more rows than the API returns to one query (max_rows, 1,000) have one at, 250" in (
        failure.message
    )
    assert "Divide the rows by a param" in failure.message


def test_as_many_rows_with_one_value_as_a_query_returns_are_loaded_if_the_api_sends_them(
    api: ApiServer, settings: Settings
) -> None:
    # two values that don't fit into one query together
    search = Search(api, sorted([*[1] * 700, *[2] * 700, *[3] * 700]))
    assert load(search.connector(), settings)["search"].failure is None
    assert search.stored(settings)[:2] == (2_100, 2_100)
    assert search.asked == ["0", "1", "2", "3"]


def test_rows_in_another_order_are_an_error(api: ApiServer, settings: Settings) -> None:
    search = Search(api, [*range(600, 1_200), *range(600)])
    failure = load(search.connector(), settings)["search"].failure
    assert failure is not None
    assert "they are not in the order of at" in failure.message
    # without a second query the order does not matter
    search = Search(api, [*range(300, 600), *range(300)])
    assert load(search.connector(), settings)["search"].failure is None


def test_a_lag_is_read_again_at_each_query(api: ApiServer, settings: Settings) -> None:
    search = Search(api, list(range(2_000)))
    assert load(search.connector(cursor={"lag": 50}), settings)["search"].failure is None
    assert search.asked == ["0", "948", "1896"]
    assert search.stored(settings)[:2] == (2_000, 2_000)


def test_windows_may_have_more_rows_than_a_query_returns(
    api: ApiServer, settings: Settings
) -> None:
    times = [day(1 + number // 200, number % 24) for number in range(2_500)]
    search = Search(api, sorted(times))
    cursor = {"initial_value": day(1), "window": {"size": "1y"}}
    outcome = load(search.connector(cursor=cursor), settings)["search"]
    assert outcome.failure is None
    assert search.stored(settings)[:2] == (2_500, 2_500)
    assert search.asked[:2] == [day(1), day(5, 22)]


def test_a_window_of_a_backfill_with_too_many_rows_is_an_error(
    api: ApiServer, settings: Settings
) -> None:
    search = Search(api, [day(1, number % 24) for number in range(1_500)])
    connector = search.connector(cursor={"initial_value": day(1)})
    outcome = load_window(connector, settings, window_of(day(1), day(2)), resource="search")
    failure = outcome["search"].failure
    assert failure is not None
    assert "Load it in shorter windows" in failure.message


def test_dependents_are_asked_for_the_rows_of_each_query(
    api: ApiServer, settings: Settings
) -> None:
    search = Search(api, list(range(12)), most=6)
    for number in range(12):
        api.answers[f"/search/{number}/lines"] = [{"line": number}]
    lines = {
        "name": "lines",
        "primary_key": "line",
        "endpoint": {"path": "search/{resources.search.id}/lines"},
    }
    outcomes = load(search.connector(lines, paginator={"limit": 3}), settings)
    assert not any(outcome.failed for outcome in outcomes.values())
    assert query(settings, "SELECT count(*), count(DISTINCT line) FROM shop.lines") == [(12, 12)]


@pytest.mark.parametrize("lag", [None, 20], ids=["by_cursor", "by_place"])
def test_a_capped_load_may_be_stored_in_parts(
    api: ApiServer, tmp_path: Path, lag: int | None
) -> None:
    settings = make_settings(tmp_path).model_copy(update={"checkpoint_seconds": 1e-9})
    search = Search(api, list(range(700)), most=300)
    connector = search.connector(cursor={"lag": lag})
    outcome = load(connector, settings)["search"]
    assert outcome.failure is None
    assert outcome.checkpoints > 3
    assert search.stored(settings)[:2] == (700, 700)


def test_rows_after_the_delay_stay_for_the_next_run_at_the_end_of_a_query_too(
    api: ApiServer, settings: Settings
) -> None:
    times = [f"2024-01-01T00:{number // 20:02}:{number % 20:02}Z" for number in range(1_000)]
    search = Search(api, times)
    cursor = {"initial_value": day(1), "end_param": None, "window": {"delay": "1h"}}
    kept = {name: value for name, value in {**CURSOR, **cursor}.items() if value is not None}
    endpoint = {
        "path": "search",
        "data_selector": "items",
        "paginator": {**OFFSET, "max_rows": MOST},
        "incremental": kept,
    }
    connector = make_connector(
        api.url, {"name": "search", "primary_key": "id", "endpoint": endpoint}
    )
    # the delay ends within the last page of the query
    for minutes in (48, 120):
        started = datetime(2024, 1, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
        outcomes = list(ingest(connector, settings=settings, environment={}, started=started))
        assert [outcome.failure for outcome in outcomes] == [None]
    assert search.stored(settings)[:2] == (1_000, 1_000)
    assert search.asked[:2] == [day(1), "2024-01-01T00:48:00Z"]
