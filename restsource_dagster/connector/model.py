"""A connector file, read once and trusted from then on: `parse_connector`."""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.models.connector_file import (
    CONNECTOR_NAME_PATTERN,
    ConnectorFile,
    HttpSettings,
)
from restsource_dagster.connector.models.fields import without_fields_unknown_to_dlt
from restsource_dagster.connector.models.schedule import IntervalSchedule, ManualSchedule, Schedule
from restsource_dagster.connector.resources import (
    Backfill,
    Disposition,
    Family,
    Incremental,
    Resource,
    families_of,
)
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    nearest_name,
    quoted_list,
)
from restsource_dagster.connector.validation.input_checks import (
    boolean_warnings,
    fatal_findings,
    literal_secret_warnings,
    template_findings,
)
from restsource_dagster.connector.validation.resource_builder import build_resources
from restsource_dagster.connector.validation.schema_errors import schema_findings

__all__ = [
    "Backfill",
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

_DLT_FIELDS = ("client", "resource_defaults", "resources")


@dataclass(frozen=True)
class Connector:
    """A connector without a flaw. Holds no secret unless the file does: only references."""

    name: str
    path: Path
    description: str | None
    owners: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime | None
    """UTC; None unless the file says so."""
    schedule: Schedule
    http: HttpSettings
    resources: tuple[Resource, ...]
    """In the order of the file, defaults merged in."""
    definition: ConnectorFile = field(repr=False)
    references: frozenset[str]
    """The names of the environment variables it refers to."""
    source: Mapping[str, Any] = field(repr=False, compare=False)
    """The file's own words for dlt; use `rest_api_config()` for a copy to hand on."""

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
        self.resource(name)
        return next(family for family in self.families if name in family.names)

    def rest_api_config(self) -> dict[str, Any]:
        """dlt's `RESTAPIConfig` as the file has it: a fresh copy, references not resolved.

        Without `backfill`, `mode` and `nested`, which dlt doesn't know.
        """
        return deepcopy(dict(self.source))

    def with_lines(self, lines: Mapping[str, int]) -> "Connector":
        """A copy whose resources know their lines; `lines` maps JSON pointers to lines from 1."""
        located = tuple(
            replace(resource, line=lines.get(resource.pointer, resource.line))
            for resource in self.resources
        )
        return replace(self, resources=located)


def parse_connector(value: Any, path: Path) -> tuple[Connector | None, tuple[Finding, ...]]:
    """Checks a JSON value and makes a connector of it; never raises.

    `path` gives the connector's name if the file has none. Returns None with at least one error,
    else the connector; warnings may come with either.
    """
    findings = fatal_findings(value)
    if findings:
        return None, tuple(findings)
    if not isinstance(value, dict):
        message = "A connector file holds one object"
        return None, (Finding("", message, describe_value(value), "an object", "Start with `{`"),)
    definition = _validate_file(value, findings)
    resources, semantic = build_resources(value, findings)
    findings.extend(semantic)
    findings.extend(template_findings(value))
    wrong = {finding.pointer for finding in findings}
    warnings = (*literal_secret_warnings(value), *boolean_warnings(value))
    findings.extend(warning for warning in warnings if warning.pointer not in wrong)
    name = _connector_name(value, path, findings)
    distinct = tuple(dict.fromkeys(findings))
    if definition is None or any(finding.severity == "error" for finding in distinct):
        return None, distinct
    return _build_connector(name, path, definition, resources, value), distinct


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


def _proposed_name(stem: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:60]
    return name if name[:1].isalpha() else f"api_{name}".strip("_")


def _build_connector(
    name: str,
    path: Path,
    definition: ConnectorFile,
    resources: tuple[Resource, ...],
    value: dict[str, Any],
) -> Connector:
    source = without_fields_unknown_to_dlt({key: value[key] for key in _DLT_FIELDS if key in value})
    return Connector(
        name=name,
        path=path,
        description=definition.description,
        owners=tuple(definition.owners),
        tags=dict(definition.tags),
        created_at=definition.created_at,
        schedule=definition.schedule,
        http=definition.http,
        resources=resources,
        definition=definition,
        references=find_references(source),
        source=source,
    )
