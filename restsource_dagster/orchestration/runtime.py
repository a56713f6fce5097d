"""What happens inside a run. Imported by the op only: this module brings dlt."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource
from dlt.common.schema import Schema

from restsource_dagster.config.connector import Connector
from restsource_dagster.engine.outcome import Outcome
from restsource_dagster.engine.tables import read_columns
from restsource_dagster.orchestration.load_config import LoadConfig, order_of
from restsource_dagster.orchestration.loading import carry_out
from restsource_dagster.orchestration.metadata import materialization_metadata, table_schema
from restsource_dagster.orchestration.names import (
    TAG_CONNECTOR,
    TAG_PROCESS,
    TAG_TRIGGER,
    asset_key,
)
from restsource_dagster.orchestration.processes import process_tag
from restsource_dagster.orchestration.resume import materialized_before
from restsource_dagster.orchestration.run_settings import RunSettings

__all__ = ["ConnectorDltResource", "failure", "name_run", "summary"]

_FROM_DAGSTER_DLT = ("dataset_name", "destination_name", "destination_type", "first_run")


class ConnectorDltResource(DagsterDltResource):
    """dagster-dlt's resource with our engine in place of its `run`.

    Its `run` drops the working folder of another run, fails in a process that has run before and
    says nothing of an empty load; its account of a load is worth keeping, and people know it.
    """

    def run_connector(
        self,
        context: dg.AssetExecutionContext,
        connector: Connector,
        runs: RunSettings,
        config: LoadConfig,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Load the selected resources, yield a result for each; fail at the end if any failed.

        Raises `dagster.Failure` with one summary of who failed and why, or with what is wrong in
        the run config.
        """
        name_run(context, {TAG_CONNECTOR: connector.name, TAG_TRIGGER: "manual"})
        done = materialized_before(context) & context.selected_asset_keys
        if done:
            names = ", ".join(sorted(key.path[-1] for key in done))
            context.log.info(f"Loaded before this retry, and not loaded again: {names}")
        wanted = {key.path[-1] for key in context.selected_asset_keys - done}
        order = order_of(config, connector, wanted)
        failed: list[Outcome] = []
        for outcome in carry_out(context, connector, wanted, order, runs):
            if outcome.failed:
                failed.append(outcome)
            elif outcome.resource in wanted:
                context.log.info(summary(outcome))
                yield dg.MaterializeResult(
                    asset_key=asset_key(connector.name, outcome.resource),
                    metadata=self._metadata(context, outcome),
                )
        if failed:
            raise failure(connector, failed, len(wanted))

    def _metadata(self, context: dg.AssetExecutionContext, outcome: Outcome) -> dict[str, Any]:
        metadata = dict(materialization_metadata(outcome))
        if outcome.load:
            theirs = self.extract_resource_metadata(
                context, outcome.load.resource, outcome.load.info, outcome.load.pipeline
            )
            wanted = (*outcome.nested_tables, *_FROM_DAGSTER_DLT)
            metadata |= {
                key: theirs[key] for key in wanted if key in theirs and key not in metadata
            }
        return metadata

    def _extract_table_schema_metadata(self, table_name: str, schema: Schema) -> dg.TableSchema:
        """The columns, read without taking them out of the live schema as the parent does."""
        return table_schema(read_columns(schema, table_name))


def name_run(context: dg.AssetExecutionContext, tags: Mapping[str, str]) -> None:
    """Tag a run with its process, and with the job's tags if the UI started it without the job."""
    tags = {**tags, **context.run.tags, TAG_PROCESS: process_tag()}
    new = {key: value for key, value in tags.items() if context.run.tags.get(key) != value}
    if new:
        context.instance.add_run_tags(context.run.run_id, new)


def summary(outcome: Outcome) -> str:
    """A line about a load that went well."""
    nested = sum(outcome.nested_tables.values())
    more = f" and {nested} in nested tables" if nested else ""
    cursor = (
        f", {outcome.cursor.cursor_path} at {outcome.cursor.last_value}" if outcome.cursor else ""
    )
    return (
        f"{outcome.resource}: {outcome.rows_loaded} rows{more} in {outcome.seconds:.1f} s "
        f"({outcome.usage.requests} requests, {outcome.usage.retries} retries){cursor}"
    )


def failure(connector: Connector, failed: list[Outcome], wanted: int) -> dg.Failure:
    """One summary: each cause once, with all that went down with it."""
    causes: dict[tuple[str, str, str], list[str]] = {}
    for outcome in failed:
        if outcome.failure:
            cause = (outcome.failure.resource, outcome.failure.step, outcome.failure.message)
            causes.setdefault(cause, []).append(outcome.resource)
    lines = [f"{len(failed)} of {wanted} resources of {connector.name} were not loaded."]
    for (culprit, step, message), down in causes.items():
        others = [name for name in down if name != culprit]
        with_it = f" (and with it {', '.join(others)})" if others else ""
        lines.append(f"- {culprit}{with_it}, in {step}: {message}")
    rest = "Nothing" if len(failed) == wanted else "Everything else is loaded. Nothing"
    lines.append(f"{rest} of a failed resource is loaded; running again is safe.")
    return dg.Failure(
        description="\n".join(lines),
        metadata={"failed": dg.MetadataValue.json(sorted(o.resource for o in failed))},
    )
