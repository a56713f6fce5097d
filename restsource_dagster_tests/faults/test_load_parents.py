"""Dependent resources: a cursor per parent, parents asked for alone, parents that fail."""

from collections import defaultdict
from typing import Any, cast

import pytest

from restsource_dagster.config.connector import Connector
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.outcome import Outcome
from restsource_dagster.engine.parent_states import ParentStates
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

Row = dict[str, Any]


class Shop:
    """Orders with a cursor, lines below them with a cursor of their own; both APIs filter."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.orders: list[Row] = []
        self.lines: dict[int, list[Row]] = defaultdict(list)
        self.broken: dict[int, Answer] = {}
        api.answers["/orders"] = lambda seen: since(self.orders, seen)

    def order(self, number: int, at: int = 0, **more: Any) -> None:
        self.orders = [order for order in self.orders if order["id"] != number]
        self.orders.append({"id": number, "at": at, **more})
        self.api.answers[f"/orders/{number}/lines"] = lambda seen: self._lines(number, seen)

    def line(self, number: int, n: int, at: int = 0) -> None:
        self.lines[number].append({"n": n, "at": at, "order": number})

    def asked(self, number: int) -> int:
        return len(self.api.asked(f"/orders/{number}/lines"))

    def _lines(self, number: int, seen: Seen) -> Any:
        return self.broken.get(number) or since(self.lines[number], seen)


def since(rows: list[Row], seen: Seen) -> list[Row]:
    start = int(seen.query.get("since") or 0)
    return [row for row in rows if row["at"] >= start]


CURSOR = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}
KEYS: dict[str, Any] = {"orders": {"primary_key": "id"}, "lines": {"primary_key": ["order", "n"]}}


def shop_connector(
    api: ApiServer,
    *,
    merged: bool = True,
    orders_cursor: bool = False,
    lines_cursor: bool = True,
    http: Row | None = None,
    **lines: Any,
) -> Connector:
    orders: Row = {"name": "orders", "endpoint": {"path": "orders"}, **KEYS["orders"]}
    below: Row = {"path": "orders/{resources.orders.id}/lines"}
    if orders_cursor:
        orders["endpoint"]["incremental"] = CURSOR
    if lines_cursor:
        below["incremental"] = CURSOR
    key = KEYS["lines"] if merged else {"write_disposition": "append"}
    resource = {"name": "lines", "endpoint": below, **key, **lines}
    return make_connector(api.url, orders, resource, http=http)


def run(
    connector: Connector, settings: Settings, *names: str, notes: Notes | None = None
) -> dict[str, Outcome]:
    outcomes = load(connector, settings, resources=names or None, observer=notes)
    assert not any(outcome.failed for outcome in outcomes.values()), outcomes
    return outcomes


def lines(settings: Settings) -> list[tuple[Any, ...]]:
    return query(settings, 'SELECT "order", n FROM shop.lines ORDER BY 1, 2')


both_ways = pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])
in_both_threads = pytest.mark.parametrize("parallelized", [False, True])


# --- a cursor per parent ------------------------------------------------------------------------


@pytest.mark.faults(row=11)
@both_ways
@in_both_threads
def test_a_child_older_than_another_parents_newest_arrives(
    api: ApiServer, settings: Settings, merged: bool, parallelized: bool
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, merged=merged, parallelized=parallelized)
    for number in (1, 2, 3):
        shop.order(number)
    shop.line(1, 1, at=100)
    shop.line(2, 1, at=10)
    first = run(connector, settings)["lines"]
    shop.line(2, 2, at=11)
    shop.line(3, 1, at=1)
    second = run(connector, settings)["lines"]
    assert lines(settings) == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert [seen.query["since"] for seen in api.asked("/orders/2/lines")] == ["0", "10"]
    assert first.cursor is not None
    assert second.cursor is not None
    assert (first.cursor.last_value, second.cursor.last_value) == (100, 100)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (2, 2), (3, 1)]


@pytest.mark.faults(row=11)
@both_ways
def test_many_parents_in_many_threads_lose_and_double_nothing(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, merged=merged, parallelized=True)
    for round_ in range(3):
        for number in range(1, 41):
            shop.order(number)
            shop.line(number, round_, at=number + round_ * (number % 7))
        run(connector, settings)
        assert lines(settings) == [(o, n) for o in range(1, 41) for n in range(round_ + 1)]


@pytest.mark.faults(row=11)
@both_ways
def test_the_one_cursor_that_dlt_kept_is_taken_over(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, merged=merged)
    shop.order(1)
    shop.order(2)
    shop.line(1, 1, at=100)
    shop.line(2, 1, at=100)
    load_with_one_cursor(connector, settings, api)
    shop.line(1, 2, at=101)
    shop.order(3)
    shop.line(3, 1, at=120)
    run(connector, settings)
    shop.order(4)
    shop.line(4, 1, at=5)
    run(connector, settings)
    expected = [(1, 1), (1, 2), (2, 1), (3, 1), (4, 1)]
    assert lines(settings) == expected


def load_with_one_cursor(connector: Connector, settings: Settings, api: ApiServer) -> None:
    """What stock dlt leaves behind: one cursor for all parents."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    from restsource_dagster.engine.configuration import configure_dlt

    configure_dlt()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    pipeline = dlt.pipeline(
        "shop",
        pipelines_dir=str(settings.state_dir / "stock"),
        destination=dlt.destinations.duckdb(str(settings.data_dir / "warehouse.duckdb")),
        dataset_name="shop",
    )
    source = rest_api_source(cast("Any", connector.rest_api_config()), name="shop", section="shop")
    pipeline.run(source, loader_file_format="parquet")


