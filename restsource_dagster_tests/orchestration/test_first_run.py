from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restsource_dagster.orchestration.names import asset_key
from restsource_dagster.orchestration.sensors.first_run import (
    MAX_REQUESTS,
    SETTLE,
    build_first_run_sensor,
)
from restsource_dagster_tests.orchestration.sensor_cases import (
    CREATED,
    MANUAL,
    Location,
    connector,
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run_first_time(location: Location, instance: dg.DagsterInstance) -> str | None:
    requests, cursor, _ = location.tick(instance)
    for request in requests:
        location.execute(request, instance)
    return cursor


def selection(request: dg.RunRequest) -> set[dg.AssetKey] | None:
    return None if request.asset_selection is None else set(request.asset_selection)


def test_a_connector_never_seen_before_is_run_as_a_whole(instance: dg.DagsterInstance) -> None:
    requests, _, _ = Location(connector("shop", "orders", "customers")).tick(instance)

    assert [(r.job_name, r.asset_selection) for r in requests] == [("shop_job", None)]
    assert (requests[0].run_key or "").startswith(f"first:shop:{CREATED.isoformat()}")
    assert requests[0].tags["restsource/connector"] == "shop"
    assert requests[0].tags["restsource/trigger"] == "first_run"


def test_a_connector_is_requested_only_once(instance: dg.DagsterInstance) -> None:
    location = Location(connector("shop", "orders", "customers"))
    cursor = run_first_time(location, instance)

    requests, after, reason = location.tick(instance, cursor)

    assert (requests, after) == ([], cursor)
    assert reason == "All 1 scheduled connectors had their first run."


@pytest.mark.parametrize("failing", [False, True])
def test_a_lost_cursor_runs_nothing_again_even_if_the_first_run_failed(
    instance: dg.DagsterInstance, failing: bool
) -> None:
    location = Location(connector("shop", "orders", "customers"), failing=failing)
    run_first_time(location, instance)

    assert location.tick(instance, None)[0] == []


def test_another_creation_time_runs_nothing_again(instance: dg.DagsterInstance) -> None:
    run_first_time(Location(connector("shop")), instance)

    later = Location(connector("shop"), created_at=CREATED + timedelta(days=3))

    assert later.tick(instance, None)[0] == []


def test_a_connector_removed_and_put_back_runs_nothing_again(instance: dg.DagsterInstance) -> None:
    both = Location(connector("shop"), connector("crm"))
    cursor = run_first_time(both, instance)

    _, cursor, _ = Location(connector("crm")).tick(instance, cursor)

    assert both.tick(instance, cursor)[0] == []


@pytest.mark.parametrize("failing", [False, True])
def test_resources_added_later_run_without_those_that_were_there(
    instance: dg.DagsterInstance, failing: bool
) -> None:
    cursor = run_first_time(Location(connector("shop", "orders"), failing=failing), instance)
    grown = Location(connector("shop", "orders", "customers", "refunds"))

    requests, cursor, _ = grown.tick(instance, cursor)
    for request in requests:
        grown.execute(request, instance)

    new = {asset_key("shop", "customers"), asset_key("shop", "refunds")}
    assert [selection(request) for request in requests] == [new]
    assert grown.tick(instance, cursor)[0] == []
    assert grown.tick(instance, None)[0] == []


def test_a_first_run_of_some_resources_leaves_the_others_new(instance: dg.DagsterInstance) -> None:
    location = Location(connector("shop", "orders", "customers"))
    by_hand = dg.RunRequest(job_name="shop_job", asset_selection=[asset_key("shop", "orders")])
    location.execute(by_hand, instance)

    requests, _, _ = location.tick(instance)

    assert [selection(request) for request in requests] == [{asset_key("shop", "customers")}]


def test_resources_that_replace_all_others_get_a_run_key_of_their_own(
    instance: dg.DagsterInstance,
) -> None:
    before, _, _ = Location(connector("shop", "orders")).tick(instance)
    cursor = run_first_time(Location(connector("shop", "orders")), instance)

    after, _, _ = Location(connector("shop", "refunds")).tick(instance, cursor)

    assert after[0].asset_selection is None
    assert after[0].run_key != before[0].run_key


def test_a_reported_materialization_counts_as_seen(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(asset_key("shop", "orders")))

    assert Location(connector("shop", "orders")).tick(instance)[0] == []


def test_manual_mode_has_no_first_run_until_it_gets_a_schedule(
    instance: dg.DagsterInstance,
) -> None:
    manual = Location(connector("shop", schedule=MANUAL), connector("crm"))
    requests, cursor, _ = manual.tick(instance)
    assert [request.job_name for request in requests] == ["crm_job"]
    manual.execute(requests[0], instance)

    requests, _, _ = Location(connector("shop"), connector("crm")).tick(instance, cursor)

    assert [request.job_name for request in requests] == ["shop_job"]


def test_a_resource_that_is_not_selected_is_not_waited_for(instance: dg.DagsterInstance) -> None:
    unselected = {"name": "countries", "selected": False}
    location = Location(connector("shop", "orders", unselected))
    location.execute(
        dg.RunRequest(job_name="shop_job", asset_selection=[asset_key("shop", "orders")]), instance
    )

    assert location.tick(instance)[0] == []


def test_it_waits_while_the_daemon_may_not_know_the_new_job_yet(
    instance: dg.DagsterInstance,
) -> None:
    early = Location(connector("shop"), now=CREATED + SETTLE / 2)
    requests, cursor, reason = early.tick(instance)
    assert (requests, cursor) == ([], None)
    assert "just loaded" in (reason or "")

    assert len(Location(connector("shop"), now=CREATED + SETTLE).tick(instance, cursor)[0]) == 1


def test_a_clock_that_was_set_back_does_not_hold_the_first_run_up(
    instance: dg.DagsterInstance,
) -> None:
    location = Location(connector("shop"), now=CREATED - timedelta(days=1))

    assert len(location.tick(instance)[0]) == 1


def test_many_new_connectors_are_requested_in_several_ticks_and_each_once(
    instance: dg.DagsterInstance,
) -> None:
    names = [f"api_{number:03}" for number in range(2 * MAX_REQUESTS + 5)]
    location = Location(*(connector(name) for name in names))

    cursor: str | None = None
    asked = []
    for _ in range(4):
        requests, cursor, _ = location.tick(instance, cursor)
        asked.append([(request.job_name or "").removesuffix("_job") for request in requests])

    assert [len(batch) for batch in asked] == [MAX_REQUESTS, MAX_REQUESTS, 5, 0]
    assert [name for batch in asked for name in batch] == names


def test_a_tick_without_news_asks_the_instance_nothing(instance: dg.DagsterInstance) -> None:
    location = Location(connector("shop"), connector("crm"))
    cursor = run_first_time(location, instance)

    # A context without an instance raises as soon as its instance is used.
    assert location.tick(None, cursor)[0] == []


def test_the_sensor_cursor_stays_small(instance: dg.DagsterInstance) -> None:
    location = Location(*(connector(f"api_{number:03}") for number in range(60)))
    _, cursor, _ = location.tick(instance)

    assert len(cursor or "") < 200


def test_a_restart_does_not_change_the_cursor(instance: dg.DagsterInstance) -> None:
    cursor = run_first_time(Location(connector("shop"), connector("crm")), instance)

    restarted = Location(connector("crm"), connector("shop"))

    assert restarted.tick(None, cursor)[1] == cursor


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    cursor=st.one_of(
        st.text(),
        st.sampled_from(['{"version": 1', "[]", "null", "7", '{"version": 2, "known": "x"}']),
    )
)
def test_a_cursor_that_is_not_ours_starts_over(instance: dg.DagsterInstance, cursor: str) -> None:
    requests, _, _ = Location(connector("shop")).tick(instance, cursor)

    assert [request.job_name for request in requests] == ["shop_job"]


@pytest.mark.parametrize("connectors", [[], [(connector("shop", schedule=MANUAL), CREATED)]])
def test_without_scheduled_connectors_it_loads_and_skips(
    instance: dg.DagsterInstance, connectors: list[Any]
) -> None:
    jobs: dict[str, Any] = {}
    sensor = build_first_run_sensor(connectors, jobs, CREATED)
    definitions = dg.Definitions(sensors=[sensor])

    context = dg.build_sensor_context(instance=instance, definitions=definitions)
    assert sensor.evaluate_tick(context).run_requests == []


def test_it_is_switched_on_and_has_the_fixed_name() -> None:
    sensor = Location(connector("shop")).sensor

    assert sensor.name == "restsource_first_run"
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
