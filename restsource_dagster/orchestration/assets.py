"""The assets of a connector: one multi-asset, with one asset per resource, and its job.

Specs come from the file alone. dlt is imported when the op runs, so the code location loads without
secrets, network and destination.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from restsource_dagster.connector.loader import LoadedFile
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.models.asset_options import AssetOptions, CronAutomation
from restsource_dagster.connector.validation.diagnostics import problems_as_markdown
from restsource_dagster.orchestration.asset_checks import (
    build_check_specs,
    build_freshness_policy,
)
from restsource_dagster.orchestration.dagster_compat import UnresolvedJob
from restsource_dagster.orchestration.host_options import HostOptions
from restsource_dagster.orchestration.names import TAG_CONNECTOR, asset_key, job_name
from restsource_dagster.orchestration.run_config import (
    RUN_CONFIG_SCHEMA,
    RunSettings,
    read_load_config,
)

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.destination.tables import LoadedColumn
    from restsource_dagster.engine.run.outcome import Outcome
    from restsource_dagster.engine.run_progress import SentExchange

__all__ = [
    "CodeReferenceSource",
    "build_broken_asset_spec",
    "build_connector_assets",
    "build_connector_job",
    "materialization_metadata",
    "table_schema",
]


_URL_CHARS = 500
_KIND_TAG = "dagster/kind/"
"""Dagster keeps the kinds of an asset among its tags."""
BROKEN_FILES_GROUP = "broken_configs"
"""The group of the assets that stand for broken files, and the first part of their keys."""


class CodeReferenceSource:
    """A connector file that assets link to. `label` is the text of the link."""

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label

    @cached_property
    def _absolute(self) -> str:
        return str(self._path.absolute())

    def at(self, line: int) -> Mapping[str, dg.CodeReferencesMetadataValue]:
        """Return the metadata that links an asset to a line (counted from 1)."""
        with warnings.catch_warnings():
            # Code references are beta: Dagster warns at each use, thousands of times for a large folder.
            warnings.simplefilter("ignore", dg.BetaWarning)
            reference = dg.LocalFileCodeReference(
                file_path=self._absolute, line_number=line, label=self._label
            )
            value = dg.CodeReferencesMetadataValue(code_references=[reference])
        return {"dagster/code_references": value}


def materialization_metadata(outcome: "Outcome") -> Mapping[str, Any]:
    """Return the metadata of one resource's load.

    Numbers stay numbers, so Dagster plots them. A cursor value that is a time becomes a timestamp.
    """
    # The UI shows metadata in this order: rows and cursor first.
    metadata: dict[str, Any] = {"rows_loaded": outcome.rows_loaded}
    # Not every destination can count its rows. A 0 would be wrong.
    if outcome.row_count is not None:
        metadata["dagster/row_count"] = outcome.row_count
    metadata |= _deletion_metadata(outcome)
    if outcome.left_as_it_is:
        metadata["left_as_it_is"] = outcome.left_as_it_is
    metadata |= _cursor_metadata(outcome)
    metadata |= {
        "seconds": round(outcome.seconds, 3),
        "http/requests": outcome.usage.requests,
        "http/retries": outcome.usage.retries,
        "http/bytes": outcome.usage.bytes,
        "dagster/table_name": f"{outcome.dataset}.{outcome.table}",
        "dagster/column_schema": table_schema(outcome.columns),
    }
    if outcome.nested_tables:
        metadata["rows_loaded/nested"] = dg.MetadataValue.json(dict(outcome.nested_tables))
    if outcome.stated_total is not None:
        metadata |= {"api/total": outcome.stated_total, "api/received": outcome.records_received}
    if outcome.last_exchanges:
        metadata["http/last_requests"] = _exchange_table(outcome.last_exchanges)
    if outcome.write_mode:
        metadata["written_as"] = outcome.write_mode
    if outcome.checkpoints:
        metadata["checkpoints"] = outcome.checkpoints
    if outcome.resumed_from:
        metadata["resumed_from"] = outcome.resumed_from
    if outcome.schema_changes:
        metadata["schema_changes"] = dg.MetadataValue.json(list(outcome.schema_changes))
    if outcome.skipped:
        metadata["skipped_parents"] = dg.MetadataValue.json(list(outcome.skipped))
    if outcome.gone:
        metadata["gone_parents"] = dg.MetadataValue.json(list(outcome.gone))
    return metadata


def _deletion_metadata(outcome: "Outcome") -> Mapping[str, Any]:
    """Return how many rows went, from the resource's table and from those whose keys it names."""
    own: dict[str, Any] = {}
    if outcome.rows_deleted is not None:
        own["rows_deleted"] = outcome.rows_deleted
    if sweep := outcome.sweep:
        own |= {"sweep/listed": sweep.listed, "sweep/rows_deleted": sweep.rows}
        own |= {"sweep/refused": sweep.refused} if sweep.refused else {}
    return own | {f"rows_deleted/{name}": rows for name, rows in outcome.rows_deleted_from.items()}