@pytest.mark.faults(row=11)
def test_the_parents_not_seen_for_longest_are_forgotten_first() -> None:
    states: dict[str, Any] = {}
    kept = ParentStates("lines", states, forgets=True, most=3)
    for name in ("a", "b", "c"):
        kept.put(name, {"last_value": name})
    assert kept.at("a") == {"last_value": "a"}
    kept.put("d", {"last_value": "d"})
    assert list(states) == ["c", "a", "d"]
    assert kept.at("b") == {}


@pytest.mark.faults(row=11)
def test_where_forgetting_would_double_rows_too_many_parents_are_refused() -> None:
    kept = ParentStates("lines", {}, forgets=False, most=2)
    kept.put("a", {})
    kept.put("b", {})
    kept.put("b", {"last_value": 1})
    with pytest.raises(IngestError, match="resource lines: more than 2 parents"):
        kept.put("c", {})


@pytest.mark.faults(row=11)
def test_a_forgotten_parent_is_merged_again(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restsource_dagster.engine.parent_states.MOST_PARENTS", 2)
    shop = Shop(api)
    connector = shop_connector(api)
    for number in (1, 2, 3):
        shop.order(number)
        shop.line(number, 1, at=number)
    run(connector, settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]


# --- below an incremental parent ----------------------------------------------------------------


@pytest.mark.faults(row=10)
def test_children_without_a_key_are_appended_once_though_their_parent_comes_again(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, merged=False, orders_cursor=True, lines_cursor=False)
    shop.order(1, at=1)
    shop.order(2, at=2)
    shop.line(1, 1)
    shop.line(2, 1)
    run(connector, settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1)]
    shop.order(3, at=2)
    shop.line(3, 1)
    run(connector, settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.faults(row=10)
def test_grandchildren_without_a_key_are_appended_once(api: ApiServer, settings: Settings) -> None:
    shop = Shop(api)
    orders = {
        "name": "orders",
        "primary_key": "id",
        "endpoint": {"path": "orders", "incremental": CURSOR},
    }
    below = {"path": "orders/{resources.orders.id}/lines"}
    middle = {"name": "lines", "endpoint": below, **KEYS["lines"]}
    last = {"name": "notes", "endpoint": "notes/{resources.lines.order}/{resources.lines.n}"}
    connector = make_connector(api.url, orders, middle, last)
    shop.order(1, at=1)
    shop.line(1, 1)
    api.answers["/notes/1/1"] = [{"text": "a"}]
    for _ in range(3):
        run(connector, settings)
    assert query(settings, "SELECT text FROM shop.notes") == [("a",)]


@pytest.mark.faults(row=10)
def test_a_parent_that_comes_twice_in_a_run_is_asked_for_once(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    shop.order(1)
    shop.line(1, 1)
    shop.orders.append(dict(shop.orders[0]))
    run(shop_connector(api, merged=False, lines_cursor=False), settings)
    assert shop.asked(1) == 1
    assert lines(settings) == [(1, 1)]


# --- a subset of a family -----------------------------------------------------------------------


@pytest.mark.faults(row=15)
@both_ways
def test_a_dependent_alone_asks_for_its_parent_says_so_and_does_not_load_it(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    shop, notes = Shop(api), Notes()
    connector = shop_connector(api, merged=merged, orders_cursor=True, lines_cursor=False)
    shop.order(1, at=1)
    shop.line(1, 1)
    assert set(run(connector, settings, "lines", notes=notes)) == {"lines"}
    assert any("orders is asked for because lines needs it" in line for line in notes.messages)
    tables = query(settings, "SELECT table_name FROM information_schema.tables")
    assert ("orders",) not in tables
    run(connector, settings)
    assert query(settings, "SELECT id FROM shop.orders") == [(1,)]
    assert lines(settings) == [(1, 1)]


@pytest.mark.faults(row=15)
@both_ways
def test_a_parent_loaded_alone_leaves_no_gap_below_it(
    api: ApiServer, settings: Settings, merged: bool
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, merged=merged, orders_cursor=True, lines_cursor=False)
    shop.order(1, at=1)
    shop.line(1, 1)
    run(connector, settings)
    shop.order(2, at=2)
    shop.line(2, 1)
    shop.order(3, at=3)
    shop.line(3, 1)
    run(connector, settings, "orders")
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]
    assert shop.asked(1) == (2 if merged else 1)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.faults(row=15)
def test_a_dependent_that_is_added_later_gets_the_whole_history(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, orders_cursor=True, lines_cursor=False)
    for number in (1, 2):
        shop.order(number, at=number)
        shop.line(number, 1)
    run(make_connector(api.url, connector.rest_api_config()["resources"][0]), settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1)]


# --- a parent whose call fails ------------------------------------------------------------------

SKIP = {"on_child_error": {"skip_up_to": 2}}
GONE = Answer({"error": "gone"}, status=410)


@pytest.mark.faults(row=2)
def test_a_failing_child_call_fails_the_family_by_default(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    shop.order(1)
    shop.broken[1] = GONE
    outcomes = load(shop_connector(api), settings)
    assert {name for name, outcome in outcomes.items() if outcome.failed} == {"orders", "lines"}


@pytest.mark.faults(row=2)
@in_both_threads
def test_skipped_parents_are_listed_and_the_others_loaded(
    api: ApiServer, settings: Settings, parallelized: bool
) -> None:
    shop = Shop(api)
    connector = shop_connector(api, http=SKIP, parallelized=parallelized)
    for number in (1, 2, 3):
        shop.order(number)
        shop.line(number, 1)
    shop.broken[2] = GONE
    outcome = run(connector, settings)["lines"]
    assert outcome.skipped == ("orders/2/lines",)
    assert lines(settings) == [(1, 1), (3, 1)]


@pytest.mark.faults(row=2)
def test_more_skipped_parents_than_allowed_fail_the_family(
    api: ApiServer, settings: Settings
) -> None:
    shop = Shop(api)
    for number in (1, 2, 3):
        shop.order(number)
        shop.broken[number] = GONE
    assert load(shop_connector(api, http=SKIP), settings)["lines"].failed


@pytest.mark.faults(row=2)
@both_ways
@in_both_threads
@pytest.mark.parametrize("lines_cursor", [True, False], ids=["cursor", "no cursor"])
def test_a_skipped_parent_leaves_no_row_moves_no_cursor_and_is_asked_again(
    api: ApiServer, settings: Settings, merged: bool, parallelized: bool, lines_cursor: bool
) -> None:
    """The second page fails; the parent itself is incremental and does not come again."""
    shop = Shop(api)
    connector = shop_connector(
        api,
        merged=merged,
        orders_cursor=True,
        lines_cursor=lines_cursor,
        http=SKIP,
        parallelized=parallelized,
    )
    pages = {"paginator": {"type": "offset", "limit": 1, "total_path": None}}
    connector = make_connector(
        api.url, *_with(connector.rest_api_config()["resources"], pages), http=SKIP
    )
    for number in (1, 2, 3):
        shop.order(number, at=number)
        shop.line(number, 1, at=1)
        shop.line(number, 2, at=2)
    broken = [True]

    def paged(number: int) -> Any:
        def answer(seen: Seen) -> Any:
            offset = int(seen.query["offset"])
            if broken[0] and number == 1 and offset == 1:
                return GONE
            return since(shop.lines[number], seen)[offset : offset + 1]

        return answer

    for number in (1, 2, 3):
        api.answers[f"/orders/{number}/lines"] = paged(number)
    assert run(connector, settings)["lines"].skipped == ("orders/1/lines",)
    expected = [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert lines(settings) == expected
    broken[0] = False
    assert run(connector, settings)["lines"].skipped == ()
    assert lines(settings) == [(1, 1), (1, 2), *expected]
    asked = shop.asked(1)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (1, 2), *expected]
    assert shop.asked(1) == asked


def _with(resources: list[Row], more: Row) -> list[Row]:
    resources[1]["endpoint"] |= more
    return resources


@pytest.mark.faults(row=2)
def test_a_parent_without_the_bound_field_is_refused_by_name(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = [{"id": None}]
    outcome = load(shop_connector(api), settings)["lines"]
    assert outcome.failure is not None
    assert "a record of orders has no 'id'" in outcome.failure.message
    assert [seen.path for seen in api.seen] == ["/orders"]
