"""A load without an order of rows is stored in parts, and goes on at its place in the paging."""

import base64
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest

from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run.reset import reset_resources
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.paged_orders import LINES, PAGE, PAGING, PagedOrders, paged
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=21)

ONE_AT_A_TIME = {"max_concurrency": 1}
"""So that the wall comes after the same page each time."""
APPENDED = {"write_disposition": "append"}
MERGED = {"write_disposition": "merge", "primary_key": "id"}
IN_TURN = [(kind, (APPENDED, MERGED)[n % 2]) for n, kind in enumerate(PAGING)]
OTHERWISE = [(kind, (MERGED, APPENDED)[n % 2]) for n, kind in enumerate(PAGING)]
"""Each kind of paging with one disposition, and with the other one. Neither knows of the other."""


@pytest.fixture
def orders(api: ApiServer) -> PagedOrders:
    return PagedOrders(api, rows=25)


def ids(settings: Settings, table: str = "orders", key: str = "id") -> list[Any]:
    return [row[0] for row in query(settings, f"SELECT {key} FROM shop.{table} ORDER BY {key}")]


def ran(outcomes: dict[str, Outcome], name: str = "orders") -> Outcome:
    assert outcomes[name].failure is None, outcomes[name].failure
    return outcomes[name]


def in_parts(settings: Settings) -> Settings:
    """Settings with a checkpoint after each page."""
    return settings.model_copy(update={"checkpoint_seconds": 1e-9})


def is_state_clean(settings: Settings) -> bool:
    """True if the newest state has no unfinished load."""
    (state,) = query(
        settings,
        "SELECT state FROM shop._dlt_pipeline_state AS s JOIN shop._dlt_loads AS l "
        "ON l.load_id = s._dlt_load_id ORDER BY s._dlt_load_id DESC LIMIT 1",
    )[0]
    return "unfinished" not in zlib.decompress(base64.b64decode(state)).decode()


@pytest.mark.parametrize(("kind", "disposition"), IN_TURN)
def test_a_load_in_parts_has_each_row_once(
    orders: PagedOrders, settings: Settings, kind: str, disposition: dict[str, Any]
) -> None:
    notes = Notes()
    del orders.rows[3 * PAGE :]
    connector = make_connector(orders.api.url, paged(kind, **disposition), http=ONE_AT_A_TIME)
    outcome = ran(load(connector, in_parts(settings), observer=notes))
    assert ids(settings) == list(range(len(orders.rows)))
    assert outcome.checkpoints == len(notes.checkpoints) >= len(orders.rows) // PAGE - 1
    assert orders.requests <= len(orders.rows) // PAGE + 1
    assert is_state_clean(settings)


@pytest.mark.parametrize(("kind", "disposition"), OTHERWISE[:2])
def test_a_quota_of_a_fifth_of_the_load_ends_in_six_runs(
    orders: PagedOrders, settings: Settings, kind: str, disposition: dict[str, Any]
) -> None:
    check_quota_of_a_page(orders, settings, paged(kind, **disposition), runs=6)


@pytest.mark.parametrize(("kind", "disposition"), OTHERWISE[2:])
def test_a_quota_of_a_third_of_the_load_ends_in_four_runs(
    orders: PagedOrders, settings: Settings, kind: str, disposition: dict[str, Any]
) -> None:
    del orders.rows[3 * PAGE :]
    check_quota_of_a_page(orders, settings, paged(kind, **disposition), runs=4)


def check_quota_of_a_page(
    orders: PagedOrders, settings: Settings, resource: dict[str, Any], runs: int
) -> None:
    """Run with a quota of one page until the load is complete, in at most so many runs."""
    connector = make_connector(orders.api.url, resource, http=ONE_AT_A_TIME)
    for run in range(1, runs + 1):
        orders.requests_left = 1
        outcome = load(connector, settings)["orders"]
        assert (outcome.resumed_from is not None) == (run > 1)
        if not outcome.failed:
            break
        assert outcome.failure is not None
        assert "asks to wait" in outcome.failure.message
        assert ids(settings) == list(range(min(run * PAGE, len(orders.rows))))
    assert not outcome.failed
    assert ids(settings) == list(range(len(orders.rows)))
    assert is_state_clean(settings)