def _exchange_table(exchanges: "Sequence[SentExchange]") -> dg.MarkdownMetadataValue:
    lines = [
        # A URL may be long, and a bar would end the cell.
        f"| `{each.request.replace('|', '%7C')[:_URL_CHARS]}` | {each.answer} | {each.seconds:.2f} |"
        for each in exchanges
    ]
    return dg.MetadataValue.md(
        "\n".join(["| request | answer | seconds |", "|---|---|---|", *lines])
    )


def _cursor_metadata(outcome: "Outcome") -> Mapping[str, Any]:
    """Return where the cursor stands, and what a person changed about it or asked for."""
    metadata: dict[str, Any] = {}
    if cursor := outcome.cursor:
        metadata |= {
            "incremental/cursor_path": cursor.cursor_path,
            "incremental/start_value": _cursor_value(cursor.start_value),
            "incremental/last_value": _cursor_value(cursor.last_value),
        }
        # A cursor that is no time has no lag.
        if cursor.lag_seconds is not None:
            metadata["incremental/lag_seconds"] = float(cursor.lag_seconds)
    if outcome.cursor_set:
        old, new = outcome.cursor_set
        metadata |= {
            "incremental/set_from": _cursor_value(old),
            "incremental/set_to": _cursor_value(new),
        }
    if outcome.now:
        metadata["relative_times/now"] = _cursor_value(outcome.now)
    if outcome.window:
        start, end = outcome.window
        metadata |= {"window/start": _cursor_value(start), "window/end": _cursor_value(end)}
    return metadata


def _cursor_value(value: Any) -> Any:
    if value is None:
        return dg.MetadataValue.null()
    # Dagster has no timestamp without a zone: such a value stays text.
    if isinstance(value, datetime) and value.tzinfo is not None:
        return dg.MetadataValue.timestamp(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, int | float) else str(value)


def table_schema(columns: "tuple[LoadedColumn, ...]") -> dg.TableSchema:
    """Return a table's columns as Dagster's table schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.data_type,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, other=list(column.hints)
                ),
            )
            for column in columns
        ]
    )


def build_connector_assets(connector: Connector, runs: RunSettings) -> dg.AssetsDefinition:
    """Return the assets of a connector, materialized by one op that loads the selected ones."""
    file = CodeReferenceSource(connector.path, "connector file")
    common = dg.AssetSpec(
        connector.name,
        kinds={"dlt", runs.settings.for_destination(connector.destination).destination_type},
        owners=list(connector.owners),
        tags=dict(connector.tags),
        metadata=_builder_link(connector, runs.settings.builder_address),
    )

    @dg.multi_asset(
        name=connector.name,
        specs=[
            runs.host.asset_spec(connector, each, _asset_spec(connector, each, common, file))
            for each in connector.resources
        ],
        check_specs=[
            spec
            for each in connector.resources
            for spec in build_check_specs(connector, each, runs.settings)
        ],
        # A person may materialize one resource, and a retry loads only those that failed.
        can_subset=True,
        # One schema for all. From an annotation Dagster derives a schema for each op anew.
        config_schema=RUN_CONFIG_SCHEMA,
        # With a limit of 1 per pool, the run queue never starts two runs of one connector, not even
        # runs that the UI starts without the job and so without its tags.
        pool=runs.host.pool or connector.name,
        op_tags=runs.host.op_tags,
        retry_policy=runs.host.retry_policy,
        description=connector.description,
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        # Imported here because it brings dlt, which the code location must load without.
        from restsource_dagster.orchestration.op import materialize_connector

        config = read_load_config(context)
        execute = runs.host.execute or materialize_connector
        yield from execute(context, connector, runs, config)

    return load


def build_connector_job(connector: Connector, assets: dg.AssetsDefinition) -> UnresolvedJob:
    """Return the job that loads the selected resources of a connector."""
    # With all resources deselected, the job would select nothing, which Dagster refuses.
    selected = [
        asset_key(connector.name, resource.name)
        for resource in connector.resources
        if resource.selected
    ]
    return dg.define_asset_job(
        job_name(connector.name),
        selection=dg.AssetSelection.assets(*(selected or assets.keys)),
        tags={TAG_CONNECTOR: connector.name},
        description=f"Loads the resources of {connector.path.name}.",
    )


def _builder_link(connector: Connector, builder: str | None) -> Mapping[str, Any]:
    """Return the metadata that leads to the connector's file in the builder; none if no builder is known."""
    if not builder:
        return {}
    # without the token: metadata is stored, and the browser has it as a cookie
    return {"builder": dg.MetadataValue.url(f"{builder}/open/{connector.path.stem}")}


