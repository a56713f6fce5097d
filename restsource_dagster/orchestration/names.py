"""The fixed names by which people, dashboards and tests find things in Dagster."""

import re

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.naming import asset_identifier

__all__ = [
    "TAG_CONNECTOR",
    "TAG_DEFINITION",
    "TAG_HISTORY",
    "TAG_PROCESS",
    "TAG_SLOT",
    "TAG_TRIGGER",
    "TAG_WINDOW",
    "TRIGGER_BACKFILL",
    "asset_key",
    "backfill_asset_key",
    "backfill_job_name",
    "backfill_op_name",
    "history_tag_value",
    "is_job_of",
    "job_name",
    "owners_of",
    "schedule_name",
]

TAG_CONNECTOR = "restsource/connector"
"""Run tag: the connector's name. The run queue never runs two of one value at once."""
TAG_PROCESS = "restsource/process"
"""Run tag: the process that executes the run: host, process id and start time."""
TAG_SLOT = "restsource/slot"
"""Run tag: the due time (ISO 8601, UTC) that a scheduled run stands for."""
TAG_TRIGGER = "restsource/trigger"
"""Run tag: why the run was asked for: schedule, first_run, backfill or manual."""
TRIGGER_BACKFILL = "backfill"
"""The value of `TAG_TRIGGER` for windows of history. All other runs are *live* runs."""
TAG_HISTORY = "restsource/history"
"""Run tag of a window: whose history it belongs to, `connector/resource`."""
TAG_WINDOW = "restsource/window"
"""Run tag of a window: its partition key, or both its ends: `2024-05-01`, `0..10000`."""
TAG_DEFINITION = "restsource/definition"
"""Run tag of a window: the definition of the resource that it was asked for with."""


def asset_key(connector: str, resource: str) -> dg.AssetKey:
    """The asset of one resource."""
    return dg.AssetKey([connector, resource])


def job_name(connector: str) -> str:
    """The job that loads all resources of a connector."""
    return f"{connector}_job"


def is_job_of(connector: Connector, job: str) -> bool:
    """Whether a job is a connector's own, or that of one of its resources' histories."""
    if job == job_name(connector.name):
        return True
    return job.startswith(f"{connector.name}__") and any(
        job == backfill_job_name(connector.name, resource.name)
        for resource in connector.resources
        if resource.backfill is not None
    )


def owners_of(job: str) -> frozenset[str]:
    """The names that the connector of a job can have: `is_job_of` tells which one has it."""
    name = job.removesuffix("_job")
    ends = (match.start() for match in re.finditer("(?=__)", name))
    return frozenset({name, *(name[:end] for end in ends)})


def schedule_name(connector: str) -> str:
    """The schedule of a connector's job."""
    return f"{connector}_schedule"


def backfill_asset_key(connector: str, resource: str) -> dg.AssetKey:
    """The partitioned twin of a resource's asset: its windows of history."""
    return dg.AssetKey([connector, f"{resource}_history"])


def backfill_job_name(connector: str, resource: str) -> str:
    """The job that loads one window of a resource's history."""
    return f"{backfill_op_name(connector, resource)}_job"


def backfill_op_name(connector: str, resource: str) -> str:
    """The op of that job."""
    return f"{connector}__{asset_identifier(resource)}_history"


def history_tag_value(connector: str, resource: str) -> str:
    """The value of `TAG_HISTORY`."""
    return f"{connector}/{resource}"
