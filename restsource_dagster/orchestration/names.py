"""Names of assets, jobs, schedules and run tags: contracts with people, dashboards and tests."""

import re

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.naming import asset_identifier

__all__ = [
    "TAG_CONNECTOR",
    "TAG_DEFINITION",
    "TAG_HISTORY",
    "TAG_LIVE_START",
    "TAG_PROCESS",
    "TAG_SLOT",
    "TAG_TRIGGER",
    "TAG_WINDOW",
    "TRIGGER_BACKFILL",
    "asset_key",
    "backfill_asset_key",
    "backfill_job_name",
    "backfill_op_name",
    "backfill_tag_value",
    "is_job_of",
    "job_name",
    "possible_connectors",
    "schedule_name",
]

TAG_CONNECTOR = "restsource/connector"
"""Run tag: the connector's name. The run queue starts one run per value at a time."""
TAG_PROCESS = "restsource/process"
"""Run tag: the process that executes the run, as `host:process id:start time`."""
TAG_SLOT = "restsource/slot"
"""Run tag: the due time of a scheduled run (ISO 8601, UTC)."""
TAG_TRIGGER = "restsource/trigger"
"""Run tag: what requested the run: schedule, first_run, backfill or manual."""
TRIGGER_BACKFILL = "backfill"
"""The value of `TAG_TRIGGER` for runs of a backfill. All other runs are *live* runs."""
TAG_HISTORY = "restsource/history"
"""Run tag of a backfill: its resource, as `connector/resource`."""
TAG_WINDOW = "restsource/window"
"""Run tag of a backfill: the partition key, or a window of cursor values: `2024-05-01`, `0..10000`."""
TAG_LIVE_START = "restsource/live_start"
"""Run tag of a backfill: where the code server that requested the run ends it (ISO 8601, UTC)."""
TAG_DEFINITION = "restsource/definition"
"""Run tag of a backfill: the resource's definition key when the run was requested."""


def asset_key(connector: str, resource: str) -> dg.AssetKey:
    """Return the key of a resource's asset."""
    return dg.AssetKey([connector, resource])


def job_name(connector: str) -> str:
    """Return the name of the job that loads all resources of a connector."""
    return f"{connector}_job"


def is_job_of(connector: Connector, job: str) -> bool:
    """True if a job is a connector's own, or that of a backfill of one of its resources."""
    if job == job_name(connector.name):
        return True
    # The cheap test first: this is asked for every connector of a folder.
    return job.startswith(f"{connector.name}__") and any(
        job == backfill_job_name(connector.name, resource.name)
        for resource in connector.resources
        if resource.backfill is not None
    )


def possible_connectors(job: str) -> frozenset[str]:
    """Return the names that the connector of a job can have. `is_job_of` decides between them.

    `shop__orders_history_job` is a backfill of `shop`, unless there is a connector `shop__orders_history`.
    """
    # A lookahead, so that overlapping `__` of a name such as `a___b` all count.
    name = job.removesuffix("_job")
    ends = (match.start() for match in re.finditer("(?=__)", name))
    return frozenset({name, *(name[:end] for end in ends)})


def schedule_name(connector: str) -> str:
    """Return the name of the schedule of a connector's job."""
    return f"{connector}_schedule"


def backfill_asset_key(connector: str, resource: str) -> dg.AssetKey:
    """Return the key of the partitioned asset of a resource's backfill."""
    return dg.AssetKey([connector, f"{resource}_history"])


def backfill_job_name(connector: str, resource: str) -> str:
    """Return the name of the job that loads one partition of a backfill."""
    return f"{backfill_op_name(connector, resource)}_job"


def backfill_op_name(connector: str, resource: str) -> str:
    """Return the name of the op of that job."""
    return f"{connector}__{asset_identifier(resource)}_history"


def backfill_tag_value(connector: str, resource: str) -> str:
    """Return the value of `TAG_HISTORY` for a resource."""
    return f"{connector}/{resource}"
