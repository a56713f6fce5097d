"""The definitions of each connector are built alone, and equal those built among all others."""

import gc

import dagster as dg

from restsource_dagster.connector.loader import load_folder
from restsource_dagster.orchestration.assets import build_connector_assets, build_connector_job
from restsource_dagster.orchestration.code_location import build_definitions, without_full_gc
from restsource_dagster.orchestration.names import asset_key
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.settings import Settings
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector
from restsource_dagster_tests.servers.api import ApiServer

NOWHERE = "http://127.0.0.1:9"
NAMES = ("bakery", "cafe", "shop")


def test_a_job_is_the_one_that_dagster_makes_among_the_assets_of_all_connectors(
    settings: Settings,
) -> None:
    for name in NAMES:
        write_connector(settings, name, NOWHERE)
    ours = definitions_of(settings).get_repository_def()
    runs = RunSettings(settings)
    connectors = load_folder(settings.configs).connectors
    assets = [build_connector_assets(connector, runs) for connector in connectors]
    jobs = [build_connector_job(*pair) for pair in zip(connectors, assets, strict=True)]
    among_all = dg.Definitions(assets=assets, jobs=jobs, executor=dg.in_process_executor)
    for name in NAMES:
        expected = among_all.resolve_job_def(f"{name}_job").get_job_snapshot_id()
        assert ours.get_job(f"{name}_job").get_job_snapshot_id() == expected


def test_a_project_can_merge_them_with_assets_jobs_and_resources_of_its_own(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = [{"id": 1}]
    write_connector(settings, "shop", api.url, resources=["orders"])

    @dg.asset(deps=[dg.AssetKey(["shop", "orders"])])
    def report() -> int:
        return 1

    mine = dg.Definitions(
        assets=[report],
        jobs=[dg.define_asset_job("everything", selection="*")],
        resources={"io_manager": dg.mem_io_manager},
    )
    merged = dg.Definitions.merge(build_definitions(settings=settings), mine)
    merged.get_repository_def().load_all_definitions()
    for job, number in (("everything", 2), ("shop_job", 1)):
        result = merged.resolve_job_def(job).execute_in_process()
        assert result.success
        assert len(result.get_asset_materialization_events()) == number


def test_garbage_is_collected_as_before_once_the_definitions_are_made(settings: Settings) -> None:
    before = gc.get_threshold()
    write_connector(settings, "shop", NOWHERE)
    definitions_of(settings)
    assert gc.get_threshold() == before
    with without_full_gc():
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.isenabled()
    assert gc.get_threshold() == before


def test_an_asset_has_the_owners_tags_kinds_and_automation_of_its_file(settings: Settings) -> None:
    automation = {"on_cron": "0 6 * * *"}
    given = {"owners": ["ann@example.com"], "tags": {"tier": "gold"}, "kinds": ["rest", "gold"]}
    write_connector(
        settings,
        "shop",
        "http://127.0.0.1:1",
        owners=["team:data"],
        tags={"domain": "sales"},
        resource_defaults={"asset": {"automation_condition": "eager"}},
        resources=[
            "plain",
            {"name": "own", "asset": {**given, "automation_condition": automation}},
        ],
    )
    assets = definitions_of(settings).resolve_asset_graph()
    plain, own = (assets.get(asset_key("shop", name)) for name in ("plain", "own"))
    assert (plain.owners, plain.kinds) == (["team:data"], {"dlt", "duckdb"})
    assert plain.automation_condition == dg.AutomationCondition.eager()
    assert (own.owners, own.kinds) == (["ann@example.com"], {"rest", "gold"})
    assert {"tier": "gold", "domain": "sales"}.items() <= dict(own.tags).items()
    assert own.automation_condition == dg.AutomationCondition.on_cron("0 6 * * *")
