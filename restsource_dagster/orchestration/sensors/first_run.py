"""The first run: a connector's data arrives as soon as its file does, without a click."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.schedule import ManualSchedule
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import TAG_CONNECTOR, TAG_TRIGGER, asset_key

__all__ = ["FIRST_RUN_SENSOR", "MAX_REQUESTS", "SETTLE", "build_first_run_sensor"]

FIRST_RUN_SENSOR = "restsource_first_run"

SETTLE = timedelta(seconds=3)
"""No request so soon after loading: the daemon needs a moment to learn of a new job, and asking for
one that it doesn't know yet is a failed tick (which it repeats, so nothing is lost)."""
MAX_REQUESTS = 50
"""Runs asked for in one tick. The daemon creates them one by one, in which time no other sensor is
looked at; the rest follows at the next tick."""
INTERVAL_SECONDS = 3
"""Below the daemon's own five seconds between looks, so that it never leaves out every second one."""
ASSETS_PER_QUERY = 500
"""Assets looked up in one query."""


def build_first_run_sensor(
    connectors: Sequence[tuple[Connector, datetime]],
    jobs: Mapping[str, Any],
    loaded_at: datetime,
    *,
    settle: timedelta = SETTLE,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    opened: TickInstance | None = None,
) -> dg.SensorDefinition:
    """A sensor that asks once for the first run of every resource that was never asked for.

    `connectors` come with their creation time; `jobs` has the job of each by connector name;
    `loaded_at` is when these definitions were built. Connectors in manual mode have no first run.

    A resource is *new* if no run was ever asked to materialize its asset and nobody reported a
    materialization: the Dagster instance itself knows, because it notes on an asset which run was
    created for it. So nothing runs again after a restart, with a lost sensor cursor, a renamed
    sensor or code location, a lost state folder (other creation times), or when a connector is
    removed and put back: its tables and incremental cursors are still there, and its schedule goes
    on. A first run that failed counts too: the schedule, or a person, tries again.

    All selected resources of a connector new: one run of its whole job. Only some (added to a file
    that ran before): one run of just those assets; what they need of a parent, the engine asks for.

    The sensor cursor holds a digest of the connectors and resources that were looked after, some
    100 bytes for any number of them. While it fits, a tick compares two strings and asks the
    instance nothing. The run key (connector, creation time, a digest of the new resources) keeps a
    request from being carried out twice if the daemon stops in the middle, and from being carried
    out again for a connector all of whose assets were wiped.
    """
    plan = sorted(
        (_FirstRunCandidate.of(connector, created_at) for connector, created_at in connectors),
        key=lambda newcomer: newcomer.connector,
    )
    plan = [newcomer for newcomer in plan if newcomer.resources]
    known = _candidates_digest(plan)
    instances = opened or TickInstance()

    @dg.sensor(
        name=FIRST_RUN_SENSOR,
        jobs=[jobs[newcomer.connector] for newcomer in plan],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs each connector, and each resource added to one, for the first time.",
    )
    def first_run(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        progress = _FirstRunCursor.read(context.cursor, known)
        if progress.done:
            return dg.SkipReason(f"All {len(plan)} scheduled connectors had their first run.")
        if timedelta(0) <= clock() - loaded_at < settle:
            return dg.SkipReason("The definitions were loaded just now; looking at the next tick.")
        requests: list[dg.RunRequest] = []
        for newcomer, new in _new_resources(instances.of(context), plan, after=progress.after):
            if len(requests) == MAX_REQUESTS:
                break
            if new:
                requests.append(newcomer.request(jobs[newcomer.connector].name, new))
            progress = _FirstRunCursor(known=known, after=newcomer.connector)
        else:
            progress = _FirstRunCursor(known=known, after=None, done=True)
        if not requests:
            context.update_cursor(progress.as_text())
            return dg.SkipReason("Nothing new among the connectors.")
        return dg.SensorResult(run_requests=requests, cursor=progress.as_text())

    return first_run


@dataclass(frozen=True)
class _FirstRunCandidate:
    """A connector that may be new, with the resources that a run of it loads."""

    connector: str
    created_at: datetime
    resources: tuple[str, ...]

    @classmethod
    def of(cls, connector: Connector, created_at: datetime) -> "_FirstRunCandidate":
        manual = isinstance(connector.schedule, ManualSchedule)
        names = () if manual else tuple(r.name for r in connector.resources if r.selected)
        return cls(connector.name, created_at, names)

    def request(self, job_name: str, new: Sequence[str]) -> dg.RunRequest:
        whole = len(new) == len(self.resources)
        return dg.RunRequest(
            run_key=f"first:{self.connector}:{self.created_at.isoformat()}:{_short_hash(sorted(new))}",
            job_name=job_name,
            asset_selection=None if whole else [asset_key(self.connector, name) for name in new],
            tags={TAG_CONNECTOR: self.connector, TAG_TRIGGER: "first_run"},
        )


@dataclass(frozen=True)
class _FirstRunCursor:
    """The sensor cursor: which set of connectors (`known`) was looked after, and how far by name."""

    known: str
    after: str | None = None
    done: bool = False
    version: int = 1

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str | None, known: str) -> "_FirstRunCursor":
        """A cursor of another set, another version or an unreadable one means: start at the top."""
        try:
            value = json.loads(text or "{}")
        except ValueError:
            value = {}
        if not isinstance(value, dict) or (value.get("version"), value.get("known")) != (1, known):
            return cls(known)
        after = value.get("after")
        return cls(known, after if isinstance(after, str) else None, value.get("done") is True)


def _new_resources(
    instance: dg.DagsterInstance, plan: Sequence[_FirstRunCandidate], *, after: str | None
) -> Iterator[tuple[_FirstRunCandidate, tuple[str, ...]]]:
    """Each connector later than `after` by name, with those of its resources that are new."""
    rest = [newcomer for newcomer in plan if after is None or newcomer.connector > after]
    for batch in _query_batches(rest):
        keys = {name: asset_key(*name) for newcomer in batch for name in _asset_names(newcomer)}
        seen = {
            record.asset_entry.asset_key
            for record in instance.get_asset_records(list(keys.values()))
            if record.asset_entry.last_run_id or record.asset_entry.last_materialization_record
        }
        for newcomer in batch:
            yield newcomer, tuple(n for c, n in _asset_names(newcomer) if keys[c, n] not in seen)


def _asset_names(newcomer: _FirstRunCandidate) -> Iterable[tuple[str, str]]:
    return ((newcomer.connector, resource) for resource in newcomer.resources)


def _query_batches(plan: Sequence[_FirstRunCandidate]) -> Iterator[list[_FirstRunCandidate]]:
    batch: list[_FirstRunCandidate] = []
    size = 0
    for newcomer in plan:
        batch.append(newcomer)
        size += len(newcomer.resources)
        if size >= ASSETS_PER_QUERY:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _candidates_digest(plan: Sequence[_FirstRunCandidate]) -> str:
    return _short_hash([[newcomer.connector, *sorted(newcomer.resources)] for newcomer in plan])


def _short_hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
