"""Asset checks: which a connector has, and what they find after a load of a real API."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from restsource_dagster.orchestration.names import asset_key
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import query
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector
from restsource_dagster_tests.servers.api import ApiServer

NO_HINTS = {"max_table_nesting": 0}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ready:
        yield ready


def run(
    settings: Settings, instance: dg.DagsterInstance, **config: Any
) -> tuple[bool, dict[tuple[str, str], dg.AssetCheckEvaluation]]:
    """Load all resources; return whether the run succeeded, and the results by resource and check."""
    job = definitions_of(settings).resolve_job_def("shop_job")
    run_config = {"ops": {"shop": {"config": config}}} if config else {}
    result = job.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)
    return result.success, {
        (found.asset_key.path[-1], found.check_name): found
        for found in result.get_asset_check_evaluations()
    }


def texts(found: dict[tuple[str, str], dg.AssetCheckEvaluation]) -> dict[tuple[str, str], str]:
    """The descriptions of the failed checks."""
    return {key: each.description or "" for key, each in found.items() if not each.passed}


def resource(name: str, **more: Any) -> dict[str, Any]:
    endpoint = {"path": name, "data_selector": "data", **more.pop("endpoint", {})}
    return {"name": name, "endpoint": endpoint, **more}


CURSOR = {"incremental": {"cursor_path": "at", "initial_value": "2026-01-01T00:00:00Z"}}


def test_a_resource_has_the_checks_that_cost_next_to_nothing_and_those_of_its_file(
    settings: Settings,
) -> None:
    write_connector(
        settings,
        "shop",
        "http://127.0.0.1:1",
        schedule={"mode": "hours", "interval": 2},
        resource_defaults={"checks": {"lag": {"at_most": "2h"}, "rows": {"runs": 5}}},
        resources=[
            "plain",
            resource("keyed", primary_key="id", checks={"schema_drift": False, "rows": False}),
            resource("appended", primary_key="id", write_disposition="append"),
            resource("events", endpoint=CURSOR, checks={"freshness": {"within": "1d"}}),
            resource("left", selected=False, checks={"freshness": False}),
        ],
    )
    assets = definitions_of(settings).resolve_asset_graph()
    found: dict[str, list[str]] = {}
    for key in assets.asset_check_keys:
        found.setdefault(key.asset_key.path[-1], []).append(key.name)
    assert {name: sorted(checks) for name, checks in found.items()} == {
        "plain": ["completeness", "rows", "schema_drift"],
        "keyed": ["completeness", "primary_key"],
        "appended": ["completeness", "rows", "schema_drift"],
        "events": ["completeness", "lag", "rows", "schema_drift"],
    }
    for name, window in (("plain", timedelta(hours=6)), ("events", timedelta(days=1))):
        policy = dg.FreshnessPolicy.time_window(fail_window=window)
        assert assets.get(asset_key("shop", name)).freshness_policy == policy
    assert assets.get(asset_key("shop", "left")).freshness_policy is None
    without = Settings(**{**settings.model_dump(), "default_checks": False})
    keys = definitions_of(without).resolve_asset_graph().asset_check_keys
    assert sorted((key.asset_key.path[-1], key.name) for key in keys) == [
        ("appended", "rows"),
        ("events", "lag"),
        ("events", "rows"),
        ("plain", "rows"),
    ]


def test_checks_and_kinds_are_those_of_the_destinations_type_whatever_its_name(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query of Postgres costs no money, one of Snowflake does."""
    for name in ("postgres", "snowflake"):
        monkeypatch.setenv(f"DESTINATION__MY_{name.upper()}__DESTINATION_TYPE", name)
        write_connector(
            settings,
            f"in_{name}",
            "http://127.0.0.1:1",
            destination=f"my_{name}",
            resources=[resource("orders", primary_key="id")],
        )
    assets = definitions_of(settings).resolve_asset_graph()
    checked = {
        key.asset_key.path[0] for key in assets.asset_check_keys if key.name == "primary_key"
    }
    assert checked == {"in_postgres"}
    for name in ("postgres", "snowflake"):
        assert assets.get(asset_key(f"in_{name}", "orders")).kinds == {"dlt", name}


