"""One multi-asset per connector, one asset per resource.

Specs are made from the file alone. dlt is imported when the op runs, so that loading the code
location needs no secret, no network and no destination.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from restsource_dagster.config.connector import Connector, Resource
from restsource_dagster.config.files import LoadedFile
from restsource_dagster.config.problems import problems_as_markdown
from restsource_dagster.orchestration.code_references import CodeFile
from restsource_dagster.orchestration.load_config import RUN_CONFIG, read_config
from restsource_dagster.orchestration.names import TAG_CONNECTOR, asset_key, job_name
from restsource_dagster.orchestration.run_settings import RunSettings

if TYPE_CHECKING:  # Dagster has no public name for what `define_asset_job` returns
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

__all__ = [
    "build_broken_asset_spec",
    "build_connector_assets",
    "build_connector_job",
]

BROKEN_GROUP = "broken_configs"


def build_connector_assets(connector: Connector, runs: RunSettings) -> dg.AssetsDefinition:
    """The assets of a connector, materialized by one op that loads what is selected."""
    file = CodeFile(connector.path, "connector file")
    common = dg.AssetSpec(
        connector.name,
        kinds={"dlt", runs.settings.destination},
        owners=list(connector.owners),
        tags=dict(connector.tags),
    )

    @dg.multi_asset(
        name=connector.name,
        specs=[_asset_spec(connector, each, common, file) for each in connector.resources],
        can_subset=True,
        # the same for all: Dagster works it out for each op anew if it is told by an annotation
        config_schema=RUN_CONFIG,
        # with a limit of 1 per pool, the run queue never starts two runs of one connector, even
        # those that the UI starts without the job and so without its tags
        pool=connector.name,
        description=connector.description,
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        from restsource_dagster.orchestration.runtime import ConnectorDltResource

        config = read_config(context)
        yield from ConnectorDltResource().run_connector(context, connector, runs, config)

    return load


def build_connector_job(
    connector: Connector, assets: dg.AssetsDefinition
) -> "UnresolvedAssetJobDefinition":
    """The job that loads every resource of a connector that is not deselected in the file."""
    selected = [
        asset_key(connector.name, resource.name)
        for resource in connector.resources
        if resource.selected
    ]
    return dg.define_asset_job(
        job_name(connector.name),
        selection=dg.AssetSelection.assets(*(selected or assets.keys)),
        tags={TAG_CONNECTOR: connector.name},
        description=f"Load the resources of {connector.path.name}.",
    )


def _asset_spec(
    connector: Connector, resource: Resource, common: dg.AssetSpec, file: CodeFile
) -> dg.AssetSpec:
    """`common` has what all assets of the connector have, once in memory; its tags have the kinds."""
    parent = [asset_key(connector.name, resource.parent)] if resource.parent else []
    return dg.AssetSpec(
        asset_key(connector.name, resource.name),
        deps=parent,
        skippable=True,
        group_name=connector.name,
        description=_description(connector, resource),
        owners=common.owners,
        tags=common.tags,
        metadata=_spec_metadata(resource, file),
    )


def _description(connector: Connector, resource: Resource) -> str:
    """What tells the resource from its siblings, then what the file says of them all.

    The list of assets shows the beginning, without reading markdown.
    """
    cursor = f", incremental by {resource.incremental.cursor_path}" if resource.incremental else ""
    reason = resource.disposition.reason
    own = f"{resource.method} {resource.path}{cursor}. {reason[:1].upper()}{reason[1:]}."
    return f"{own}\n\n{connector.description}" if connector.description else own


def _spec_metadata(resource: Resource, file: CodeFile) -> Mapping[str, Any]:
    metadata: dict[str, Any] = {
        **file.at(resource.line),
        "endpoint": _text(f"{resource.method} {resource.path}"),
        "write_disposition": _text(resource.disposition.value),
        "write_disposition/reason": _text(resource.disposition.reason),
    }
    if resource.primary_key:
        metadata["primary_key"] = _text(", ".join(resource.primary_key))
    if resource.incremental:
        metadata["incremental/cursor_path"] = _text(resource.incremental.cursor_path)
    return metadata


@lru_cache(maxsize=1_000)
def _text(value: str) -> dg.TextMetadataValue:
    """A text of metadata: many resources have the same, which is then in memory once."""
    return dg.MetadataValue.text(value)


def build_broken_asset_spec(broken: LoadedFile) -> dg.AssetSpec:
    """An external asset that shows a broken file and its problems.

    They are in the description for people, who read it on the whole width of the page, and in the
    metadata for programs.
    """
    first = broken.problems[0]
    problems = problems_as_markdown(broken.problems)
    return dg.AssetSpec(
        [BROKEN_GROUP, broken.path.stem],
        group_name=BROKEN_GROUP,
        description=f"This file can't be used until it is mended. All others work.\n\n{problems}",
        metadata={
            "problems": dg.MetadataValue.md(problems),
            **CodeFile(broken.path, "first problem").at(first.line),
        },
    )
