"""The op of a backfill's asset: it loads one partition.

Only a running op imports this module, because it imports dlt.
"""

from typing import Any

import dagster as dg

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run.window_load import ingest_window
from restsource_dagster.orchestration.assets import materialization_metadata
from restsource_dagster.orchestration.backfills.backfill_assets import backfill_run_tags
from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
from restsource_dagster.orchestration.names import TAG_WINDOW
from restsource_dagster.orchestration.op import (
    RunLogObserver,
    load_summary,
    summarize_failures,
    tag_run,
)
from restsource_dagster.orchestration.run_config import RunSettings
from restsource_dagster.settings import read_environment

__all__ = ["materialize_partition"]


def materialize_partition(
    context: dg.AssetExecutionContext, plan: BackfillPlan, runs: RunSettings
) -> dg.MaterializeResult[Any]:
    """Load the partition of this run, with the rows of all dependents of the resource.

    The result's data version is the resource's definition key. By it Dagster knows which partitions were
    loaded under an older definition and are due again. Raises `dagster.Failure` with one summary.
    """
    key, resource = context.partition_key, plan.resource
    # The backfill sensor finds runs by these tags. Runs that people launch in the UI lack them.
    tag_run(context, {**backfill_run_tags(plan), TAG_WINDOW: key})
    window = plan.window(key)
    context.log.info(f"{resource.name}: the window {window.label}")
    # All outcomes first: the asset is materialized only if every resource of the family is loaded.
    outcomes = list(
        ingest_window(
            plan.connector,
            resource.name,
            window,
            settings=runs.settings,
            environment=read_environment(),
            observer=RunLogObserver(context.log, runs.observer),
        )
    )
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        raise summarize_failures(plan.connector, failed, len(outcomes))
    for outcome in outcomes:
        context.log.info(load_summary(outcome))
    return dg.MaterializeResult(
        asset_key=plan.asset_key,
        data_version=dg.DataVersion(resource.definition_key),
        metadata=_partition_metadata(plan, key, outcomes),
    )


def _partition_metadata(plan: BackfillPlan, key: str, outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the metadata of the root's load, and the rows of each dependent, which has no such asset."""
    [root] = [outcome for outcome in outcomes if outcome.resource == plan.resource.name]
    partition = plan.partition(key)
    metadata = {
        **materialization_metadata(root),
        # Moments, unlike those of a live run: the UI shows both ends of the partition in time.
        "window/start": dg.MetadataValue.timestamp(partition.start),
        "window/end": dg.MetadataValue.timestamp(partition.end),
    }
    for outcome in outcomes:
        if outcome is not root:
            metadata[f"rows_loaded/{outcome.resource}"] = outcome.rows_loaded
    return metadata
