"""What a retried run need not load again: all that the run before it materialized."""

import dagster as dg

__all__ = ["materialized_before"]

_RESUMES = "dagster/is_resume_retry"


def materialized_before(context: dg.AssetExecutionContext) -> frozenset[dg.AssetKey]:
    """The assets that this run's predecessors materialized, if it goes on from their failure.

    Dagster retries a step as a whole, and a connector is one step. A run that is executed again
    "from failure" (by a person or by a retry policy) goes on from its parent run, which may have
    gone on from another; a step that is tried again in the same run, from its earlier tries.
    """
    done: set[dg.AssetKey] = set()
    if context.retry_number:
        done |= _materialized(context.instance, context.run.run_id)
    run: dg.DagsterRun | None = context.run
    while run and run.parent_run_id and run.tags.get(_RESUMES) == "true":
        done |= _materialized(context.instance, run.parent_run_id)
        run = context.instance.get_run_by_id(run.parent_run_id)
    return frozenset(done)


def _materialized(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    found: set[dg.AssetKey] = set()
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        for record in page.records:
            if record.asset_key:
                found.add(record.asset_key)
        if not page.has_more:
            return found
        cursor = page.cursor
