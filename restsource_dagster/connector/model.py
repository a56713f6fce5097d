"""A connector: a file that is parsed once, by `parse_connector`, and trusted from then on.

What the rest of the project works with is typed: `Client` and `HttpSettings` are the models of the
file; each `Resource` has its endpoint and table hints as models, with the defaults merged in.
Values that the file leaves open (`params`, JSON bodies, headers) stay JSON. References such as
`${NAME}` stay in the texts until `Connector.resolved`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from restsource_dagster.connector.env_references import (
    MissingReferencesError,
    find_references,
    resolve_references,
)
from restsource_dagster.connector.models.backfill import Backfill
from restsource_dagster.connector.models.connector_file import (
    CONNECTOR_NAME_PATTERN,
    Client,
    ConnectorFile,
    HttpSettings,
)
from restsource_dagster.connector.models.endpoint import Incremental
from restsource_dagster.connector.models.schedule import IntervalSchedule, ManualSchedule, Schedule
from restsource_dagster.connector.naming import RESERVED_NAMES
from restsource_dagster.connector.resources import (
    Disposition,
    Family,
    Resource,
    families_of,
    resolved_resources,
)
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    nearest_name,
    quoted_list,
)
from restsource_dagster.connector.validation.input_checks import (
    add_value_findings,
    fatal_findings,
)
from restsource_dagster.connector.validation.resource_builder import build_resources
from restsource_dagster.connector.validation.schema_errors import schema_findings

__all__ = [
    "Backfill",
    "Client",
    "Connector",
    "ConnectorFile",
    "Disposition",
    "Family",
    "HttpSettings",
    "Incremental",
    "IntervalSchedule",
    "ManualSchedule",
    "Resource",
    "Schedule",
    "parse_connector",
]

# The other fields, such as `name` and `schedule`, are read when definitions load, without an
# environment.
_FIELDS_WITH_REFERENCES = ("client", "resource_defaults", "resources")


@dataclass(frozen=True)
class Connector:
    """A connector without errors. It holds no secret unless the file does: only references."""

    name: str
    path: Path
    description: str | None
    owners: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime | None
    """UTC; None unless the file says so."""
    schedule: Schedule
    http: HttpSettings
    client: Client
    resources: tuple[Resource, ...]
    """In the order of the file, defaults merged in."""
    references: frozenset[str]
    """What it refers to, as it stands in the braces: `NAME`, `NAME:-default`, `file:/path`, `dlt:key`."""

    def resource(self, name: str) -> Resource:
        """The resource of that name. Raises `KeyError` naming the known ones."""
        for resource in self.resources:
            if resource.name == name:
                return resource
        known = [resource.name for resource in self.resources]
        close = nearest_name(name, known)
        hint = f" Did you mean `{close}`?" if close else ""
        raise KeyError(
            f"{self.name} has no resource `{name}`.{hint} It has {quoted_list(known, 'and')}."
        )

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The families, in the order of their roots."""
        return families_of(self.resources)

    def family_of(self, name: str) -> Family:
        """The family that a resource belongs to. Raises `KeyError` naming the known resources."""
        # For its error, which names the known resources.
        self.resource(name)
        return next(family for family in self.families if name in family.names)

    def resolved(self, values: Mapping[str, str]) -> "Connector":
        """The connector with all references replaced; it holds secrets then.

        `values` is what `read_references` returns. Raises `MissingReferencesError` with all that it lacks.
        """
        # First, so that the error names all that is missing, not only what the first part lacks.
        if missing := self.references - values.keys():
            raise MissingReferencesError(missing)
        client = resolve_references(self.client, values)
        resources = resolved_resources(self.resources, values)
        return replace(self, client=client, resources=resources)

    def with_lines(self, lines: Mapping[str, int]) -> "Connector":
        """A copy whose resources know their lines; `lines` maps JSON pointers to lines from 1."""
        located = tuple(
            replace(resource, line=lines.get(resource.pointer, resource.line))
            for resource in self.resources
        )
        return replace(self, resources=located)


def parse_connector(value: Any, path: Path) -> tuple[Connector | None, tuple[Finding, ...]]:
    """Check a JSON value and make a connector of it; never raises.

    `path` gives the connector's name if the file has none. Returns None with at least one error,
    else the connector; warnings may come with either.
    """
    findings = fatal_findings(value)
    if findings:
        return None, tuple(findings)
    if not isinstance(value, dict):
        message = "A connector file holds one object"
        return None, (Finding("", message, describe_value(value), "an object", "Start with `{`"),)
    file = _validate_file(value, findings)
    resources, semantic = build_resources(value, file, findings)
    findings.extend(semantic)
    add_value_findings(value, findings)
    # From the raw value, so that a wrong name is reported together with all other mistakes.
    name = _connector_name(value, path, findings)
    findings.extend(_reserved_name_findings(value, name))
    # A mistake in `resource_defaults` is found once for each resource that it is merged into.
    distinct = tuple(dict.fromkeys(findings))
    if file is None or any(finding.severity == "error" for finding in distinct):
        return None, distinct
    return _build_connector(name, path, file, resources, value), distinct


def _validate_file(value: dict[str, Any], findings: list[Finding]) -> ConnectorFile | None:
    try:
        return ConnectorFile.model_validate(value)
    except ValidationError as error:
        findings.extend(schema_findings(ConnectorFile, error, value))
        return None


def _connector_name(value: dict[str, Any], path: Path, findings: list[Finding]) -> str:
    if isinstance(value.get("name"), str):
        return str(value["name"])
    if not re.fullmatch(CONNECTOR_NAME_PATTERN, path.stem):
        findings.append(
            Finding(
                "",
                "The connector has no `name`, and the file's name can't be one",
                describe_value(path.stem),
                "a small letter, then small letters, digits and underscores",
                f'Add "name": "{_proposed_name(path.stem)}", or rename the file',
            )
        )
    return path.stem


def _reserved_name_findings(value: dict[str, Any], name: str) -> Iterator[Finding]:
    if keeper := RESERVED_NAMES.get(name):
        given = isinstance(value.get("name"), str)
        yield Finding(
            "/name" if given else "",
            f"The name `{name}` is reserved: {keeper} keeps it",
            fix=f'Write "name": "{name}_api"'
            if given
            else f'Add "name": "{name}_api", or rename the file',
        )


def _proposed_name(stem: str) -> str:
    # 60 of 64 characters, so that the prefix `api_` fits, too.
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:60]
    return name if name[:1].isalpha() else f"api_{name}".strip("_")


def _build_connector(
    name: str,
    path: Path,
    file: ConnectorFile,
    resources: tuple[Resource, ...],
    value: dict[str, Any],
) -> Connector:
    return Connector(
        name=name,
        path=path,
        description=file.description,
        owners=tuple(file.owners),
        tags=dict(file.tags),
        created_at=file.created_at,
        schedule=file.schedule,
        http=file.http,
        client=file.client,
        resources=resources,
        references=find_references([value.get(field) for field in _FIELDS_WITH_REFERENCES]),
    )
