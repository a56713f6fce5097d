"""The sensor that starts a new connector's first run, so that its data arrives without a click.

A resource is *new* if no run was ever requested for its asset and no materialization was reported. The Dagster
instance knows both, because it stores with an asset which run was created for it. So nothing runs again after
a restart, with a lost sensor cursor, a renamed sensor or code location, or a lost state folder (other creation
times). The same holds for a connector that is removed and added again: its tables and incremental cursors
still exist, and its schedule continues. A failed first run counts too: the schedule, or a person, tries again.

If all selected resources of a connector are new, its whole job runs. If only some are (added to a file that
ran before), a run loads just their assets; the engine requests what they need of a parent.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.schedule import ManualSchedule
from restsource_dagster.orchestration.instance import TickInstance
from restsource_dagster.orchestration.names import TAG_CONNECTOR, TAG_TRIGGER, asset_key

__all__ = ["FIRST_RUN_SENSOR", "MAX_REQUESTS", "SETTLE", "build_first_run_sensor"]

FIRST_RUN_SENSOR = "restsource_first_run"

SETTLE = timedelta(seconds=3)
"""No request so soon after loading. The daemon learns of a new job a moment later, and a request for a job it
doesn't know is a failed tick (which it repeats, so nothing is lost)."""
MAX_REQUESTS = 50
"""Run requests of one tick. The daemon creates their runs one by one and evaluates no other sensor meanwhile.
The rest follows at the next tick."""
INTERVAL_SECONDS = 3
"""Shorter than the five seconds between the daemon's rounds, so that each round has a tick."""
ASSETS_PER_QUERY = 500
"""Assets looked up in one query."""


