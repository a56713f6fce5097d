"""Failed calls below a parent: the family fails, or the parent is skipped and requested again."""

from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.faults.shop_of_lines import (
    Row,
    Shop,
    both_ways,
    lines,
    run,
    shop_connector,
    since,
)
from restsource_dagster_tests.making import load, make_connector
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

in_both_threads = pytest.mark.parametrize("parallelized", [False, True])


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
    failure = load(shop_connector(api, http=SKIP), settings)["lines"].failure
    assert failure is not None
    assert "http.on_child_error.skip_up_to (2)" in failure.message
    assert "/orders/3/lines" in failure.message


@pytest.mark.faults(row=2)
@in_both_threads
def test_parents_that_an_earlier_run_skipped_are_not_counted_again(
    api: ApiServer, settings: Settings, parallelized: bool
) -> None:
    """In each run two more parents are gone for good, and one comes back in the last run."""
    shop = Shop(api)
    connector = shop_connector(api, orders_cursor=True, http=SKIP, parallelized=parallelized)
    for number in range(1, 8):
        shop.order(number)
        shop.line(number, 1)
    for gone in (2, 4, 6):
        for number in range(1, gone + 1):
            shop.broken[number] = GONE
            shop.order(number, at=gone)
        outcome = run(connector, settings)["lines"]
        assert outcome.failure is None
        assert len(outcome.skipped) == gone
    shop.broken.pop(1)
    shop.broken[7] = GONE
    shop.order(7, at=8)
    assert len(run(connector, settings)["lines"].skipped) == 6
    # back, and gone again: it counts as new, beside one more
    shop.broken[1] = GONE
    shop.order(1, at=9)
    for number in (8, 9):
        shop.order(number, at=9)
        shop.broken[number] = GONE
    assert load(connector, settings)["lines"].failed


@pytest.mark.faults(row=2)
@both_ways
@in_both_threads
@pytest.mark.parametrize("lines_cursor", [True, False], ids=["cursor", "no cursor"])
def test_a_skipped_parent_has_no_row_moves_no_cursor_and_is_requested_again(
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
        api.url, *_with(rest_api_config(connector)["resources"], pages), http=SKIP
    )
    for number in (1, 2, 3):
        shop.order(number, at=number)
        shop.line(number, 1, at=1)
        shop.line(number, 2, at=2)
    broken = [True]

    def paged(number: int) -> Any:
        def respond(seen: Seen) -> Any:
            offset = int(seen.query["offset"])
            if broken[0] and number == 1 and offset == 1:
                return GONE
            return since(shop.lines[number], seen)[offset : offset + 1]

        return respond

    for number in (1, 2, 3):
        api.answers[f"/orders/{number}/lines"] = paged(number)
    assert run(connector, settings)["lines"].skipped == ("orders/1/lines",)
    expected = [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert lines(settings) == expected
    broken[0] = False
    assert run(connector, settings)["lines"].skipped == ()
    assert lines(settings) == [(1, 1), (1, 2), *expected]
    requests_before = shop.asked(1)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (1, 2), *expected]
    assert shop.asked(1) == requests_before


def _with(resources: list[Row], more: Row) -> list[Row]:
    resources[1]["endpoint"] |= more
    return resources


@pytest.mark.faults(row=2)
def test_a_parent_without_the_bound_field_is_refused_by_name(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = [{"id": 1, "code": None}]
    connector = shop_connector(api, endpoint={"path": "orders/{resources.orders.code}/lines"})
    outcome = load(connector, settings)["lines"]
    assert outcome.failure is not None
    assert "a record of orders has no 'code'" in outcome.failure.message
    assert [seen.path for seen in api.seen] == ["/orders"]
