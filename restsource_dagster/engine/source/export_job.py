"""Exports that take time: create a job, ask for it until it is done, and read its file.

The job's id is stored in the state as soon as the API has told it. A run that is killed leaves it
there, and the next one asks for that job in place of creating a second one. Which job a table has is in
dlt's state, with the rows: a job is loaded once, whatever happens in between.
"""

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from restsource_dagster.connector.models.job import JOB_PLACEHOLDER, Job, JobRequest
from restsource_dagster.connector.time_formats import moved_by
from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import IngestError, JobLostError, ResponseError
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.incremental.unfinished import fingerprint_of
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.plan.call_values import fill_path, fill_values
from restsource_dagster.engine.plan.resource_plan import ResourcePlan
from restsource_dagster.state.store import StateStore

__all__ = ["ExportJobs", "JobStore", "StoredJob", "forget_jobs"]

_LOST_STATUSES = frozenset({404, 410})
# what file stores answer to a link that has expired
_EXPIRED_STATUSES = frozenset({400, 401, 403, 404, 410})

Records = list[Any]
ReadFile = Callable[[EndpointReader, Call], Iterator[Records]]
"""Reads the pages of a file by its call."""


@dataclass(frozen=True)
class StoredJob:
    """A job that an API works on."""

    fingerprint: str
    """That of what was asked for."""
    id: Any
    created: float
    """When it was created, in seconds since 1970."""


class JobStore:
    """The last job of a resource, in the state."""

    def __init__(self, state: StateStore, connector: str, resource: str) -> None:
        self._state, self._name = state, f"{connector}/{resource}"

    def read(self) -> StoredJob | None:
        """Return the job; None without one."""
        stored = self._state.read("jobs", self._name)
        try:
            return StoredJob(**json.loads(stored.content)) if stored else None
        except (ValueError, TypeError):
            return None  # a power cut may have left half a file

    def write(self, job: StoredJob) -> None:
        """Store a job so that it survives the death of the process and of the machine."""
        self._state.write("jobs", self._name, json.dumps(asdict(job)))

    def forget(self) -> None:
        """Remove the job, so that the next run creates one."""
        self._state.delete("jobs", self._name)


def forget_jobs(state: StateStore, connector: str, resources: Iterable[str]) -> None:
    """Remove the stored jobs of resources."""
    for name in resources:
        JobStore(state, connector, name).forget()