# kills leave off in each pair of dispositions: `test_killed_parts.py`
@pytest.mark.parametrize(
    ("disposition", "lines_disposition"),
    [(APPENDED, "merge"), (MERGED, "append")],
    ids=["append-merge", "merge-append"],
)
def test_a_quota_below_parents_ends_too(
    api: ApiServer, settings: Settings, disposition: dict[str, Any], lines_disposition: str
) -> None:
    orders = PagedOrders(api, rows=8)
    connector = make_connector(
        orders.api.url,
        paged("link", **disposition),
        {**LINES, "write_disposition": lines_disposition},
        http=ONE_AT_A_TIME,
    )
    wanted = 2 + 8 * 2
    for _ in range(7):
        orders.requests_left = wanted // 5
        outcomes = load(connector, settings)
        if not outcomes["lines"].failed:
            break
    ran(outcomes, "lines")
    assert ids(settings) == list(range(8))
    assert ids(settings, "lines", "line") == orders.all_lines
    assert is_state_clean(settings)


@pytest.mark.parametrize("disposition", [APPENDED, MERGED], ids=["append", "merge"])
def test_a_place_that_the_api_refuses_starts_the_load_anew(
    orders: PagedOrders, settings: Settings, disposition: dict[str, Any]
) -> None:
    connector = make_connector(orders.api.url, paged("link", **disposition), http=ONE_AT_A_TIME)
    orders.requests_left = 3
    assert load(connector, settings)["orders"].failed
    orders.requests_left = 1_000
    notes = Notes()

    def refuse_once(number: int) -> None:
        orders.refuses_places = number == 5

    orders.before = refuse_once
    ran(load(connector, settings, observer=notes))
    assert any("anew" in text for text in notes.messages)
    assert ids(settings) == list(range(len(orders.rows)))
    assert is_state_clean(settings)


def test_rows_that_were_taken_back_are_loaded_again_after_a_kill(
    orders: PagedOrders, settings: Settings
) -> None:
    # the file is edited, so the load starts anew; that run meets a wall at once, and the edit is undone
    before = make_connector(orders.api.url, paged("link", **APPENDED), http=ONE_AT_A_TIME)
    endpoint = {"params": {"kind": "all"}}
    after = make_connector(
        orders.api.url, paged("link", endpoint=endpoint, **APPENDED), http=ONE_AT_A_TIME
    )
    orders.requests_left = 3
    assert load(before, settings)["orders"].failed
    orders.requests_left = 0
    assert load(after, settings)["orders"].failed
    assert ids(settings) == []
    orders.requests_left = 1_000
    ran(load(before, settings))
    assert ids(settings) == list(range(len(orders.rows)))


@pytest.mark.parametrize(
    ("changed", "disposition"),
    [
        ({"endpoint": {"params": {"kind": "all"}}}, MERGED),
        ({"include_from_parent": []}, APPENDED),
        ({"table_name": "sales"}, APPENDED),
        ({"table_name": "sales"}, MERGED),
        ({"columns": {"name": {"data_type": "text"}}}, APPENDED),
    ],
    ids=["params", "nothing", "table", "merged table", "columns"],
)
def test_a_file_that_asks_for_something_else_starts_the_load_anew(
    orders: PagedOrders,
    settings: Settings,
    changed: dict[str, Any],
    disposition: dict[str, Any],
) -> None:
    orders.requests_left = 3
    first = make_connector(orders.api.url, paged("link", **disposition), http=ONE_AT_A_TIME)
    assert load(first, settings)["orders"].failed
    orders.requests_left = 1_000
    is_same = changed == {"include_from_parent": []}
    edited = {} if is_same else changed
    second = make_connector(
        orders.api.url, paged("link", **edited, **disposition), http=ONE_AT_A_TIME
    )
    outcome = ran(load(second, settings))
    assert (outcome.resumed_from is not None) == is_same
    table = edited.get("table_name", "orders")
    assert ids(settings, table) == list(range(len(orders.rows)))
    if "table_name" in changed and disposition is APPENDED:
        assert ids(settings) == []


