"""The assets, jobs and sensor of backfills."""

from typing import Any

import dagster as dg
import pytest

from restsource_dagster.orchestration.assets import BROKEN_FILES_GROUP
from restsource_dagster.orchestration.backfills.backfill_status import BACKFILL_SENSOR
from restsource_dagster.orchestration.names import asset_key, backfill_asset_key
from restsource_dagster.settings import Settings
from restsource_dagster_tests.orchestration.backfills.cases import orders
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector

NOWHERE = "http://127.0.0.1:9"
CREATED = "2024-01-05T12:00:00Z"


def define(settings: Settings, name: str = "shop", **block: Any) -> dg.Definitions:
    write_connector(
        settings,
        name,
        NOWHERE,
        resources=[orders(**block), "countries"],
        created_at=CREATED,
        owners=["team:data"],
    )
    return definitions_of(settings)


def test_the_twin_is_partitioned_and_stands_beside_the_live_asset(settings: Settings) -> None:
    definitions = define(settings)
    [spec] = definitions.resolve_assets_def(backfill_asset_key("shop", "orders")).specs
    assert [dep.asset_key for dep in spec.deps] == [asset_key("shop", "orders")]
    assert spec.group_name == "shop"
    assert (spec.kinds, list(spec.owners)) == ({"dlt", "duckdb"}, ["team:data"])
    assert len(spec.code_version or "") == 16
    assert "from 2024-01-01 00:00 up to 2024-01-05 00:00 UTC" in (spec.description or "")
    asset = definitions.resolve_assets_def(backfill_asset_key("shop", "orders"))
    assert asset.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=1)
    assert asset.op.pool == "shop"


def test_the_live_job_does_not_run_partitions(settings: Settings) -> None:
    definitions = define(settings)
    live = definitions.resolve_job_def("shop_job").asset_layer.selected_asset_keys
    assert live == {asset_key("shop", "orders"), asset_key("shop", "countries")}
    windows = definitions.resolve_job_def("shop__orders_history_job")
    assert windows.asset_layer.selected_asset_keys == {backfill_asset_key("shop", "orders")}


def test_there_is_one_sensor_for_all_backfills_and_it_is_on(settings: Settings) -> None:
    define(settings, "till")
    sensor = define(settings).get_repository_def().get_sensor_def(BACKFILL_SENSOR)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert {target.job_name for target in sensor.targets} == {
        "shop__orders_history_job",
        "till__orders_history_job",
    }


@pytest.mark.parametrize("block", [{"auto": False}, {"auto": False, "start": "2030-01-01"}])
def test_without_an_automatic_backfill_there_is_no_sensor(
    settings: Settings, block: dict[str, Any]
) -> None:
    repository = define(settings, **block).get_repository_def()
    assert not repository.has_sensor_def(BACKFILL_SENSOR)


def test_a_backfill_that_begins_after_the_live_stream_has_no_partitions(settings: Settings) -> None:
    asset = define(settings, start="2030-01-01").resolve_assets_def(
        backfill_asset_key("shop", "orders")
    )
    assert asset.partitions_def is not None
    assert list(asset.partitions_def.get_partition_keys()) == []


def test_a_connector_named_like_a_backfill_breaks_nothing_but_itself(settings: Settings) -> None:
    define(settings)
    write_connector(settings, "shop__orders_history", NOWHERE)
    keys = {
        spec.key.to_user_string() for spec in definitions_of(settings).resolve_all_asset_specs()
    }
    assert f"{BROKEN_FILES_GROUP}/shop__orders_history" in keys
    assert "shop/orders_history" in keys
