"""The process of a run makes definitions of its own connector only, and parses no other file."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from restsource_dagster.orchestration.code_location import build_definitions
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import query
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector
from restsource_dagster_tests.servers.api import ApiServer
from restsource_dagster_tests.telling import told_by

NOWHERE = "http://127.0.0.1:9"
ASSET_JOB = "__ASSET_JOB"
HISTORY = {
    "name": "orders",
    "primary_key": "id",
    "backfill": {"start": "2024-01-01T00:00:00Z", "partition": "monthly"},
    "endpoint": {
        "path": "orders",
        "incremental": {
            "cursor_path": "updated_at",
            "initial_value": "2024-01-01T00:00:00Z",
            "start_param": "since",
            "end_param": "until",
        },
    },
}


@pytest.fixture
def shops(settings: Settings) -> Settings:
    """Three connectors, one of them with a backfill."""
    for name in ("bakery", "cafe"):
        write_connector(settings, name, NOWHERE)
    write_connector(settings, "archive", NOWHERE, resources=[HISTORY])
    definitions_of(settings)
    return settings


def loaded(settings: Settings, job: str | None) -> dg.RepositoryDefinition:
    repository = build_definitions(settings=settings, job=job).get_repository_def()
    repository.load_all_definitions()
    return repository


def keys(repository: dg.RepositoryDefinition) -> set[str]:
    return {key.to_user_string() for key in repository.assets_defs_by_key}


def test_a_run_has_its_connectors_job_and_assets_and_no_other(shops: Settings) -> None:
    repository = loaded(shops, "cafe_job")
    assert set(repository.job_names) == {"cafe_job", ASSET_JOB}
    assert keys(repository) == {"cafe/orders", "cafe/lines", "cafe/countries"}
    assert [schedule.name for schedule in repository.schedule_defs] == ["cafe_schedule"]
    assert list(repository.sensor_defs) == []


def test_the_run_of_a_partition_has_the_live_asset_that_it_depends_on(shops: Settings) -> None:
    repository = loaded(shops, "archive__orders_history_job")
    assert keys(repository) == {"archive/orders", "archive/orders_history"}
    window = repository.get_job("archive__orders_history_job")
    assert window.partitions_def is not None


@pytest.mark.parametrize("job", [None, ASSET_JOB, "somebody_elses_job", "cafe", "archive__job"])
def test_a_run_of_anything_else_has_all(shops: Settings, job: str | None) -> None:
    assert {"archive_job", "bakery_job", "cafe_job"} <= set(loaded(shops, job).job_names)


def test_a_job_of_the_run_is_the_one_of_the_whole_location(shops: Settings) -> None:
    for job in ("cafe_job", "archive_job", "archive__orders_history_job"):
        whole = loaded(shops, None).get_job(job)
        alone = loaded(shops, job).get_job(job)
        assert alone.get_job_snapshot_id() == whole.get_job_snapshot_id()


def test_a_job_by_the_name_of_a_file_that_is_refused_runs_the_first_file_of_that_name(
    settings: Settings,
) -> None:
    path = write_connector(settings, "cafe", NOWHERE, resources=["second"])
    first = json.loads(path.read_text()) | {"name": "cafe", "resources": ["first"]}
    path.with_name("a.json").write_text(json.dumps(first))
    for _ in range(2):
        assert keys(loaded(settings, "cafe_job")) == {"cafe/first"}


def test_no_file_but_its_own_is_parsed_for_a_run(
    api: ApiServer, shops: Settings, tmp_path: Path
) -> None:
    api.answers["/orders"] = [{"id": 1}]
    write_connector(shops, "cafe", api.url, resources=["orders"])
    definitions_of(shops)
    told = in_a_process_of_its_own(shops, tmp_path, "cafe_job")
    assert told == {"success": True, "connectors": ["cafe"]}
    assert query(shops, "select id from cafe.orders") == [(1,)]


def in_a_process_of_its_own(settings: Settings, folder: Path, job: str) -> Any:
    """Execute a job as a run process does; what it tells of itself."""
    code = (
        "import gc, json, os\n"
        "from restsource_dagster.definitions import defs\n"
        "job = defs().resolve_job_def(os.environ['DAGSTER_RUN_JOB_NAME'])\n"
        "success = job.execute_in_process().success\n"
        "from restsource_dagster.connector.model import Connector\n"
        "connectors = sorted({each.name for each in gc.get_objects() if type(each) is Connector})\n"
        "print(json.dumps({'success': success, 'connectors': connectors}))\n"
    )
    variables = {
        "DAGSTER_RUN_JOB_NAME": job,
        "RESTSOURCE_CONFIGS": str(settings.configs),
        "RESTSOURCE_DATA_DIR": str(settings.data_dir),
        "RESTSOURCE_STATE_DIR": str(settings.state_dir),
    }
    return told_by(code, folder, variables)