@pytest.mark.parametrize(
    ("added", "kind", "key"),
    [
        (1, "offset", {}),
        (1, "page", {"primary_key": "id"}),
        (3, "page", {}),
        (3, "offset", {"primary_key": "id"}),
        (7, "offset", {}),
        (7, "page", {"primary_key": "id"}),
    ],
)
def test_rows_that_come_again_because_pages_shift_are_appended_once(
    orders: PagedOrders, settings: Settings, kind: str, key: dict[str, Any], added: int
) -> None:
    connector = make_connector(orders.api.url, paged(kind, **key, **APPENDED), http=ONE_AT_A_TIME)
    orders.requests_left = 3
    assert load(connector, settings)["orders"].failed
    orders.requests_left = 1_000
    new = [{"id": 100 + number, "name": "new"} for number in range(added)]
    known = list(range(len(orders.rows)))
    orders.rows = [*new, *orders.rows]
    ran(load(connector, settings))
    # the new ones lie before the place
    assert ids(settings) == known


def test_equal_rows_without_a_key_are_all_appended(orders: PagedOrders, settings: Settings) -> None:
    orders.rows = [{"id": number // 10} for number in range(20)]
    connector = make_connector(orders.api.url, paged("offset", **APPENDED), http=ONE_AT_A_TIME)
    ran(load(connector, in_parts(settings)))
    assert ids(settings) == [0] * 10 + [1] * 10


def test_no_link_with_a_secret_is_stored(orders: PagedOrders, settings: Settings) -> None:
    secret = "s3cret-token-of-the-api"
    auth = {"type": "api_key", "name": "token", "api_key": secret, "location": "query"}
    answer = orders.answer

    def with_token(seen: Any) -> Any:
        made = answer(seen)
        if made.body.get("next"):
            made.body["next"] += f"&token={secret}"
        return made

    orders.api.answers["/orders"] = with_token
    connector = make_connector(
        orders.api.url, paged("link", **APPENDED), client={"auth": auth}, http=ONE_AT_A_TIME
    )
    outcome = ran(load(connector, in_parts(settings)))
    assert outcome.checkpoints == 0
    assert ids(settings) == list(range(len(orders.rows)))


def test_rows_that_are_deleted_between_two_parts_make_the_load_start_anew(
    orders: PagedOrders, settings: Settings
) -> None:
    connector = make_connector(orders.api.url, paged("offset", **APPENDED), http=ONE_AT_A_TIME)
    orders.requests_left = 3
    assert load(connector, settings)["orders"].failed
    orders.requests_left = 1_000
    # the rows behind it move to pages that were read
    del orders.rows[2]
    notes = Notes()
    ran(load(connector, settings, observer=notes))
    assert any("total fell" in text for text in notes.messages), notes.messages
    assert ids(settings) == [number for number in range(25) if number != 2]


def test_the_total_is_compared_with_all_parts(orders: PagedOrders, settings: Settings) -> None:
    notes = Notes()
    del orders.rows[3 * PAGE :]
    connector = make_connector(orders.api.url, paged("offset", **MERGED), http=ONE_AT_A_TIME)
    ran(load(connector, in_parts(settings), observer=notes))
    assert not [text for text in notes.messages if "missing" in text]


@pytest.mark.parametrize("reset", [None, ["orders"]], ids=["all", "orders"])
def test_a_reset_starts_the_load_anew(
    orders: PagedOrders, settings: Settings, reset: list[str] | None
) -> None:
    connector = make_connector(orders.api.url, paged("link", **APPENDED), http=ONE_AT_A_TIME)
    orders.requests_left = 3
    assert load(connector, settings)["orders"].failed
    orders.requests_left = 1_000
    reset_resources(connector, reset, settings)
    ran(load(connector, settings))
    assert ids(settings) == list(range(len(orders.rows)))


def test_a_full_refresh_replaces_the_rows_of_an_unfinished_load(
    orders: PagedOrders, settings: Settings
) -> None:
    connector = make_connector(orders.api.url, paged("link", **APPENDED), http=ONE_AT_A_TIME)
    orders.requests_left = 3
    assert load(connector, settings)["orders"].failed
    orders.requests_left = 1_000
    outcomes = ingest(connector, settings=settings, environment={}, full_refresh=["orders"])
    ran({outcome.resource: outcome for outcome in outcomes})
    assert ids(settings) == list(range(len(orders.rows)))
    assert is_state_clean(settings)


def test_parents_that_several_records_name_are_requested_once_over_all_parts(
    orders: PagedOrders, settings: Settings
) -> None:
    customers = {
        "name": "customers",
        "write_disposition": "append",
        "endpoint": {"path": "customers/{resources.orders.customer}", "paginator": "single_page"},
    }
    del orders.rows[3 * PAGE :]
    for row in orders.rows:
        row["customer"] = row["id"] % 3
        orders.api.answers[f"/customers/{row['customer']}"] = [{"customer": row["customer"]}]
    connector = make_connector(orders.api.url, paged("link", **APPENDED), customers)
    outcomes = load(connector, in_parts(settings))
    assert ran(outcomes, "customers").checkpoints > 3
    assert ids(settings, "customers", "customer") == [0, 1, 2]


def test_parents_that_are_not_loaded_are_read_in_parts_too(
    api: ApiServer, settings: Settings
) -> None:
    orders = PagedOrders(api, rows=3, page=2)
    connector = make_connector(orders.api.url, paged("link", **MERGED), LINES)
    outcomes = load(connector, in_parts(settings), resources=["lines"])
    assert ran(outcomes, "lines").checkpoints > 3
    assert ids(settings, "lines", "line") == orders.all_lines


def test_another_selection_of_resources_starts_the_load_anew(
    orders: PagedOrders, settings: Settings
) -> None:
    lines = {**LINES, "write_disposition": "append"}
    connector = make_connector(orders.api.url, paged("link", **APPENDED), lines, http=ONE_AT_A_TIME)
    orders.requests_left = 9
    assert load(connector, settings)["orders"].failed
    orders.requests_left = 1_000
    outcome = ran(load(connector, settings, resources=["orders"]))
    assert outcome.resumed_from is None
    assert ids(settings) == list(range(len(orders.rows)))
    assert ids(settings, "lines", "line") == []


def test_relative_times_are_those_of_the_run_that_began_the_load(
    orders: PagedOrders, settings: Settings
) -> None:
    endpoint = {"params": {"until": "{now}"}}
    connector = make_connector(
        orders.api.url, paged("offset", endpoint=endpoint, **APPENDED), http=ONE_AT_A_TIME
    )
    for day in range(1, 4):
        orders.requests_left = 2
        started = datetime(2026, 1, day, tzinfo=UTC)
        outcomes = ingest(connector, settings=settings, environment={}, started=started)
        outcome = next(iter(outcomes))
    ran({"orders": outcome})
    assert len({seen.query["until"] for seen in orders.api.asked("/orders")}) == 1
    assert outcome.now == datetime(2026, 1, 1, tzinfo=UTC)
    assert ids(settings) == list(range(len(orders.rows)))


def test_params_of_the_first_page_are_not_sent_at_a_place(
    orders: PagedOrders, settings: Settings
) -> None:
    paginator = {**PAGING["cursor"], "first_page_params": ["since"]}
    endpoint = {"params": {"since": "2026-01-01"}, "paginator": paginator}
    del orders.rows[3 * PAGE :]
    connector = make_connector(
        orders.api.url, paged("cursor", endpoint=endpoint, **APPENDED), http=ONE_AT_A_TIME
    )
    ran(load(connector, in_parts(settings)))
    sent = [seen.query for seen in orders.api.asked("/orders") if "since" in seen.query]
    assert all("after" not in query for query in sent)
    assert ids(settings) == list(range(len(orders.rows)))
