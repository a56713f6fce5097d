"""`RestSourceComponent`: connectors in a `defs.yaml` of a Dagster project, and how `dg scaffold` writes one.

dg finds it by the entry point `dagster_dg_cli.registry_modules`:
https://docs.dagster.io/guides/build/components/creating-new-components/creating-and-registering-a-component
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, model_validator

from restsource_dagster.connector.json_schema import file_schema
from restsource_dagster.connector.loader import LoadedFile
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.orchestration.code_location import build_definitions, build_from_files
from restsource_dagster.orchestration.dagster_compat import translate_asset_spec
from restsource_dagster.orchestration.host_options import HostOptions
from restsource_dagster.orchestration.run_config import LoadConfig, RunSettings
from restsource_dagster.settings import Settings

__all__ = ["RestSourceComponent"]

_EXAMPLE = """\
schedule:
  mode: manual
client:
  base_url: https://api.example.com
resources:
  - items
"""


class _Retries(BaseModel):
    """How often Dagster repeats a failed run's step. What was loaded before is not loaded again."""

    model_config = ConfigDict(extra="forbid")

    max_retries: int = Field(ge=1, description="Maximum number of further attempts.")
    delay: float | None = Field(
        default=None, ge=0, description="Seconds before a further attempt; none if left out."
    )


class _Op(BaseModel):
    """The op of each connector, and those of backfills."""

    model_config = ConfigDict(extra="forbid")

    pool: str | None = Field(
        default=None,
        description="The pool of all ops. If left out, each connector has a pool of its own name.",
    )
    tags: dict[str, str] = Field(default={}, description="Tags of the ops.")
    retry_policy: _Retries | None = Field(
        default=None, description="How often a failed step is repeated."
    )


class _Attributes(BaseModel):
    """The attributes of a `RestSourceComponent` in `defs.yaml`."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(
        default=None,
        description="A connector file, or a folder of them, relative to this folder.",
    )
    connector: dict[str, Any] | None = Field(
        default=None,
        description="A connector, as it would stand in a file of its own. Its braces are left as they are. One "
        "with a `template` needs a file.",
    )
    prefix: str | None = Field(
        default=None,
        pattern="^[A-Za-z0-9_]+$",
        description="The beginning of the sensors' names. If left out, the name of this folder.",
    )
    # Dagster derives this model when it is imported, so mypy sees a variable.
    translation: dg.AssetAttributesModel | str | None = Field(  # type: ignore[valid-type]
        default=None,
        description="Attributes of each asset, such as `group_name`, `owners`, `tags`, `kinds` and "
        "`automation_condition`. Templates know `connector`, `resource` and `spec`.",
    )
    op: _Op = Field(default=_Op(), description="What the ops have beside the rest.")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.path is None) == (self.connector is None):
            raise ValueError("write either `path` or `connector`")
        return self

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the schema for `dg check yaml` and editors, with that of connector files in it."""
        schema = super().model_json_schema(*args, **options)
        file = file_schema()
        definitions = file.pop("$defs", {})
        file.pop("$schema", None)
        described = {**file, "description": schema["properties"]["connector"]["description"]}
        schema["properties"]["connector"] = described
        # Names of ours and of Dagster's models are apart: theirs end in `Model`, or begin with `_`.
        schema["$defs"] = {**definitions, **schema.get("$defs", {})}
        schema["oneOf"] = [{"required": ["path"]}, {"required": ["connector"]}]
        return schema


class _ScaffoldParams(BaseModel):
    """What `dg scaffold defs` starts from; with none of them, an example to fill in."""

    url: str | None = Field(
        default=None, description="The URL of an API to ask, as `restsource new --url` does."
    )
    template: str | None = Field(
        default=None, description="The name of a template, as for `restsource new --template`."
    )
    inputs: list[str] | None = Field(
        default=None, description="Inputs of the template, as NAME=VALUE."
    )
    file: str | None = Field(default=None, description="A connector file to copy.")


