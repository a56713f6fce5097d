"""The partitioned twin of an asset: its partitions are the windows of history.

A twin of its own, because a partitioned asset that is also run without a partition shows nothing of
such runs. It writes to the same table as the live asset.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from restsource_dagster.connector.partitions import PARTITION_KEY_FORMATS
from restsource_dagster.orchestration.assets import CodeReferenceSource
from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.dagster_compat import UnresolvedJob
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_DEFINITION,
    TAG_HISTORY,
    TAG_TRIGGER,
    TRIGGER_BACKFILL,
    asset_key,
    backfill_op_name,
)
from restsource_dagster.orchestration.run_config import RunSettings

__all__ = [
    "BACKFILL_PRIORITY",
    "backfill_run_tags",
    "build_backfill_asset",
    "build_backfill_job",
    "build_partitions_definition",
]

BACKFILL_PRIORITY = {"dagster/priority": "-1"}
"""Run tag: in the queue, live runs go before windows."""
_PARTITION_CRONS = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}


def build_partitions_definition(plan: BackfillPlan) -> dg.TimeWindowPartitionsDefinition:
    """Dagster's partitions with the keys of the plan's windows."""
    partition = plan.backfill.partition
    return dg.TimeWindowPartitionsDefinition(
        start=plan.backfill.start,
        end=max(plan.end, plan.backfill.start),
        cron_schedule=_PARTITION_CRONS[partition],
        fmt=PARTITION_KEY_FORMATS[partition],
        timezone="UTC",
    )


def build_backfill_asset(plan: BackfillPlan, runs: RunSettings) -> dg.AssetsDefinition:
    """The twin asset, materialized by an op that loads one window."""

    @dg.multi_asset(
        name=backfill_op_name(plan.connector.name, plan.resource.name),
        specs=[_backfill_asset_spec(plan, runs)],
        partitions_def=build_partitions_definition(plan),
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        pool=plan.connector.name,  # the same as that of the live asset: see there
        description=f"Load a window of {plan.resource.name}.",
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        from restsource_dagster.orchestration.backfills.partition_op import materialize_partition

        yield materialize_partition(context, plan, runs)

    return load


def build_backfill_job(plan: BackfillPlan, asset: dg.AssetsDefinition) -> UnresolvedJob:
    """The job that loads one window."""
    return dg.define_asset_job(
        plan.job_name,
        selection=dg.AssetSelection.assets(*asset.keys),
        tags=backfill_run_tags(plan),
        description=f"Load a window of {plan.resource.name}'s history ({plan.connector.path.name}).",
    )


def backfill_run_tags(plan: BackfillPlan) -> dict[str, str]:
    """The run tags that all windows of a history have in common."""
    return {
        TAG_CONNECTOR: plan.connector.name,
        TAG_TRIGGER: TRIGGER_BACKFILL,
        TAG_HISTORY: plan.tag,
        TAG_DEFINITION: plan.resource.definition_key,
        **BACKFILL_PRIORITY,
    }


def _backfill_asset_spec(plan: BackfillPlan, runs: RunSettings) -> dg.AssetSpec:
    connector, resource = plan.connector, plan.resource
    return dg.AssetSpec(
        plan.asset_key,
        deps=[asset_key(connector.name, resource.name)],
        code_version=resource.definition_key,
        group_name=connector.name,
        description=_backfill_asset_description(plan),
        kinds={"dlt", runs.settings.destination},
        owners=list(connector.owners),
        tags=dict(connector.tags),
        metadata={
            **CodeReferenceSource(connector.path, "connector file").at(resource.line),
            "window": plan.backfill.partition,
            "history/start": dg.MetadataValue.timestamp(plan.backfill.start),
            "history/end": dg.MetadataValue.timestamp(plan.end),
            "auto": plan.backfill.auto,
        },
    )


def _backfill_asset_description(plan: BackfillPlan) -> str:
    backfill = plan.backfill
    loaded = "Loaded by themselves" if backfill.auto else "Loaded when somebody asks for them"
    family = plan.connector.family_of(plan.resource.name).names[1:]
    with_it = f" With each come its rows of {', '.join(family)}." if family else ""
    return (
        f"The {backfill.partition} windows of {plan.resource.name} before its live stream, from "
        f"{backfill.start:%Y-%m-%d %H:%M} up to {plan.end:%Y-%m-%d %H:%M} UTC, in the same table. "
        f"{loaded}, newest first, beside the live runs.{with_it}"
    )
