"""Materializing a connector's assets on a real instance."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from restsource_dagster.engine.run.outcome import Outcome, SweepResult
from restsource_dagster.orchestration.assets import materialization_metadata
from restsource_dagster.orchestration.names import TAG_CONNECTOR, TAG_TRIGGER, asset_key
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import query
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector
from restsource_dagster_tests.servers.api import Answer, ApiServer


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ready:
        yield ready


@pytest.fixture
def shop(api: ApiServer, settings: Settings) -> dg.Definitions:
    api.answers |= {
        "/orders": {"data": [{"id": 1, "updated_at": "2026-01-01T00:00:00Z"}]},
        "/orders/1/lines": {"lines": [{"n": 1}, {"n": 2}]},
        "/countries": [{"code": "DE"}],
    }
    write_connector(settings, "shop", api.url)
    return definitions_of(settings)


def run(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *resources: str
) -> dg.ExecuteInProcessResult:
    selection = [asset_key("shop", resource) for resource in resources] or None
    job = definitions.resolve_job_def("shop_job")
    return job.execute_in_process(
        instance=instance, asset_selection=selection, raise_on_error=False
    )


def metadata_by_resource(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.path[-1]: {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def test_a_materialization_shows_rows_cursor_requests_and_columns(
    shop: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    found = metadata_by_resource(run(shop, instance))
    assert set(found) == {"orders", "lines", "countries"}
    orders = found["orders"]
    assert orders["rows_loaded"] == 1
    assert orders["dagster/row_count"] == 1
    assert orders["dagster/table_name"] == "shop.orders"
    assert [column.name for column in orders["dagster/column_schema"].columns][:2] == [
        "id",
        "updated_at",
    ]
    assert orders["incremental/cursor_path"] == "updated_at"
    assert orders["incremental/start_value"] == "1970-01-01T00:00:00Z"
    assert orders["incremental/last_value"] == "2026-01-01T00:00:00Z"
    assert isinstance(orders["incremental/lag_seconds"], float)
    assert (orders["http/requests"], orders["http/retries"]) == (1, 0)
    assert orders["http/bytes"] > 0
    assert isinstance(orders["seconds"], float)
    assert (orders["dataset_name"], orders["destination_name"]) == ("shop", "duckdb")
    assert "incremental/cursor_path" not in found["countries"]


def test_materializing_twice_in_one_process_works_and_says_0_new_rows(
    api: ApiServer, shop: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    run(shop, instance)
    api.answers["/orders"] = {"data": []}
    again = run(shop, instance)
    assert again.success
    found = metadata_by_resource(again)
    assert (found["orders"]["rows_loaded"], found["orders"]["dagster/row_count"]) == (0, 1)
    assert found["orders"]["incremental/last_value"] == "2026-01-01T00:00:00Z"


def test_a_failed_resource_fails_the_run_and_the_others_materialize(
    api: ApiServer, settings: Settings, shop: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    api.answers["/orders/1/lines"] = Answer({"message": "gone"}, status=410)
    result = run(shop, instance)
    assert not result.success
    assert set(metadata_by_resource(result)) == {"countries"}
    [failure] = [event for event in result.all_events if event.is_step_failure]
    text = failure.step_failure_data.error_display_string
    assert "2 of 3 resources of shop were not loaded" in text
    assert "lines (and with it orders)" in text
    assert "answered 410" in text
    assert query(settings, "SELECT code FROM shop.countries") == [("DE",)]


def test_a_subset_loads_only_what_is_selected(
    api: ApiServer, shop: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = run(shop, instance, "countries")
    assert set(metadata_by_resource(result)) == {"countries"}
    assert {seen.path for seen in api.seen} == {"/countries"}


def test_a_run_started_without_the_jobs_tags_gets_them(
    shop: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    job = shop.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, asset_selection=[asset_key("shop", "orders")]
    )
    tags = instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert (tags[TAG_CONNECTOR], tags[TAG_TRIGGER]) == ("shop", "manual")


def test_checkpoints_and_the_place_are_in_the_metadata() -> None:
    whole = Outcome("orders", "orders", 1.0)
    assert not {"checkpoints", "resumed_from"} & materialization_metadata(whole).keys()
    parts = replace(whole, checkpoints=2, resumed_from="orders: page 4, position 15")
    metadata = materialization_metadata(parts)
    assert metadata["checkpoints"] == 2
    assert metadata["resumed_from"] == "orders: page 4, position 15"


def test_a_resource_that_is_left_as_it_is_materializes_and_says_why(
    api: ApiServer, settings: Settings, instance: dg.DagsterInstance
) -> None:
    actions = [{"status_code": 403, "action": "skip"}]
    file = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url},
        "resources": [{"name": "audits", "endpoint": {"response_actions": actions}}],
    }
    settings.configs.mkdir(exist_ok=True)
    (settings.configs / "shop.json").write_text(json.dumps(file))
    definitions = definitions_of(settings)
    api.answers["/audits"] = [{"id": 1}, {"id": 2}]
    assert run(definitions, instance).success
    api.answers["/audits"] = Answer({"error": "not in your plan"}, 403)
    again = run(definitions, instance)
    assert again.success
    audits = metadata_by_resource(again)["audits"]
    assert audits["left_as_it_is"] == (
        "resource audits: the API answered 403 (Forbidden), and response_actions say `skip`"
    )
    assert (audits["rows_loaded"], audits["dagster/row_count"]) == (0, 2)
    assert [column.name for column in audits["dagster/column_schema"].columns][:1] == ["id"]
    assert "written_as" not in audits


def test_a_materialization_shows_its_last_requests_without_secrets(
    api: ApiServer,
    settings: Settings,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cr3t-k3y")
    api.answers["/countries"] = lambda seen: (
        [{"code": seen.query["offset"]}] * 2 if int(seen.query["offset"]) < 24 else []
    )
    login = {"type": "api_key", "name": "key", "location": "query", "api_key": "${SHOP_KEY}"}
    paginator = {"type": "offset", "limit": 2, "total_path": None}
    client = {"base_url": api.url, "auth": login, "paginator": paginator}
    write_connector(
        settings,
        "shop",
        api.url,
        client=client,
        http={"max_concurrency": 1},
        resources=["countries"],
    )
    found = metadata_by_resource(run(definitions_of(settings), instance))["countries"]
    header, _, *lines = found["http/last_requests"].splitlines()
    assert header == "| request | answer | seconds |"
    assert len(lines) == 10
    assert "offset=24" in lines[-1]
    assert lines[-1].startswith(f"| `GET {api.url}/countries?")
    assert lines[-1].split("|")[2] == " 200 "
    assert "s3cr3t" not in found["http/last_requests"]


def test_how_many_rows_went_is_a_number_or_a_reason() -> None:
    """By tombstones, in tables whose keys the resource names, and by a sweep."""
    went = Outcome("items", "items", 1.0, rows_deleted=2, rows_deleted_from={"notes": 3})
    swept = replace(went, sweep=SweepResult(listed=9, rows=1))
    refused = replace(went, sweep=SweepResult(listed=0, refused="the API lists no record"))
    numbers = {"rows_deleted": 2, "rows_deleted/notes": 3}
    for outcome, expected in (
        (Outcome("items", "items", 1.0), {}),
        (swept, {**numbers, "sweep/listed": 9, "sweep/rows_deleted": 1}),
        (
            refused,
            {
                **numbers,
                "sweep/listed": 0,
                "sweep/rows_deleted": 0,
                "sweep/refused": "the API lists no record",
            },
        ),
    ):
        metadata = materialization_metadata(outcome)
        shown = {k: v for k, v in metadata.items() if k.startswith(("rows_deleted", "sweep"))}
        assert shown == expected
