"""A code location with two scheduled connectors, whose jobs do nothing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.orchestration.names import job_name
from restsource_dagster.orchestration.schedules.slot_schedule import build_schedule

__all__ = ["CREATED", "build_job", "build_shop", "defs"]

CREATED = datetime(2026, 11, 23, 10, 3, 20, tzinfo=UTC)


def build_shop(schedule: dict[str, Any], name: str = "shop") -> Connector:
    connector, findings = parse_connector(
        {
            "name": name,
            "schedule": schedule,
            "client": {"base_url": "http://127.0.0.1:1"},
            "resources": ["orders"],
        },
        Path(f"configs/{name}.json"),
    )
    assert connector, findings
    return connector


def build_job(connector: str) -> dg.JobDefinition:
    @dg.op(name=f"load_{connector}")
    def load() -> None:
        """Load nothing."""

    @dg.job(name=job_name(connector), executor_def=dg.in_process_executor)
    def job() -> None:
        load()

    return job


def _both(connector: Connector) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    job = build_job(connector.name)
    return job, build_schedule(connector, CREATED, job)


_minutes = _both(build_shop({"mode": "minutes", "interval": 90}, "by_minutes"))
_hours = _both(build_shop({"mode": "hours", "interval": 7}, "by_hours"))

defs = dg.Definitions(jobs=[_minutes[0], _hours[0]], schedules=[_minutes[1], _hours[1]])
