"""Runs that Dagster retries from a failure load only what failed."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import query
from restsource_dagster_tests.orchestration.shop import definitions_of, write_connector
from restsource_dagster_tests.servers.api import Answer, ApiServer

pytestmark = pytest.mark.faults(row=2)

BROKEN = Answer({"message": "gone"}, status=410)
EVENTS = {"name": "events", "endpoint": "events", "write_disposition": "append"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ready:
        yield ready


class Shop:
    """A connector whose `events` are appended at each run, and whose `countries` fail at first."""

    def __init__(self, api: ApiServer, settings: Settings, instance: dg.DagsterInstance) -> None:
        api.answers |= {"/events": [{"id": 1}], "/countries": BROKEN, "/towns": BROKEN}
        self.api = api
        self.instance = instance
        write_connector(settings, "shop", api.url, resources=[EVENTS, "countries", "towns"])
        self.job = definitions_of(settings).resolve_job_def("shop_job")

    def run(self) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(instance=self.instance, raise_on_error=False)

    def again(self, run_id: str, **tags: str) -> str:
        """Execute a run again with these tags, as the UI and the daemon do; returns its id."""
        run = self.instance.create_run_for_job(
            self.job, parent_run_id=run_id, root_run_id=run_id, tags=tags
        )
        execute_run(InMemoryJob(self.job), run, self.instance, raise_on_error=False)
        return run.run_id

    def materialized(self, run_id: str) -> set[str]:
        records = self.instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        return {record.asset_key.path[-1] for record in records if record.asset_key}


@pytest.fixture
def shop(api: ApiServer, settings: Settings, instance: dg.DagsterInstance) -> Shop:
    return Shop(api, settings, instance)


FROM_FAILURE = {"dagster/is_resume_retry": "true"}


def test_a_retry_from_failure_loads_only_what_failed(shop: Shop, settings: Settings) -> None:
    first = shop.run()
    assert not first.success
    assert shop.materialized(first.run_id) == {"events"}
    shop.api.answers["/countries"] = [{"code": "DE"}]
    second = shop.again(first.run_id, **FROM_FAILURE)
    assert shop.materialized(second) == {"countries"}
    shop.api.answers["/towns"] = [{"name": "Rome"}]
    third = shop.again(second, **FROM_FAILURE)
    assert shop.materialized(third) == {"towns"}
    assert len(shop.api.asked("/events")) == 1
    assert len(shop.api.asked("/countries")) == 2
    assert query(settings, "SELECT id FROM shop.events") == [(1,)]


def test_a_run_that_is_retried_as_a_whole_loads_everything(shop: Shop) -> None:
    first = shop.run()
    shop.api.answers |= {"/countries": [{"code": "DE"}], "/towns": [{"name": "Rome"}]}
    second = shop.again(first.run_id)
    assert shop.materialized(second) == {"events", "countries", "towns"}


def test_a_step_that_is_retried_in_its_run_loads_only_what_failed(
    shop: Shop, settings: Settings, api: ApiServer
) -> None:
    answers = [BROKEN, Answer([{"code": "DE"}])]
    api.answers["/countries"] = lambda _: answers.pop(0)
    api.answers["/towns"] = [{"name": "Rome"}]
    policy = dg.RetryPolicy(max_retries=1)
    job = dg.define_asset_job("patient_job", selection="*", op_retry_policy=policy)
    patient = dg.Definitions(assets=definitions_of(settings).assets, jobs=[job])
    result = patient.resolve_job_def("patient_job").execute_in_process(
        instance=shop.instance, raise_on_error=False
    )
    assert result.success
    assert len(api.asked("/events")) == 1
    assert query(settings, "SELECT id FROM shop.events") == [(1,)]
