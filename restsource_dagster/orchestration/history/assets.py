"""The partitioned twin of an asset: its partitions are the windows of history.

A twin of its own, because a partitioned asset that is also run without a partition shows nothing of
such runs. It writes to the same table as the live asset.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from restsource_dagster.config.windows import KEY_FORMATS
from restsource_dagster.orchestration.code_references import CodeFile
from restsource_dagster.orchestration.history.plans import HistoryPlan
from restsource_dagster.orchestration.names import (
    BACKFILL,
    TAG_CONNECTOR,
    TAG_DEFINITION,
    TAG_HISTORY,
    TAG_TRIGGER,
    asset_key,
    history_op_name,
)
from restsource_dagster.orchestration.run_settings import RunSettings

if TYPE_CHECKING:  # Dagster has no public name for what `define_asset_job` returns
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

__all__ = [
    "PRIORITY",
    "build_history_asset",
    "build_history_job",
    "history_tags",
    "partitions_of",
]

PRIORITY = {"dagster/priority": "-1"}
"""Run tag: in the queue, live runs go before windows."""
_CRONS = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}


def partitions_of(plan: HistoryPlan) -> dg.TimeWindowPartitionsDefinition:
    """Dagster's partitions with the keys of the plan's windows."""
    partition = plan.backfill.partition
    return dg.TimeWindowPartitionsDefinition(
        start=plan.backfill.start,
        end=max(plan.end, plan.backfill.start),
        cron_schedule=_CRONS[partition],
        fmt=KEY_FORMATS[partition],
        timezone="UTC",
    )


def build_history_asset(plan: HistoryPlan, runs: RunSettings) -> dg.AssetsDefinition:
    """The twin asset, materialized by an op that loads one window."""

    @dg.multi_asset(
        name=history_op_name(plan.connector.name, plan.resource.name),
        specs=[_spec(plan, runs)],
        partitions_def=partitions_of(plan),
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        pool=plan.connector.name,  # the same as that of the live asset: see there
        description=f"Load a window of {plan.resource.name}.",
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        from restsource_dagster.orchestration.history.runtime import load_window

        yield load_window(context, plan, runs)

    return load


def build_history_job(
    plan: HistoryPlan, asset: dg.AssetsDefinition
) -> "UnresolvedAssetJobDefinition":
    """The job that loads one window."""
    return dg.define_asset_job(
        plan.job_name,
        selection=dg.AssetSelection.assets(*asset.keys),
        tags=history_tags(plan),
        description=f"Load a window of {plan.resource.name}'s history ({plan.connector.path.name}).",
    )


def history_tags(plan: HistoryPlan) -> dict[str, str]:
    """The run tags that all windows of a history have in common."""
    return {
        TAG_CONNECTOR: plan.connector.name,
        TAG_TRIGGER: BACKFILL,
        TAG_HISTORY: plan.tag,
        TAG_DEFINITION: plan.resource.definition_key,
        **PRIORITY,
    }


def _spec(plan: HistoryPlan, runs: RunSettings) -> dg.AssetSpec:
    connector, resource = plan.connector, plan.resource
    return dg.AssetSpec(
        plan.asset_key,
        deps=[asset_key(connector.name, resource.name)],
        code_version=resource.definition_key,
        group_name=connector.name,
        description=_description(plan),
        kinds={"dlt", runs.settings.destination},
        owners=list(connector.owners),
        tags=dict(connector.tags),
        metadata={
            **CodeFile(connector.path, "connector file").at(resource.line),
            "window": plan.backfill.partition,
            "history/start": dg.MetadataValue.timestamp(plan.backfill.start),
            "history/end": dg.MetadataValue.timestamp(plan.end),
            "auto": plan.backfill.auto,
        },
    )


def _description(plan: HistoryPlan) -> str:
    backfill = plan.backfill
    loaded = "Loaded by themselves" if backfill.auto else "Loaded when somebody asks for them"
    family = plan.connector.family_of(plan.resource.name).names[1:]
    with_it = f" With each come its rows of {', '.join(family)}." if family else ""
    return (
        f"The {backfill.partition} windows of {plan.resource.name} before its live stream, from "
        f"{backfill.start:%Y-%m-%d %H:%M} up to {plan.end:%Y-%m-%d %H:%M} UTC, in the same table. "
        f"{loaded}, newest first, beside the live runs.{with_it}"
    )