class _Scaffolder(dg.Scaffolder[_ScaffoldParams]):
    """Writes `defs.yaml` and the connector file beside it."""

    @classmethod
    def get_scaffold_params(cls) -> type[_ScaffoldParams]:
        return _ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[_ScaffoldParams]) -> None:
        """Write both files. Raises `typer.Exit` and `click.BadParameter` as `restsource new` does."""
        folder = request.target_path
        name = re.sub(r"\W+", "_", folder.name).lower()
        file = self._write_connector(name, folder, request.params)
        (folder / "defs.yaml").write_text(
            f"type: {request.type_name}\n\nattributes:\n  path: {file.name}\n", encoding="utf-8"
        )

    def _write_connector(self, name: str, folder: Path, params: _ScaffoldParams) -> Path:
        if params.file is not None:
            return Path(shutil.copy(params.file, folder))
        if params.url is None and params.template is None:
            path = folder / f"{name}.yaml"
            path.write_text(_EXAMPLE, encoding="utf-8")
            return path
        # Imported here because the code location doesn't need the command line.
        from restsource_dagster.cli.new_command import new

        new(
            name,
            url=params.url,
            template=params.template,
            inputs=params.inputs,
            configs=folder,
        )
        return folder / f"{name}.json"


@dg.scaffold_with(_Scaffolder)
class RestSourceComponent(dg.Component):
    """Loads REST APIs into tables: one asset per resource, with jobs, schedules, backfills and checks.

    The connectors are files beside `defs.yaml`, or one connector stands in it. Subclasses may override
    `get_asset_spec` and `execute`.
    """

    def __init__(self, attributes: _Attributes, context: dg.ComponentLoadContext) -> None:
        self._attributes = attributes
        self._context = context

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the model of the attributes."""
        return _Attributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Return the component of a `defs.yaml`; nothing of a connector is rendered as a template."""
        if not isinstance(attributes, _Attributes):
            raise dg.DagsterInvalidDefinitionError(
                "A RestSourceComponent needs attributes: write `path` or `connector`"
            )
        return cls(attributes, context)

    def get_asset_spec(
        self, connector: Connector, resource: Resource, spec: dg.AssetSpec
    ) -> dg.AssetSpec:
        """Return the spec of a resource's asset, given ours. Its key must stay."""
        if self._attributes.translation is None:
            return spec
        known = {"connector": connector, "resource": resource, "spec": spec}
        return translate_asset_spec(
            spec, self._attributes.translation, self._context.resolution_context, known
        )

    def execute(
        self,
        context: dg.AssetExecutionContext,
        connector: Connector,
        runs: RunSettings,
        config: LoadConfig,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Load the selected resources of a connector, and yield a result for each."""
        # Imported here because it brings dlt, which the code location must load without.
        from restsource_dagster.orchestration.op import materialize_connector

        yield from materialize_connector(context, connector, runs, config)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions. A broken file becomes an asset that shows its problems.

        Raises `DagsterInvalidDefinitionError` if the connector in `defs.yaml` has errors.
        """
        settings, host = Settings(), self._host_options(context.path)
        if self._attributes.path is not None:
            path = context.path / self._attributes.path
            if not path.exists():
                raise dg.DagsterInvalidDefinitionError(f"`path`: there is no {path}")
            return build_definitions(path, settings=settings, host=host)
        file = _inline_file(self._attributes.connector or {}, context.path)
        return build_from_files([file], RunSettings(settings, None, host))

    def _host_options(self, folder: Path) -> HostOptions:
        op = self._attributes.op
        retries = op.retry_policy
        return HostOptions(
            prefix=self._attributes.prefix or re.sub(r"\W+", "_", folder.name),
            translate=self.get_asset_spec,
            execute=self.execute,
            pool=op.pool,
            op_tags=op.tags,
            retry_policy=dg.RetryPolicy(retries.max_retries, retries.delay) if retries else None,
        )


def _inline_file(value: Mapping[str, Any], folder: Path) -> LoadedFile:
    """Return the connector of a `defs.yaml`; its name is that of the folder if it gives none."""
    # The path gives the name, and the folder has the files with GraphQL queries.
    connector, findings = parse_connector(dict(value), folder / f"{folder.name}.json")
    path = folder / "defs.yaml"
    if connector is None:
        errors = [finding for finding in findings if finding.severity == "error"]
        lines = [
            f"- attributes.connector{finding.pointer.replace('/', '.')}: {finding.message}"
            + (f". {finding.fix}" if finding.fix else "")
            for finding in errors
        ]
        raise dg.DagsterInvalidDefinitionError(f"{path} has errors:\n" + "\n".join(lines))
    return LoadedFile(path=path, connector=replace(connector, path=path), problems=())
