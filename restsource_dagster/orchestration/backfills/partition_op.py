"""What happens inside the run of a window. Imported by the op only: this module brings dlt."""

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
    """Load the window of the run's partition, with the rows of all that depend on the resource.

    The result's data version is the definition that it was loaded with: so Dagster itself knows
    which windows a changed definition makes due again. Raises `dagster.Failure` with one summary.
    """
    key = context.partition_key
    # what is under way is told by these tags, also of windows that somebody launched in the UI
    tag_run(context, {**backfill_run_tags(plan), TAG_WINDOW: key})
    span = plan.span(key)
    context.log.info(f"{plan.resource.name}: the window {span.label}")
    outcomes = list(
        ingest_window(
            plan.connector,
            plan.resource.name,
            span,
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
        data_version=dg.DataVersion(plan.resource.definition_key),
        metadata=_partition_metadata(plan, key, outcomes),
    )


def _partition_metadata(plan: BackfillPlan, key: str, outcomes: list[Outcome]) -> dict[str, Any]:
    [root] = [outcome for outcome in outcomes if outcome.resource == plan.resource.name]
    window = plan.window(key)
    metadata = {
        **materialization_metadata(root),
        "window/start": dg.MetadataValue.timestamp(window.start),
        "window/end": dg.MetadataValue.timestamp(window.end),
    }
    for outcome in outcomes:
        if outcome is not root:
            metadata[f"rows_loaded/{outcome.resource}"] = outcome.rows_loaded
    return metadata
