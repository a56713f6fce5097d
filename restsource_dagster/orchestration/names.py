"""The fixed names by which people, dashboards and tests find things in Dagster."""

import dagster as dg

__all__ = [
    "TAG_CONNECTOR",
    "TAG_PROCESS",
    "TAG_SLOT",
    "TAG_TRIGGER",
    "asset_key",
    "job_name",
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


def asset_key(connector: str, resource: str) -> dg.AssetKey:
    """The asset of one resource."""
    return dg.AssetKey([connector, resource])


def job_name(connector: str) -> str:
    """The job that loads all resources of a connector."""
    return f"{connector}_job"


def schedule_name(connector: str) -> str:
    """The schedule of a connector's job."""
    return f"{connector}_schedule"