@pytest.mark.on_destinations
def test_failing_checks_name_keys_numbers_and_columns(
    api: ApiServer, settings: Settings, instance: dg.DagsterInstance
) -> None:
    rows = [{"id": n, "name": "x", "note": "y"} for n in range(30)]
    write_connector(
        settings,
        "shop",
        api.url,
        client={"base_url": api.url, "paginator": "single_page"},
        resources=[
            # Appended, so that no merge makes the keys unique.
            resource(
                "twice", primary_key="id", write_disposition="append", checks={"primary_key": {}}
            ),
            resource(
                "late",
                primary_key="id",
                write_disposition="append",
                checks={"primary_key": {"up_to_rows": 1}},
            ),
            resource(
                "drifts",
                primary_key="id",
                endpoint=CURSOR,
                checks={"lag": {"at_most": "1h"}, "schema_drift": {}},
            ),
            resource("counted", checks={"completeness": {"missing_up_to": 1}}),
            resource("short", checks={"completeness": {"severity": "error", "blocking": True}}),
            resource("whole", primary_key="id", checks={"completeness": {"counts": "table"}}),
            resource("few", checks={"rows": {"at_least": 31, "severity": "error"}}),
        ],
    )
    dated = [{**row, "at": "2026-02-01T00:00:00Z"} for row in rows]
    api.answers |= {
        "/twice": {"data": rows},
        "/late": {"data": rows},
        "/drifts": {"data": dated},
        "/counted": {"data": rows, "numFound": 31},
        "/short": {"data": rows, "numFound": 30},
        "/whole": {"data": rows, "numFound": 30},
        "/few": {"data": rows},
    }
    first, found = run(settings, instance)
    assert first
    assert set(texts(found)) == {("drifts", "lag"), ("few", "rows")}
    assert found["few", "rows"].severity is dg.AssetCheckSeverity.ERROR
    assert "2026-02-01T00:00:00Z" in texts(found)["drifts", "lag"]

    later = [{**row, "at": "2026-02-02T00:00:00Z", "size": 1} for row in rows]
    api.answers |= {
        "/twice": {"data": rows[:2]},
        "/late": {"data": [{"id": 1}, {"id": 99}]},
        "/drifts": {"data": [{k: v for k, v in row.items() if k != "note"} for row in later]},
        "/short": {"data": rows, "numFound": 40},
        "/whole": {"data": rows[:1], "numFound": 29},
    }
    succeeded, found = run(settings, instance)
    failed = texts(found)
    assert set(failed) == {
        ("twice", "primary_key"),
        ("late", "primary_key"),
        ("drifts", "schema_drift"),
        ("drifts", "lag"),
        ("short", "completeness"),
        ("whole", "completeness"),
        ("few", "rows"),
    }
    assert failed["twice", "primary_key"] == "2 keys have several rows, such as id = 0: 2"
    repeated = found["twice", "primary_key"].metadata["repeated"].value
    assert repeated == "| id | rows |\n|---|---|\n| 0 | 2 |\n| 1 | 2 |"
    assert found["twice", "primary_key"].severity is dg.AssetCheckSeverity.ERROR
    assert failed["late", "primary_key"].endswith("such as id = 1: 2")
    assert failed["drifts", "schema_drift"] == (
        "column drifts.size (bigint) is new; column drifts.note has no values any more"
    )
    assert failed["short", "completeness"] == "The API states 40 rows, and 30 arrived."
    assert failed["whole", "completeness"] == "The API states 29 rows, and the table has 30."
    # The blocking check fails the run, after everything is loaded.
    assert not succeeded
    assert query(settings, "SELECT count(*) FROM shop.late") == [(32,)]


def test_a_number_of_rows_is_compared_with_the_last_runs(
    api: ApiServer, settings: Settings, instance: dg.DagsterInstance
) -> None:
    cases = (
        ("first", 4, 100, "100 rows. They are compared once there are 5 earlier runs."),
        ("usual", 5, 51, "51 rows are a usual number: the last 5 runs had 100 to 101."),
        ("few", 5, 20, "20 rows are too few: the last 5 runs had 100 to 101."),
        ("many", 6, 300, "300 rows are too many: the last 5 runs had 101 to 101."),
    )
    write_connector(
        settings,
        "shop",
        api.url,
        resource_defaults={"checks": {"rows": {"runs": 5}}},
        resources=[resource(name) for name, *_ in cases],
    )
    for name, runs, rows, _ in cases:
        api.answers[f"/{name}"] = {"data": [{"id": n} for n in range(rows)]}
        loads = [{"rows_loaded": 100}, *([{"rows_loaded": 101}] * (runs - 1))]
        # A window says nothing about other runs.
        for metadata in (*loads, {"rows_loaded": 9_000, "window/start": 1}):
            key = asset_key("shop", name)
            instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata))
    _, found = run(settings, instance)
    for name, _, _, text in cases:
        assert found[name, "rows"].description == text
        assert found[name, "rows"].passed == ("too" not in text)
    _, found = run(settings, instance, full_refresh=True)
    assert found["few", "rows"].passed
    assert (found["few", "rows"].description or "").startswith("Not compared: ")
    # Dagster logs a line for each check without a result.
    assert sorted(found) == [
        (name, check)
        for name in sorted(name for name, *_ in cases)
        for check in ("completeness", "rows", "schema_drift")
    ]
    assert found["few", "completeness"].description == (
        "Not compared: the API states no total of what was asked for."
    )
