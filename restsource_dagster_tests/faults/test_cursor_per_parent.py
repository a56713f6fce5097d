"""A dependent resource with a cursor has one per parent."""

from typing import Any, cast

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.cursor_state import ParentCursorStates
from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.faults.shop_of_lines import (
    Shop,
    both_ways,
    lines,
    run,
    shop_connector,
)
from restsource_dagster_tests.servers.api import ApiServer

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
def test_many_parents_in_many_threads_are_loaded_once(
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
def test_the_single_cursor_that_dlt_stored_is_taken_over(
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

    from restsource_dagster.engine.destination.dlt_config import configure_dlt

    configure_dlt()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    pipeline = dlt.pipeline(
        "shop",
        pipelines_dir=str(settings.state_dir / "stock"),
        destination=dlt.destinations.duckdb(str(settings.data_dir / "warehouse.duckdb")),
        dataset_name="shop",
    )
    source = rest_api_source(cast("Any", rest_api_config(connector)), name="shop", section="shop")
    pipeline.run(source, loader_file_format="parquet")


@pytest.mark.faults(row=11)
def test_the_parents_read_least_recently_are_evicted_first() -> None:
    states: dict[str, Any] = {}
    kept = ParentCursorStates("lines", states, evicts=True, max_parents=3)
    for name in ("a", "b", "c"):
        kept.put(name, {"last_value": name})
    assert kept.get("a") == {"last_value": "a"}
    kept.put("d", {"last_value": "d"})
    assert list(states) == ["c", "a", "d"]
    assert kept.get("b") == {}


@pytest.mark.faults(row=11)
def test_too_many_parents_are_refused_if_rows_are_appended() -> None:
    kept = ParentCursorStates("lines", {}, evicts=False, max_parents=2)
    kept.put("a", {})
    kept.put("b", {})
    kept.put("b", {"last_value": 1})
    with pytest.raises(IngestError, match="resource lines: more than 2 parents"):
        kept.put("c", {})


@pytest.mark.faults(row=11)
def test_an_evicted_parent_is_merged_again(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restsource_dagster.engine.incremental.cursor_state.MAX_MERGED_PARENTS", 2)
    shop = Shop(api)
    connector = shop_connector(api)
    for number in (1, 2, 3):
        shop.order(number)
        shop.line(number, 1, at=number)
    run(connector, settings)
    run(connector, settings)
    assert lines(settings) == [(1, 1), (2, 1), (3, 1)]
