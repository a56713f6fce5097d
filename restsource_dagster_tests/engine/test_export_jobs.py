"""Exports by jobs: created, asked for until they are done, downloaded, and created once only."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

REPORT = b"id,zip\n1,01067\n2,10115\n"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


def packed(body: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.csv", body)
    return made.getvalue()


@dataclass
class ReportApi:
    """A report API: jobs that are done when they were asked for `polls` times."""

    api: ApiServer
    polls: int = 2
    status: str = "COMPLETED"
    body: bytes = packed(REPORT)
    file_url: str = "/files/{id}?signature=s3cret-{id}"
    is_held: bool = False
    jobs: dict[str, int] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    files: list[Seen] = field(default_factory=list)
    expired: int = 0
    """How many downloads are answered with 403."""

    def __post_init__(self) -> None:
        self.api.answers["/reports"] = self.create
        for number in range(1, 6):
            self.api.answers[f"/reports/{number}"] = self.ask
            self.api.answers[f"/files/{number}"] = self.download

    def create(self, seen: Seen) -> Any:
        job = str(len(self.jobs) + 1)
        self.jobs[job] = 0
        return Answer({"report": {"id": job}, "asked": json.loads(seen.body or b"{}")}, 202)

    def ask(self, seen: Seen) -> Any:
        job = seen.path.rpartition("/")[2]
        if seen.method == "DELETE":
            self.deleted.append(job)
            return Answer(b"", 204)
        if job not in self.jobs:
            return Answer({"error": "no such report"}, 404)
        self.jobs[job] += 1
        if self.is_held or self.jobs[job] < self.polls:
            return {"status": "RUNNING"}
        url = self.file_url.format(id=job, polls=self.jobs[job])
        return {"status": self.status, "url": url, "error": "disk full"}

    def download(self, seen: Seen) -> Any:
        self.files.append(seen)
        if len(self.files) <= self.expired:
            return Answer(b"<Error>expired</Error>", 403, {"content-type": "application/xml"})
        return Answer(self.body, headers={"content-type": "application/zip"})


def orders(**job: Any) -> dict[str, Any]:
    """A report that is downloaded as CSV in a zip."""
    return {
        "name": "orders",
        "write_disposition": "append",
        "endpoint": {
            "path": "reports",
            "method": "POST",
            "json": {"kind": "orders", "until": "{now}"},
            "response": {"format": "csv"},
            "job": {
                "id_path": "report.id",
                "status": {"path": "reports/{job.id}"},
                "status_path": "status",
                "done": ["COMPLETED"],
                "failed": ["FAILED"],
                "every": "1s",
                "url_path": "url",
                "delete": {"path": "reports/{job.id}"},
                **job,
            },
        },
    }


def run(
    url: str, settings: Settings, resource: Mapping[str, Any], waits: list[float] | None = None
) -> Outcome:
    client = {
        "auth": {"type": "bearer", "token": "t0ken-of-the-api"},
        "headers": {"X-Key": "k3y-of-the-api"},
    }
    [outcome] = ingest(
        make_connector(url, resource, client=client),
        settings=settings,
        environment={},
        sleep=(waits if waits is not None else []).append,
    )
    return outcome


def stored(settings: Settings) -> list[Any]:
    return query(settings, "SELECT id, zip FROM shop.orders ORDER BY 1")


@pytest.mark.parametrize("mode", ["rows", "columnar"])
def test_a_report_is_created_waited_for_and_loaded(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    reports, waits = ReportApi(api, polls=3), list[float]()
    outcome = run(api.url, settings, orders(every="20s") | {"mode": mode}, waits)
    assert outcome.failure is None
    assert waits == [20.0, 20.0]
    assert stored(settings) == [("1", "01067"), ("2", "10115")]
    assert (len(reports.jobs), reports.deleted) == (1, ["1"])
    assert reports.files[0].headers["authorization"] == "Bearer t0ken-of-the-api"
    # what is loaded is not loaded again
    assert run(api.url, settings, orders()).failure is None
    assert (len(reports.jobs), len(stored(settings))) == (2, 4)


def test_a_file_of_another_origin_is_asked_for_without_credentials(
    api: ApiServer, settings: Settings
) -> None:
    with ApiServer() as store:
        reports = ReportApi(api, file_url=f"{store.url}/files/{{id}}?signature=s3cret-{{id}}")
        store.answers["/files/1"] = reports.download
        outcome = run(api.url, settings, orders())
        assert outcome.failure is None
        [seen] = store.seen
        assert not {"authorization", "x-key", "cookie"} & seen.headers.keys()
        store.answers["/files/2"] = Answer(b"broken", headers={"content-type": "text/html"})
        reports.body = b""
        failed = run(api.url, settings, orders()).failure
    assert failed is not None
    assert "s3cret" not in failed.message


def test_a_job_that_fails_is_told_and_the_next_run_creates_another(
    api: ApiServer, settings: Settings
) -> None:
    reports = ReportApi(api, status="FAILED")
    failure = run(api.url, settings, orders()).failure
    assert failure is not None
    assert "job 1 has failed: its status is 'FAILED': disk full" in failure.message
    reports.status = "ODD"
    failure = run(api.url, settings, orders(at_most="0s")).failure
    assert failure is not None
    assert "job 2 is not done 0s after its creation" in failure.message
    reports.status = "COMPLETED"
    assert run(api.url, settings, orders()).failure is None
    assert list(reports.jobs) == ["1", "2"]
    assert stored(settings) == [("1", "01067"), ("2", "10115")]


def test_a_link_that_has_expired_is_asked_for_once_more(api: ApiServer, settings: Settings) -> None:
    reports = ReportApi(api, file_url="/files/{id}?poll={polls}", expired=1)
    assert run(api.url, settings, orders()).failure is None
    assert [seen.query["poll"] for seen in reports.files] == ["2", "3"]
    assert len(reports.jobs) == 1
    reports.file_url, reports.expired = "/files/{id}", 9
    failure = run(api.url, settings, orders()).failure
    assert failure is not None
    assert "its link may have expired" in failure.message


def test_a_job_without_a_file_has_no_rows_if_the_file_says_so(
    api: ApiServer, settings: Settings
) -> None:
    reports = ReportApi(api)
    api.answers["/reports/1"] = {"status": "COMPLETED", "url": None}
    failure = run(api.url, settings, orders()).failure
    assert failure is not None
    assert '"allow_empty": true' in failure.message
    api.answers["/reports/2"] = {"status": "COMPLETED", "url": None}
    allowed = orders()
    allowed["endpoint"]["response"] = {"format": "csv", "allow_empty": True}
    assert run(api.url, settings, allowed).failure is None
    assert list(reports.jobs) == ["1", "2"]


def test_a_bulk_operation_of_graphql_is_loaded(api: ApiServer, settings: Settings) -> None:
    polls = 0

    def answer(seen: Seen) -> Any:
        nonlocal polls
        body = json.loads(seen.body)
        if "mutation" in body["query"]:
            return {"data": {"run": {"operation": {"id": "gid://7"}, "userErrors": []}}}
        assert body["variables"] == {"id": "gid://7"}
        polls += 1
        done = polls > 1
        url = f"{api.url}/bulk.jsonl" if done else None
        return {"data": {"node": {"status": "COMPLETED" if done else "RUNNING", "url": url}}}

    api.answers |= {
        "/graphql": answer,
        "/bulk.jsonl": Answer(b'{"id": 1}\n{"id": 2, "__parentId": 1}\n', headers={}),
    }
    bulk = {
        "name": "orders",
        "write_disposition": "replace",
        "endpoint": {
            "path": "graphql",
            "graphql": {"query": 'mutation { run(query: "{ orders }") { operation { id } } }'},
            "response": {"format": "jsonl"},
            "job": {
                "id_path": "data.run.operation.id",
                "status": {
                    "graphql": {
                        "query": "query ($id: ID!) { node(id: $id) { status url } }",
                        "variables": {"id": "{job.id}"},
                    }
                },
                "status_path": "data.node.status",
                "done": ["COMPLETED"],
                "failed": ["FAILED", "CANCELED", "EXPIRED"],
                "url_path": "data.node.url",
            },
        },
    }
    assert run(api.url, settings, bulk).failure is None
    assert query(settings, "SELECT count(*) FROM shop.orders") == [(2,)]
    api.answers["/graphql"] = {"data": {"run": None}, "errors": [{"message": "one at a time"}]}
    failure = run(api.url, settings, bulk).failure
    assert failure is not None
    assert "finds no id of a job: one at a time" in failure.message


def test_a_killed_run_goes_on_with_its_job_and_creates_no_other(
    api: ApiServer, settings: Settings, nursery: Nursery
) -> None:
    reports = ReportApi(api, polls=1, is_held=True)
    many = b"id,zip\n" + b"".join(b"%d,0%d\n" % (n, n) for n in range(20_000))
    reports.body = packed(many)
    resource = orders()
    file = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url},
        "resources": [resource],
    }
    folder = settings.data_dir.parent
    waiting = nursery.start(file, folder)
    waiting.wait_for("message", "orders: job 1: RUNNING")
    waiting.kill()
    waiting.end()
    reports.is_held = False
    loading = nursery.start(file, folder)
    loading.wait_for("phase", "load")
    loading.kill()
    loading.end()
    nursery.start(file, folder).finish()
    assert query(settings, "SELECT count(*), count(DISTINCT id) FROM shop.orders") in (
        [(20_000, 20_000)],
        # the load was complete when it was killed, so the last run has loaded another job
        [(40_000, 20_000)],
    )
    jobs = query(settings, "SELECT count(*) FROM shop.orders")[0][0] // 20_000
    assert len(reports.jobs) == jobs


def test_a_job_that_is_lost_is_replaced_in_a_later_run(
    api: ApiServer, settings: Settings, nursery: Nursery
) -> None:
    reports = ReportApi(api, is_held=True)
    file = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url},
        "resources": [orders()],
    }
    waiting = nursery.start(file, settings.data_dir.parent)
    waiting.wait_for("message", "orders: job 1: RUNNING")
    waiting.kill()
    waiting.end()
    reports.is_held = False
    api.answers["/reports/1"] = Answer({"error": "no such report"}, 404)
    assert run(api.url, settings, orders()).failure is None
    assert list(reports.jobs) == ["1", "2"]
    assert stored(settings) == [("1", "01067"), ("2", "10115")]