@dataclass(frozen=True)
class ExportJobs:
    """Reads one resource by jobs."""

    plan: ResourcePlan
    job: Job
    endpoint: EndpointReader
    """Sends the requests about jobs."""
    download_endpoint: Callable[[str], EndpointReader]
    """Returns what reads the file at a URL: without credentials if it is of another origin."""
    store: JobStore
    notify: Callable[[str], None]
    sleep: Sleep = time.sleep

    def pages(
        self, call: Call, cursor: Any, state: dict[str, Any], read: ReadFile
    ) -> Generator[Records, None, None]:
        """Yield the pages of the file of a job that `call` creates, or of one that it has created before.

        `cursor` is the stored cursor that the call asks from, None without one. `state` is stored with
        the rows. Raises `JobLostError` if the API doesn't know the job any more, `ResponseError` if it
        failed, and `IngestError` if it takes too long.
        """
        fingerprint = self._fingerprint(cursor)
        job = self._unfinished(fingerprint, state)
        is_resumed = job is not None
        if job is not None:
            self.notify(f"goes on with job {job.id}, which an earlier run has created")
        while True:
            made = job or self._create(call, fingerprint)
            try:
                yield from self._read_file(made, call, read)
            except JobLostError as error:
                self.store.forget()
                if not is_resumed:
                    raise
                self.notify(f"{error.reason}, so a new one is created")
                job, is_resumed = None, False
            else:
                break
        # in dlt's state, which is stored with the rows: only then the job is used up
        state["job"] = made.id
        if self.job.delete is not None:
            self.endpoint.exchange(self._request(self.job.delete, made, call, "DELETE"))

    def _fingerprint(self, cursor: Any) -> str:
        # the placeholders unfilled: {now} is another moment in the next run
        endpoint = self.plan.endpoint
        asked = [endpoint.path, endpoint.params, endpoint.json_, endpoint.data, cursor]
        return fingerprint_of(self.endpoint.redactor(json.dumps(asked, default=str)))

    def _unfinished(self, fingerprint: str, state: Mapping[str, Any]) -> StoredJob | None:
        """Return the job of an earlier run whose rows are not loaded."""
        job = self.store.read()
        # of another question, or its rows are loaded already
        if job is None or job.fingerprint != fingerprint or job.id == state.get("job"):
            return None
        return None if time.time() >= self._ends_at(job) else job

    def _ends_at(self, job: StoredJob) -> float:
        created = datetime.fromtimestamp(job.created, UTC)
        return moved_by(created, self.job.at_most).timestamp()

    def _create(self, call: Call, fingerprint: str) -> StoredJob:
        response, body = self.endpoint.exchange(call)
        found = jsonpath.find_values(self.job.id_path, body)
        if len(found) != 1 or found[0] is None or isinstance(found[0], dict | list):
            raise self.endpoint.refusal(
                f"job.id_path `{self.job.id_path}` finds no id of a job", response, body
            )
        job = StoredJob(fingerprint, found[0], time.time())
        # before anything else can fail: a job may cost money, and a second one more
        self.store.write(job)
        self.notify(f"created job {job.id}")
        return job

    def _request(self, request: JobRequest, job: StoredJob, call: Call, method: str) -> Call:
        """Return a request about a job, with the headers of the endpoint."""
        known = {JOB_PLACEHOLDER: job.id}
        return Call(
            path=fill_path(request.path, known) if request.path else call.path,
            method=request.method_or(method),
            headers=call.headers,
            params=fill_values(request.params, known),
            json=fill_values(request.body, known, keeps_types=True) or None,
        )

    def _wait(self, job: StoredJob, call: Call) -> Any:
        """Return the answer that says that a job is done."""
        told = None
        while True:
            response, body = self._ask(job, call)
            found = jsonpath.find_values(self.job.status_path, body)
            if len(found) != 1:
                raise self.endpoint.refusal(
                    f"job.status_path `{self.job.status_path}` finds no status", response, body
                )
            status = found[0]
            if _is_among(status, self.job.done):
                return body
            if _is_among(status, self.job.failed):
                self.store.forget()
                raise self.endpoint.refusal(
                    f"job {job.id} has failed: its status is {status!r}", response, body
                )
            if time.time() >= self._ends_at(job):
                raise self._error(
                    f"job {job.id} is not done {self.job.at_most} after its creation (job.at_most): its "
                    f"status is {status!r}. Raise job.at_most, or add the status to `done` or `failed`"
                )
            # a job of hours would fill the log
            if status != told:
                self.notify(f"job {job.id}: {status}")
                told = status
            self.sleep((moved_by(_EPOCH, self.job.every) - _EPOCH).total_seconds())

    def _ask(self, job: StoredJob, call: Call) -> tuple[Any, Any]:
        try:
            return self.endpoint.exchange(self._request(self.job.status, job, call, "GET"))
        except ResponseError as error:
            if error.status not in _LOST_STATUSES:
                raise
            reason = f"the API does not know job {job.id} any more ({error.status})"
        raise JobLostError(self.plan.resource.name, reason)

    def _read_file(self, job: StoredJob, call: Call, read: ReadFile) -> Iterator[Records]:
        """Yield the pages of the file of a job. A link that has expired is asked for once more."""
        expired = None
        while True:
            file = self._file_call(job, call, self._wait(job, call))
            if file is None:
                return
            # the API gives the same link again: it will not work either
            if file.path == expired:
                break
            has_rows = False
            try:
                for records in read(self.download_endpoint(file.path), file):
                    has_rows = True
                    yield records
            except ResponseError as error:
                # rows of a second file beside those of a first would be twice
                if has_rows or error.status not in _EXPIRED_STATUSES:
                    # the next run gets another file
                    self.store.forget()
                    raise
                expired, status = file.path, error.status
            else:
                return
        raise JobLostError(
            self.plan.resource.name,
            f"the file of job {job.id} is not there ({status}); its link may have expired",
        )

    def _file_call(self, job: StoredJob, call: Call, answer: Any) -> Call | None:
        """Return the call for the file of a job; None if the API says that there is none."""
        if self.job.download is not None:
            return self._request(self.job.download, job, call, "GET")
        found = jsonpath.find_values(str(self.job.url_path), answer)
        url = found[0] if len(found) == 1 else None
        if isinstance(url, str) and url:
            url = self.endpoint.full_url(url)
            self.endpoint.redactor.add_secrets(*_signature_of(url))
            is_own = self.endpoint.is_own(url)
            return Call(path=url, headers=call.headers if is_own else None)
        body = self.plan.endpoint.response
        if found == [None] and body is not None and body.allow_empty:
            return None
        self.store.forget()
        raise self._error(
            f"job {job.id} is done, and job.url_path `{self.job.url_path}` finds no URL. If that means that "
            'there are no rows, set "response": {"allow_empty": true}'
        )

    def _error(self, problem: str) -> IngestError:
        error = IngestError(f"resource {self.plan.resource.name}: {problem}")
        error.resource = self.plan.resource.name
        return error


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _is_among(status: Any, values: list[Any]) -> bool:
    # `true` is no 1 in JSON
    return any(type(one) is type(status) and one == status for one in values)


def _signature_of(url: str) -> list[str]:
    """Return the query of a URL as a secret: who has it can download the file."""
    query = url.partition("?")[2]
    return [query] if query else []
