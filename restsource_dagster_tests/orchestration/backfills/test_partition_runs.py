"""Runs of partitions and live runs through Dagster and the real engine, into a real table."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.orchestration import op
from restsource_dagster.orchestration.names import asset_key, backfill_asset_key
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import query
from restsource_dagster_tests.orchestration.backfills.cases import orders
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = [
    {"id": number, "at": (FIRST + timedelta(hours=6 * number)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    for number in range(24)
]
"""Four a day for six days; the first one right at the start of a partition."""
LINES = {
    "name": "lines",
    "primary_key": ["_orders_id", "n"],
    "include_from_parent": ["id"],
    "endpoint": {"path": "orders/{resources.orders.id}/lines", "data_selector": "lines"},
}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ready:
        yield ready


def filtered(rows: list[dict[str, Any]]) -> Callable[[Seen], dict[str, Any]]:
    """An API that filters by `since` (inclusive) and by `until` (inclusive, too: it is coarse)."""

    def answer(seen: Seen) -> dict[str, Any]:
        since, until = seen.query["since"], seen.query.get("until") or "9999"
        return {"data": [row for row in rows if since <= row["at"] <= until]}

    return answer


@pytest.fixture
def shop(api: ApiServer, settings: Settings) -> dg.Definitions:
    api.answers["/orders"] = filtered(ROWS)
    for row in ROWS:
        api.answers[f"/orders/{row['id']}/lines"] = {"lines": [{"n": 1}, {"n": 2}]}
    api.answers["/countries"] = [{"code": "DE"}]
    return define(api, settings)


def define(api: ApiServer, settings: Settings, **changes: Any) -> dg.Definitions:
    """The shop, created on 2024-01-05 at noon: four partitions, two days are live."""
    resources = [{**orders(**changes)}, LINES, "countries"]
    write_connector(
        settings, "shop", api.url, resources=resources, created_at="2024-01-05T12:00:00Z"
    )
    return definitions_of(settings)


def run_live(
    shop: dg.Definitions, instance: dg.DagsterInstance, *selected: str, **config: Any
) -> dg.ExecuteInProcessResult:
    return shop.resolve_job_def("shop_job").execute_in_process(
        instance=instance,
        asset_selection=[asset_key("shop", name) for name in selected] or None,
        run_config={"ops": {"shop": {"config": config}}} if config else None,
        raise_on_error=False,
    )


def run_window(
    shop: dg.Definitions, instance: dg.DagsterInstance, key: str
) -> dg.ExecuteInProcessResult:
    return shop.resolve_job_def("shop__orders_history_job").execute_in_process(
        instance=instance, partition_key=key, raise_on_error=False
    )


def ids(settings: Settings) -> list[int]:
    return [number for (number,) in query(settings, "SELECT id FROM shop.orders ORDER BY id")]


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.path[-1]: {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def test_the_first_live_run_starts_with_the_partition_of_the_creation(
    api: ApiServer, shop: dg.Definitions, settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert run_live(shop, instance).success
    assert ids(settings) == list(range(16, 24))
    assert api.asked("/orders")[0].query["since"] == "2024-01-05T00:00:00Z"


@pytest.mark.parametrize("before", [0, 2], ids="{} windows before the first live run".format)
def test_live_stream_and_backfill_together_hold_every_row_once(
    shop: dg.Definitions, settings: Settings, instance: dg.DagsterInstance, before: int
) -> None:
    keys = ["2024-01-04", "2024-01-03", "2024-01-02", "2024-01-01"]
    for key in keys[:before]:
        assert run_window(shop, instance, key).success
    # the sensor of first runs does not take the run of a partition for one
    assert instance.get_asset_records([asset_key("shop", "orders")]) == []
    assert run_live(shop, instance).success
    for key in keys[before:]:
        assert run_window(shop, instance, key).success
    assert ids(settings) == list(range(24))
    assert query(settings, "SELECT count(*) FROM shop.lines") == [(48,)]


def test_a_partition_shows_what_it_loaded_and_under_which_definition(
    shop: dg.Definitions, settings: Settings, instance: dg.DagsterInstance
) -> None:
    result = run_window(shop, instance, "2024-01-02")
    found = materialized(result)["orders_history"]
    assert found["rows_loaded"] == 4
    assert found["rows_loaded/lines"] == 8
    assert found["http/requests"] > 0
    assert found["window/start"] == datetime(2024, 1, 2, tzinfo=UTC).timestamp()
    assert found["window/end"] == datetime(2024, 1, 3, tzinfo=UTC).timestamp()
    key = backfill_asset_key("shop", "orders")
    assert instance.get_materialized_partitions(key) == {"2024-01-02"}
    tags = instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert tags["restsource/history"] == "shop/orders"
    assert tags["restsource/window"] == "2024-01-02"
    assert tags["restsource/trigger"] == "backfill"
    [event] = result.get_asset_materialization_events()
    [spec] = shop.resolve_assets_def(key).specs
    assert (event.materialization.tags or {})["dagster/data_version"] == spec.code_version


def test_a_partition_that_is_launched_without_its_job_gets_its_tags(
    shop: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    job = shop.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[backfill_asset_key("shop", "orders")],
        partition_key="2024-01-03",
    )
    tags = instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert tags["restsource/connector"] == "shop"
    assert tags["restsource/trigger"] == "backfill"
    assert tags["restsource/window"] == "2024-01-03"
    assert tags["restsource/definition"]


def test_a_failed_partition_says_why_and_loads_nothing(
    api: ApiServer, shop: dg.Definitions, settings: Settings, instance: dg.DagsterInstance
) -> None:
    run_live(shop, instance)
    api.answers["/orders/4/lines"] = Answer({"message": "gone"}, status=410)
    result = run_window(shop, instance, "2024-01-02")
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure]
    text = failed.step_failure_data.error_display_string
    assert "2 of 2 resources of shop were not loaded" in text
    assert "answered 410" in text
    assert ids(settings) == list(range(16, 24))
    assert not instance.get_materialized_partitions(backfill_asset_key("shop", "orders"))


def test_a_window_in_the_run_config_loads_it_and_moves_no_cursor(
    api: ApiServer, shop: dg.Definitions, settings: Settings, instance: dg.DagsterInstance
) -> None:
    run_live(shop, instance)
    window = {"from": "2024-01-01", "to": "2024-01-02T00:00:00Z"}
    result = run_live(shop, instance, window=window)
    assert result.success
    assert ids(settings) == [0, 1, 2, 3, *range(16, 24)]
    found = materialized(result)
    assert set(found) == {"orders", "lines"}, "a resource without a cursor is left out"
    assert found["orders"]["window/start"] == "2024-01-01T00:00:00Z"
    assert found["orders"]["window/end"] == "2024-01-02T00:00:00Z"
    again = materialized(run_live(shop, instance, "orders"))
    assert again["orders"]["incremental/start_value"] == ROWS[-1]["at"]


def test_set_cursor_goes_on_from_there_and_is_recorded(
    api: ApiServer, shop: dg.Definitions, settings: Settings, instance: dg.DagsterInstance
) -> None:
    run_live(shop, instance)
    result = run_live(shop, instance, "orders", set_cursor={"orders": "2024-01-03"})
    found = materialized(result)["orders"]
    assert found["incremental/set_from"] == ROWS[-1]["at"]
    assert found["incremental/set_to"] == "2024-01-03T00:00:00Z"
    assert api.asked("/orders")[-1].query["since"] == "2024-01-03T00:00:00Z"
    assert ids(settings) == list(range(8, 24))


def test_full_refresh_reloads_what_is_selected_and_keeps_the_backfill(
    api: ApiServer, shop: dg.Definitions, settings: Settings, instance: dg.DagsterInstance
) -> None:
    run_live(shop, instance)
    run_window(shop, instance, "2024-01-01")
    api.answers["/orders"] = filtered(ROWS[:-1])  # a row was deleted at the source
    result = run_live(shop, instance, "orders", full_refresh=True)
    assert result.success
    assert materialized(result)["orders"]["incremental/set_from"] == ROWS[-1]["at"]
    assert ids(settings) == [0, 1, 2, 3, *range(16, 23)]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"window": {"from": "2024-01-02", "to": "2024-01-01"}}, "nothing from"),
        ({"window": {"from": "soon", "to": "2024-01-01"}}, "the cursor is a time"),
        (
            {"window": {"from": "2024-01-01", "to": "2024-01-02"}, "full_refresh": True},
            "Start two runs",
        ),
        ({"set_cursor": {"ordrs": 1}}, "no resource ordrs"),
        ({"set_cursor": {"orders": "soon"}}, "soon"),
    ],
)
def test_an_invalid_run_config_is_refused_before_any_request(
    api: ApiServer,
    shop: dg.Definitions,
    instance: dg.DagsterInstance,
    config: dict[str, Any],
    says: str,
) -> None:
    result = run_live(shop, instance, **config)
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert says in failed.step_failure_data.error_display_string
    assert api.seen == []


def test_the_keys_of_the_partitions_are_those_of_dagster(
    shop: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    partitions = shop.resolve_assets_def(backfill_asset_key("shop", "orders")).partitions_def
    assert partitions is not None
    assert list(partitions.get_partition_keys()) == [f"2024-01-0{day}" for day in (1, 2, 3, 4)]


def test_no_day_is_lost_between_a_backfill_and_live_runs_with_empty_disks(
    api: ApiServer, settings: Settings, instance: dg.DagsterInstance
) -> None:
    """The code server saw the connector on the third day; each run has a disk of its own, today."""
    api.answers["/orders"] = filtered(ROWS)
    file = {"resources": [orders()], "created_at": "2024-01-03T12:00:00Z"}
    write_connector(settings, "shop", api.url, **file)
    requested = definitions_of(settings).resolve_job_def("shop__orders_history_job").tags
    # without a `created_at`, a run on an empty disk takes the present
    write_connector(settings, "shop", api.url, resources=[orders(start="2024-01-01")])
    for number, key in enumerate(["2024-01-02", "2024-01-01"]):
        fresh = settings.model_copy(update={"state_dir": settings.state_dir / str(number)})
        loaded = (
            definitions_of(fresh)
            .resolve_job_def("shop__orders_history_job")
            .execute_in_process(instance=instance, partition_key=key, tags=requested)
        )
        assert loaded.success
    assert run_live(definitions_of(settings), instance).success
    assert query(settings, "SELECT count(*) FROM shop.orders") == [(len(ROWS),)]


def test_an_interrupt_that_a_window_swallows_ends_its_run(
    shop: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a live run: DuckDB may turn the interrupt into an error that dlt ignores."""

    def load(*_: Any, **__: Any) -> Iterator[Outcome]:
        with suppress(dg.DagsterExecutionInterruptedError):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(PATIENCE_SECONDS)
        yield Outcome("orders", "orders", 1.0)

    monkeypatch.setattr(op, "ingest_window", load)
    result = run_window(shop, instance, "2024-01-01")
    assert not result.success
    assert materialized(result) == {}
