"""The backfill sensor on a real instance: what it requests, given what the instance knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from restsource_dagster.orchestration.backfills.backfill_status import (
    MAX_REQUESTS,
    SETTLE,
    read_loaded_partitions,
)
from restsource_dagster.orchestration.names import asset_key, backfill_asset_key
from restsource_dagster.orchestration.schedules.slot_schedule import InstanceConnectorRuns
from restsource_dagster_tests.making import make_connector
from restsource_dagster_tests.orchestration.backfills.cases import CREATED, Location, orders

Status = dg.DagsterRunStatus
DAYS = [f"2024-01-0{day}" for day in (5, 4, 3, 2, 1)]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ready:
        yield ready


def requested(requests: list[dg.RunRequest]) -> list[str | None]:
    return [request.partition_key for request in requests]


def test_the_newest_partition_is_requested_with_its_tags(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders())
    [request], cursor, _ = location.tick(instance)
    definition = location.plans[0].resource.definition_key
    assert request.job_name == "shop__orders_history_job"
    assert request.partition_key == "2024-01-05"
    assert request.run_key == f"shop/orders:2024-01-05:{definition}:1"
    expected = {
        "restsource/connector": "shop",
        "restsource/trigger": "backfill",
        "restsource/history": "shop/orders",
        "restsource/window": "2024-01-05",
        "restsource/definition": definition,
        "dagster/priority": "-1",
        "dagster/partition": "2024-01-05",
    }
    assert expected.items() <= dict(request.tags).items()
    assert cursor == "shop/orders"


def test_partitions_are_requested_newest_first_until_the_backfill_is_complete(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders())
    seen: list[str | None] = []
    for _ in DAYS:
        [request], _, _ = location.tick(instance)
        run = location.create(instance, request)
        assert location.tick(instance)[0] == []
        location.end(instance, run)
        seen.append(request.partition_key)
    assert seen == DAYS
    assert location.tick(instance)[2] == "The backfill is complete."


def test_the_queue_keeps_the_order_of_partitions_requested_at_once(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders(max_parallel=3))
    requests, _, _ = location.tick(instance)
    priorities = [int(request.tags["dagster/priority"]) for request in requests]
    assert requested(requests) == DAYS[:3]
    assert priorities == [-1, -2, -3]


def test_max_parallel_partitions_are_in_progress_at_once(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders(max_parallel=3))
    requests, _, _ = location.tick(instance)
    assert requested(requests) == DAYS[:3]
    location.create(instance, requests[0])
    assert requested(location.tick(instance)[0]) == DAYS[1:3]


@pytest.mark.parametrize("status", [Status.FAILURE, Status.CANCELED])
def test_a_failed_partition_is_retried_up_to_max_attempts(
    instance: dg.DagsterInstance, tmp_path: Path, status: Status
) -> None:
    location = Location.of(tmp_path, orders(max_attempts=2))
    keys = []
    for _ in range(2):
        [request], _, _ = location.tick(instance)
        assert request.partition_key == DAYS[0]
        keys.append(request.run_key)
        location.create(instance, request, status)
    assert len(set(keys)) == 2
    [request], _, _ = location.tick(instance)
    assert request.partition_key == DAYS[1]
    for day in DAYS[1:]:
        location.load(instance, location.plans[0], day)
    assert location.tick(instance)[2] == "shop/orders: 4 of 5 partitions loaded, 1 failed twice."


def test_a_failed_partition_that_a_person_retries_counts_as_loaded(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders(max_attempts=1))
    location.create(instance, location.tick(instance)[0][0], Status.FAILURE)
    for day in DAYS:
        location.load(instance, location.plans[0], day)
    assert location.tick(instance)[2] == "The backfill is complete."


@pytest.mark.parametrize(
    ("tags", "job", "selection"),
    [
        ({"restsource/connector": "shop", "restsource/trigger": "schedule"}, "shop_job", None),
        ({}, "shop_job", None),
        ({}, "__ASSET_JOB", frozenset({asset_key("shop", "countries")})),
    ],
    ids=["schedule", "untagged", "from the catalog"],
)
def test_no_partition_is_requested_while_a_live_run_waits(
    instance: dg.DagsterInstance,
    tmp_path: Path,
    tags: dict[str, str],
    job: str,
    selection: frozenset[dg.AssetKey] | None,
) -> None:
    location = Location.of(tmp_path, orders())
    run = dg.DagsterRun(job_name=job, tags=tags, status=Status.STARTING, asset_selection=selection)
    instance.add_run(run)
    assert location.tick(instance)[2] == (
        "shop/orders: 0 of 5 partitions loaded, waiting for the live run."
    )
    location.end(instance, run, loaded=False)
    assert requested(location.tick(instance)[0]) == DAYS[:1]


def test_a_live_run_of_another_connector_is_not_in_the_way(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders())
    tags = {"restsource/connector": "till", "restsource/trigger": "schedule"}
    instance.add_run(dg.DagsterRun(job_name="till_job", tags=tags, status=Status.STARTED))
    assert requested(location.tick(instance)[0]) == DAYS[:1]


@pytest.mark.parametrize(
    "tags",
    [
        {"dagster/partition": DAYS[0]},
        {
            "dagster/asset_partition_range_start": DAYS[0],
            "dagster/asset_partition_range_end": DAYS[0],
        },
    ],
    ids=["one", "range"],
)
def test_a_partition_that_a_person_launched_is_not_requested_again(
    instance: dg.DagsterInstance, tmp_path: Path, tags: dict[str, str]
) -> None:
    location = Location.of(tmp_path, orders(max_parallel=2))
    key = backfill_asset_key("shop", "orders")
    instance.add_run(
        dg.DagsterRun(
            job_name="__ASSET_JOB",
            tags=tags,
            status=Status.STARTING,
            asset_selection=frozenset({key}),
        )
    )
    assert requested(location.tick(instance)[0]) == DAYS[1:2]


def test_partitions_of_a_launched_backfill_count_before_they_have_runs(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    from dagster._core.execution.backfill import PartitionBackfill

    location = Location.of(tmp_path, orders(max_parallel=3))
    instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            backfill_id="abc",
            asset_graph=location.definitions.resolve_asset_graph(),
            partition_names=[DAYS[0], DAYS[2]],
            asset_selection=[backfill_asset_key("shop", "orders")],
            backfill_timestamp=datetime.now(UTC).timestamp(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
    )
    assert requested(location.tick(instance)[0]) == [DAYS[1]]


def test_a_changed_definition_makes_the_partitions_due_until_it_is_changed_back(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = Location.of(tmp_path, orders(max_parallel=9))
    changed = Location.of(tmp_path, {**orders(max_parallel=9), "primary_key": "number"})
    for location in (before, changed, before, changed):
        requests, _, _ = location.tick(instance)
        assert requested(requests) == DAYS
        for request in requests:
            location.end(instance, location.create(instance, request))
        assert location.tick(instance)[0] == []
    keys = [run.tags["restsource/window"] for run in instance.get_runs()]
    assert sorted(keys) == sorted(DAYS * 4)


def test_an_earlier_start_adds_exactly_its_partitions(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders())
    for day in DAYS:
        location.load(instance, location.plans[0], day)
    earlier = Location.of(tmp_path, orders(start="2023-12-30", max_parallel=9))
    assert requested(earlier.tick(instance)[0]) == ["2023-12-31", "2023-12-30"]


def test_a_backfill_that_is_not_automatic_gets_no_request(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders(), orders("returns", auto=False))
    requests, _, _ = location.tick(instance)
    assert {request.job_name for request in requests} == {"shop__orders_history_job"}


def test_nothing_is_requested_right_after_loading(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders(), now=CREATED + SETTLE / 2)
    assert "just loaded" in (location.tick(instance)[2] or "")


def test_a_wiped_partition_is_loaded_again(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    location = Location.of(tmp_path, orders(max_parallel=9))
    for request in location.tick(instance)[0]:
        location.end(instance, location.create(instance, request))
    instance.wipe_assets([backfill_asset_key("shop", "orders")])
    requests, _, _ = location.tick(instance)
    assert requested(requests) == DAYS
    assert {(request.run_key or "")[-2:] for request in requests} == {":2"}


def test_a_tick_asks_for_a_bounded_number_and_then_goes_on_with_the_others(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    connectors = [
        make_connector("http://127.0.0.1:9", orders(max_parallel=9), name=f"shop{number:02}")
        for number in range(12)
    ]
    location = Location(tmp_path, *connectors)
    first, cursor, _ = location.tick(instance)
    assert len(first) == MAX_REQUESTS
    second, _, _ = location.tick(instance, cursor)
    assert len(second) == MAX_REQUESTS
    names = {request.job_name for request in [*first, *second]}
    assert len(names) == 12


def test_loaded_partitions_are_found_by_runs_where_dagster_has_no_query_for_them(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders())
    [request], _, _ = location.tick(instance)
    location.end(instance, location.create(instance, request))
    location.load(instance, location.plans[0], DAYS[1])  # by whom is not known

    class Other:
        """An instance of a version whose event log lacks the query."""

        event_log_storage = None
        get_runs = instance.get_runs
        get_materialized_partitions = instance.get_materialized_partitions

    other: Any = Other()
    assert read_loaded_partitions(other, location.plans[0]) == {DAYS[0]}


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    queries: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            queries.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield queries
    finally:
        event.remove(Engine, "before_cursor_execute", count)


def test_a_tick_costs_one_query_per_backfill_and_few_for_all(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    def look(number: int) -> int:
        connectors = [
            make_connector("http://127.0.0.1:9", orders(), name=f"shop{n:02}")
            for n in range(number)
        ]
        location = Location(tmp_path, *connectors)
        for (
            plan
        ) in location.plans:  # nothing is due, so nothing is requested, which would cost more
            for day in DAYS:
                location.load(instance, plan, day)
        with counted_queries() as queries:
            assert location.tick(instance)[0] == []
        return len(queries)

    few, many = look(2), look(12)
    assert many - few <= 2 * 10
    assert few <= 10


def test_a_run_of_a_backfill_blocks_no_schedule(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    location = Location.of(tmp_path, orders())
    [request], _, _ = location.tick(instance)
    location.create(instance, request)
    assert InstanceConnectorRuns(instance, "shop").in_progress() is None
    tags = {"restsource/connector": "shop", "restsource/trigger": "manual"}
    live = dg.DagsterRun(job_name="shop_job", tags=tags, status=Status.STARTED)
    instance.add_run(live)
    found = InstanceConnectorRuns(instance, "shop").in_progress()
    assert found is not None
    assert found.run_id == live.run_id
