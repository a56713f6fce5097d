"""The partitioned asset of a backfill, and its job.

It is an asset beside the live one, because a partitioned asset shows nothing of runs without a partition. Both
write to the same table.
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
    TAG_LIVE_START,
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
"""Run tag: the queue starts live runs before those of a backfill."""
_PARTITION_CRONS = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}


def build_partitions_definition(plan: BackfillPlan) -> dg.TimeWindowPartitionsDefinition:
    """Return Dagster's partitions, with the keys of the plan's."""
    partition = plan.backfill.partition
    return dg.TimeWindowPartitionsDefinition(
        start=plan.backfill.start,
        # A backfill that begins after the live stream has no partitions; Dagster refuses an end before
        # the start.
        end=max(plan.end, plan.backfill.start),
        cron_schedule=_PARTITION_CRONS[partition],
        fmt=PARTITION_KEY_FORMATS[partition],
        timezone="UTC",
    )


def build_backfill_asset(plan: BackfillPlan, runs: RunSettings) -> dg.AssetsDefinition:
    """Return the asset of a backfill, materialized by an op that loads one partition."""

    @dg.multi_asset(
        name=backfill_op_name(plan.connector.name, plan.resource.name),
        specs=[_backfill_asset_spec(plan, runs)],
        partitions_def=build_partitions_definition(plan),
        # A partition per run: a killed run loses one, and max_parallel counts runs.
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        # The live asset's pool: the two never run at once.
        pool=runs.host.pool or plan.connector.name,
        op_tags=runs.host.op_tags,
        retry_policy=runs.host.retry_policy,
        description=f"Loads a partition of the backfill of {plan.resource.name}.",
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        # Imported here because it brings dlt, which the code location must load without.
        from restsource_dagster.orchestration.op import materialize_partition

        yield materialize_partition(context, plan, runs)

    return load


def build_backfill_job(plan: BackfillPlan, asset: dg.AssetsDefinition) -> UnresolvedJob:
    """Return the job that loads one partition."""
    return dg.define_asset_job(
        plan.job_name,
        selection=dg.AssetSelection.assets(*asset.keys),
        tags=backfill_run_tags(plan),
        description=f"Loads a partition of the backfill of {plan.resource.name} "
        f"({plan.connector.path.name}).",
    )


def backfill_run_tags(plan: BackfillPlan) -> dict[str, str]:
    """Return the run tags that all partitions of a backfill have in common."""
    return {
        TAG_CONNECTOR: plan.connector.name,
        TAG_TRIGGER: TRIGGER_BACKFILL,
        TAG_HISTORY: plan.tag,
        TAG_DEFINITION: plan.resource.definition_key,
        TAG_LIVE_START: plan.live_start.isoformat(),
        **BACKFILL_PRIORITY,
    }


def _backfill_asset_spec(plan: BackfillPlan, runs: RunSettings) -> dg.AssetSpec:
    connector, resource = plan.connector, plan.resource
    return dg.AssetSpec(
        plan.asset_key,
        # For the graph only: it shows the two assets of a table beside each other.
        deps=[asset_key(connector.name, resource.name)],
        # The UI marks partitions that were loaded under another definition as outdated.
        code_version=resource.definition_key,
        group_name=connector.name,
        description=_backfill_asset_description(plan),
        kinds={"dlt", runs.settings.for_destination(connector.destination).destination_type},
        owners=list(connector.owners),
        tags=dict(connector.tags),
        metadata={
            **CodeReferenceSource(connector.path, "connector file").at(resource.line),
            "backfill/partition": plan.backfill.partition,
            "backfill/start": dg.MetadataValue.timestamp(plan.backfill.start),
            "backfill/end": dg.MetadataValue.timestamp(plan.end),
            "backfill/auto": plan.backfill.auto,
        },
    )


def _backfill_asset_description(plan: BackfillPlan) -> str:
    backfill = plan.backfill
    loaded = "loaded automatically" if backfill.auto else "loaded on request"
    dependents = plan.connector.family_of(plan.resource.name).names[1:]
    with_it = f" Each partition includes its rows of {', '.join(dependents)}." if dependents else ""
    return (
        f"The backfill of {plan.resource.name}: the rows before its live stream, from "
        f"{backfill.start:%Y-%m-%d %H:%M} up to {plan.end:%Y-%m-%d %H:%M} UTC, in the same table. "
        f"Its {backfill.partition} partitions are {loaded}, newest first, beside the live runs."
        f"{with_it}"
    )