def build_first_run_sensor(
    connectors: Sequence[tuple[Connector, datetime]],
    jobs: Mapping[str, Any],
    loaded_at: datetime,
    *,
    settle: timedelta = SETTLE,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    tick_instance: TickInstance | None = None,
    name: str = FIRST_RUN_SENSOR,
) -> dg.SensorDefinition:
    """Return a sensor that requests the first run of every new resource, once.

    `connectors` come with their creation times, `jobs` holds the job of each by connector name, and
    `loaded_at` is when these definitions were built. Connectors in manual mode have no first run.
    """
    candidates = _first_run_candidates(connectors)

    def is_settling() -> bool:
        # A negative age means that the clock was set back: then waiting could take hours.
        return timedelta(0) <= clock() - loaded_at < settle

    first_runs = _FirstRuns(candidates, jobs, is_settling, tick_instance or TickInstance())

    @dg.sensor(
        name=name,
        jobs=[jobs[candidate.connector] for candidate in candidates],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs each connector, and each resource added to one, for the first time.",
    )
    def first_run(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        return first_runs.tick(context)

    return first_run


@dataclass(frozen=True)
class _FirstRuns:
    candidates: Sequence["_FirstRunCandidate"]
    jobs: Mapping[str, Any]
    is_settling: Callable[[], bool]
    tick_instance: TickInstance

    @cached_property
    def digest(self) -> str:
        """A digest of all candidates and their resources."""
        return _short_hash([[each.connector, *sorted(each.resources)] for each in self.candidates])

    def tick(self, context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        progress = _FirstRunCursor.read(context.cursor, self.digest)
        # first: in all but a few ticks nothing is new, and this one costs no query
        if progress.done:
            number = len(self.candidates)
            return dg.SkipReason(f"All {number} scheduled connectors had their first run.")
        if self.is_settling():
            return dg.SkipReason(
                "The definitions were just loaded. The next tick looks for new connectors."
            )
        requests, progress = self._request(self.tick_instance.for_tick(context), progress)
        if not requests:
            context.update_cursor(progress.as_text())
            return dg.SkipReason("No connector or resource is new.")
        return dg.SensorResult(run_requests=requests, cursor=progress.as_text())

    def _request(
        self, instance: dg.DagsterInstance, progress: "_FirstRunCursor"
    ) -> tuple[list[dg.RunRequest], "_FirstRunCursor"]:
        """Return at most `MAX_REQUESTS` requests, and the cursor after them."""
        requests: list[dg.RunRequest] = []
        # The cursor moves past a candidate only with its request, so the next tick starts with the others.
        for candidate, new in _new_resources(instance, self.candidates, after=progress.after):
            if len(requests) == MAX_REQUESTS:
                return requests, progress
            if new:
                requests.append(candidate.request(self.jobs[candidate.connector].name, new))
            progress = _FirstRunCursor(known=progress.known, after=candidate.connector)
        return requests, _FirstRunCursor(known=progress.known, after=None, done=True)


def _first_run_candidates(
    connectors: Iterable[tuple[Connector, datetime]],
) -> list["_FirstRunCandidate"]:
    """Return the connectors that have a first run, by name: the sensor cursor counts in this order."""
    candidates = (_FirstRunCandidate.of(*pair) for pair in connectors)
    return sorted((each for each in candidates if each.resources), key=lambda each: each.connector)


@dataclass(frozen=True)
class _FirstRunCandidate:
    """A connector that may be new, with the resources that its runs load."""

    connector: str
    created_at: datetime
    resources: tuple[str, ...]

    @classmethod
    def of(cls, connector: Connector, created_at: datetime) -> "_FirstRunCandidate":
        is_manual = isinstance(connector.schedule, ManualSchedule)
        names = () if is_manual else tuple(r.name for r in connector.resources if r.selected)
        return cls(connector.name, created_at, names)

    def request(self, job_name: str, new: Sequence[str]) -> dg.RunRequest:
        """Return the request for a run of the new resources.

        The run key keeps the daemon from creating the run twice: if it is killed in the middle of a tick,
        or if all assets of the connector are wiped.
        """
        is_whole = len(new) == len(self.resources)
        return dg.RunRequest(
            run_key=f"first:{self.connector}:{self.created_at.isoformat()}:{_short_hash(sorted(new))}",
            job_name=job_name,
            # Without a selection the UI shows the run as one of the whole job.
            asset_selection=None if is_whole else [asset_key(self.connector, name) for name in new],
            tags={TAG_CONNECTOR: self.connector, TAG_TRIGGER: "first_run"},
        )


@dataclass(frozen=True)
class _FirstRunCursor:
    """The sensor cursor: how far, by name, a set of connectors and resources has been examined.

    `known` is a digest of the set, so the cursor has some 100 bytes for any number of connectors. While it
    matches, a tick compares two texts and queries nothing.
    """

    known: str
    after: str | None = None
    done: bool = False
    version: int = 1

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str | None, known: str) -> "_FirstRunCursor":
        """Return the stored cursor; an initial cursor if the stored one is of another set or unreadable."""
        try:
            value = json.loads(text or "{}")
        except ValueError:
            value = {}
        # Another set of connectors, or another version: examine all of them again, which requests nothing twice.
        if not isinstance(value, dict) or (value.get("version"), value.get("known")) != (1, known):
            return cls(known)
        after = value.get("after")
        return cls(known, after if isinstance(after, str) else None, value.get("done") is True)


def _new_resources(
    instance: dg.DagsterInstance, candidates: Sequence[_FirstRunCandidate], *, after: str | None
) -> Iterator[tuple[_FirstRunCandidate, tuple[str, ...]]]:
    """Yield each candidate later than `after` by name, with its new resources."""
    rest = [each for each in candidates if after is None or each.connector > after]
    for batch in _query_batches(rest):
        keys = {name: asset_key(*name) for each in batch for name in _asset_names(each)}
        # A run that was created for an asset counts even if it failed or is still queued.
        known = {
            record.asset_entry.asset_key
            for record in instance.get_asset_records(list(keys.values()))
            if record.asset_entry.last_run_id or record.asset_entry.last_materialization_record
        }
        for each in batch:
            yield each, tuple(n for c, n in _asset_names(each) if keys[c, n] not in known)


def _asset_names(candidate: _FirstRunCandidate) -> Iterable[tuple[str, str]]:
    return ((candidate.connector, resource) for resource in candidate.resources)


def _query_batches(candidates: Sequence[_FirstRunCandidate]) -> Iterator[list[_FirstRunCandidate]]:
    # A connector is never split, because its request names all its new resources.
    batch: list[_FirstRunCandidate] = []
    size = 0
    for candidate in candidates:
        batch.append(candidate)
        size += len(candidate.resources)
        if size >= ASSETS_PER_QUERY:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _short_hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