def _asset_spec(
    connector: Connector, resource: Resource, common: dg.AssetSpec, file: CodeReferenceSource
) -> dg.AssetSpec:
    # Owners and tags of all specs are those of `common`: one copy in memory for hundreds of resources.
    # Its tags include the kinds.
    parent = [asset_key(connector.name, resource.parent)] if resource.parent else []
    asset = resource.asset
    return dg.AssetSpec(
        asset_key(connector.name, resource.name),
        deps=parent,
        # A failed resource yields no materialization, and the others of the run still do.
        skippable=True,
        group_name=connector.name,
        description=_asset_description(connector, resource),
        owners=common.owners if asset.owners is None else asset.owners,
        tags=_asset_tags(common, asset),
        metadata={**common.metadata, **_spec_metadata(connector, resource, file)},
        freshness_policy=build_freshness_policy(connector, resource),
        automation_condition=_automation_condition(asset),
    )


def _asset_tags(common: dg.AssetSpec, asset: AssetOptions) -> Mapping[str, str]:
    """Return the tags of an asset, its kinds included."""
    if asset.tags is None and asset.kinds is None:
        return common.tags
    # Dagster makes tags of kinds, under names of its own
    own = dg.AssetSpec("own", kinds={*(common.kinds if asset.kinds is None else asset.kinds)}).tags
    # an asset's kinds stand in place of the connector's, and its tags beside them
    kept = {tag: text for tag, text in common.tags.items() if not tag.startswith(_KIND_TAG)}
    return {**kept, **own, **(asset.tags or {})}


def _automation_condition(asset: AssetOptions) -> dg.AutomationCondition[Any] | None:
    given = asset.automation_condition
    if given is None:
        return None
    if isinstance(given, CronAutomation):
        return dg.AutomationCondition.on_cron(given.on_cron)
    return dg.AutomationCondition.eager()


def _asset_description(connector: Connector, resource: Resource) -> str:
    """Return what distinguishes the resource, then the description of the connector.

    The list of assets shows the beginning, as plain text.
    """
    cursor = f", incremental by {path}" if (path := resource.incremental_path) else ""
    reason = resource.disposition.reason
    own = f"{resource.method} {resource.endpoint.path}{cursor}. {reason[:1].upper()}{reason[1:]}."
    return f"{own}\n\n{connector.description}" if connector.description else own


def _spec_metadata(
    connector: Connector, resource: Resource, file: CodeReferenceSource
) -> Mapping[str, Any]:
    metadata: dict[str, Any] = {
        **file.at(resource.line),
        "endpoint": _text_metadata(f"{resource.method} {resource.endpoint.path}"),
        "write_disposition": _text_metadata(resource.disposition.value),
        "write_disposition/reason": _text_metadata(resource.disposition.reason),
    }
    if resource.primary_key:
        metadata["primary_key"] = _text_metadata(", ".join(resource.primary_key))
    if connector.template:
        metadata["template"] = _text_metadata(connector.template)
    if path := resource.incremental_path:
        metadata["incremental/cursor_path"] = _text_metadata(path)
    return metadata


@lru_cache(maxsize=1_000)
def _text_metadata(value: str) -> dg.TextMetadataValue:
    # Many resources have the same texts; each is in memory once.
    return dg.MetadataValue.text(value)


def build_broken_asset_spec(broken: LoadedFile, host: HostOptions) -> dg.AssetSpec:
    """Return an external asset that shows a broken file and its problems.

    The description, which has the full width of the page, shows them to people; the metadata holds them
    for programs.
    """
    first, group = broken.problems[0], host.prefixed(BROKEN_FILES_GROUP)
    problems = problems_as_markdown(broken.problems)
    return dg.AssetSpec(
        [group, broken.path.stem],
        group_name=group,
        description=f"This file has errors and is not loaded. Other connectors are unaffected.\n\n{problems}",
        metadata={
            "problems": dg.MetadataValue.md(problems),
            **CodeReferenceSource(broken.path, "first problem").at(
                # the problem may be in the template, which the link does not lead to
                first.line if first.path == broken.path else 1
            ),
        },
    )
