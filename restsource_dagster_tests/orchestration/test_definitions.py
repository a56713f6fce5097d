"""From a folder of files to the definitions that Dagster shows."""

import json
from pathlib import Path

import dagster as dg
import pytest

from restsource_dagster.connector.templates import find_shipped_template
from restsource_dagster.orchestration.assets import BROKEN_FILES_GROUP
from restsource_dagster.orchestration.names import TAG_CONNECTOR, asset_key
from restsource_dagster.settings import Settings
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector

NOWHERE = "http://127.0.0.1:9"


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_each_resource_is_an_asset_with_what_the_file_says(settings: Settings) -> None:
    path = write_connector(
        settings, "shop", NOWHERE, description="A shop", owners=["team:data"], tags={"tier": "gold"}
    )
    found = specs(definitions_of(settings))
    assert set(found) == {"shop/orders", "shop/lines", "shop/countries"}
    orders = found["shop/orders"]
    assert orders.group_name == "shop"
    own, file = (orders.description or "").split("\n\n")
    assert own.startswith("GET orders, incremental by updated_at. Merge, because ")
    assert file == "A shop"
    assert (orders.kinds, list(orders.owners)) == ({"dlt", "duckdb"}, ["team:data"])
    assert orders.tags["tier"] == "gold"
    assert orders.metadata["write_disposition"] == dg.MetadataValue.text("merge")
    [reference] = orders.metadata["dagster/code_references"].code_references
    lines = path.read_text().splitlines()
    assert reference.file_path == str(path.absolute())
    assert '"name": "orders"' in "".join(lines[reference.line_number - 1 :][:2])


def test_assets_of_a_template_show_its_name_and_version(settings: Settings) -> None:
    inputs = {"owner": "acme", "repo": "rocket", "token": "${GITHUB_TOKEN}"}
    file = {"template": "github", "inputs": inputs, "schedule": {"mode": "manual"}}
    settings.configs.mkdir()
    (settings.configs / "rocket.json").write_text(json.dumps(file))
    shown = {spec.metadata["template"] for spec in specs(definitions_of(settings)).values()}
    assert shown == {dg.MetadataValue.text(find_shipped_template("github").label)}


def test_a_dependent_resource_has_its_parent_upstream(settings: Settings) -> None:
    write_connector(settings, "shop", NOWHERE)
    lines = specs(definitions_of(settings))["shop/lines"]
    assert [dep.asset_key for dep in lines.deps] == [asset_key("shop", "orders")]


def test_a_connector_has_a_job_and_a_schedule_both_switched_on(settings: Settings) -> None:
    write_connector(settings, "shop", NOWHERE)
    repository = definitions_of(settings).get_repository_def()
    job = repository.get_job("shop_job")
    schedule = repository.get_schedule_def("shop_schedule")
    assert job.tags[TAG_CONNECTOR] == "shop"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "shop_job"


def test_a_manual_connector_has_a_job_and_no_schedule(settings: Settings) -> None:
    write_connector(settings, "shop", NOWHERE, schedule={"mode": "manual"})
    repository = definitions_of(settings).get_repository_def()
    assert repository.has_job("shop_job")
    assert list(repository.schedule_defs) == []


def test_a_resource_that_is_not_selected_is_an_asset_but_not_in_the_job(
    settings: Settings,
) -> None:
    resources = ["countries", {"name": "regions", "selected": False}]
    write_connector(settings, "shop", NOWHERE, resources=resources)
    definitions = definitions_of(settings)
    assert set(specs(definitions)) == {"shop/countries", "shop/regions"}
    job = definitions.resolve_job_def("shop_job")
    assert job.asset_layer.selected_asset_keys == {asset_key("shop", "countries")}


def test_a_broken_file_is_an_asset_that_says_why_and_harms_no_other(settings: Settings) -> None:
    write_connector(settings, "shop", NOWHERE)
    broken = write_connector(settings, "bad", NOWHERE, schedule={"mode": "minuts"})
    definitions = definitions_of(settings)
    spec = specs(definitions)[f"{BROKEN_FILES_GROUP}/bad"]
    assert "minuts" in spec.metadata["problems"].value
    [reference] = spec.metadata["dagster/code_references"].code_references
    assert "minuts" in broken.read_text().splitlines()[reference.line_number - 1]
    assert definitions.get_repository_def().has_job("shop_job")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"{", b"[" * 5000, b'{"a": NaN}', b"null", b'{"name": "9"}']
)
def test_no_content_of_a_file_keeps_the_location_from_loading(
    settings: Settings, content: bytes
) -> None:
    write_connector(settings, "shop", NOWHERE)
    (settings.configs / "what is this?.json").write_bytes(content)
    found = specs(definitions_of(settings))
    assert len([key for key in found if key.startswith(BROKEN_FILES_GROUP)]) == 1
    assert "shop/orders" in found


def test_an_absurd_creation_time_breaks_its_own_file_only(settings: Settings) -> None:
    write_connector(settings, "shop", NOWHERE)
    write_connector(settings, "late", NOWHERE, created_at="9999-12-31T23:59:59Z")
    found = specs(definitions_of(settings))
    assert "shop/orders" in found
    assert f"{BROKEN_FILES_GROUP}/late" in found


def test_loading_writes_nothing_but_the_creation_time(settings: Settings, tmp_path: Path) -> None:
    write_connector(settings, "shop", NOWHERE)
    definitions_of(settings)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"configs/shop.json", "state/created_at/shop"}


def test_a_missing_folder_is_a_problem_to_see_and_not_a_crash(settings: Settings) -> None:
    [spec] = specs(definitions_of(settings)).values()
    assert spec.key == dg.AssetKey([BROKEN_FILES_GROUP, "configs"])
    assert "RESTSOURCE" in spec.metadata["problems"].value
