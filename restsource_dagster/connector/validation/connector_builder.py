"""Check the JSON value of a file, and build the connector of it with its resources."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.model import (
    NO_ASSET_OPTIONS,
    NO_CHECKS,
    NO_PARAMS,
    Connector,
    Resource,
)
from restsource_dagster.connector.models.connector_file import (
    CONNECTOR_NAME_PATTERN,
    Client,
    ConnectorFile,
    ResourceDefaults,
    ResourceObject,
)
from restsource_dagster.connector.models.deletes import DeletesFrom
from restsource_dagster.connector.models.fields import FileModel
from restsource_dagster.connector.models.paginators import Paginator, paginator_findings
from restsource_dagster.connector.naming import (
    RESERVED_NAMES,
    asset_identifier,
    is_asset_name,
    snake_case_table,
)
from restsource_dagster.connector.query_files import FolderOf, with_query_files
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    json_pointer,
    quoted_name,
)
from restsource_dagster.connector.validation.dlt_rules import (
    auth_findings,
    check_endpoint_rules,
    check_sync_tokens,
    check_table_hints,
    tls_findings,
)
from restsource_dagster.connector.validation.input_checks import (
    add_value_findings,
    base_url_findings,
    fatal_findings,
)
from restsource_dagster.connector.validation.merged_resource import (
    Defaults,
    MergedResource,
    find_parents,
    max_table_nesting,
    merge_resource,
    report_cycles,
    report_duplicates,
    write_disposition_of,
)
from restsource_dagster.connector.validation.path_params import check_path
from restsource_dagster.connector.validation.placeholders import check_placeholders

__all__ = ["build_resources", "parse_connector"]

Model = TypeVar("Model", bound=FileModel)

# The other fields, such as `name` and `schedule`, are read when definitions load, without an
# environment.
_PARTS_WITH_REFERENCES = ("client", "resource_defaults", "resources")


def parse_connector(
    value: Any, path: Path, folder_of: FolderOf | None = None
) -> tuple[Connector | None, tuple[Finding, ...]]:
    """Check a JSON value and make a connector of it; never raises.

    `path` gives the connector's name if the file has none, and its folder has the files with queries
    unless `folder_of` knows others. Returns None with at least one error, else the connector; warnings
    may come with either.
    """
    findings = fatal_findings(value)
    if findings:
        return None, tuple(findings)
    if not isinstance(value, dict):
        message = "A connector file holds one object"
        return None, (Finding("", message, describe_value(value), "an object", "Start with `{`"),)
    value, of_queries = with_query_files(value, folder_of or (lambda _: path.parent))
    findings.extend(of_queries)
    file = _validate_file(value, findings)
    resources, semantic = build_resources(value, file, findings)
    findings.extend(semantic)
    add_value_findings(value, findings)
    # From the raw value, so that a wrong name is reported together with all other mistakes.
    name = _connector_name(value, path, findings)
    findings.extend(_reserved_name_findings(value, name))
    # A mistake in `resource_defaults` is found once for each resource that it is merged into.
    distinct = tuple(dict.fromkeys(findings))
    # warnings don't keep a connector from being loaded
    if file is None or any(finding.severity == "error" for finding in distinct):
        return None, distinct
    return _build_connector(name, path, file, resources, value), distinct


def _validate_file(value: dict[str, Any], findings: list[Finding]) -> ConnectorFile | None:
    try:
        return ConnectorFile.parse(value)
    except ValidationError as error:
        # most files are right
        from restsource_dagster.connector.validation.schema_errors import schema_findings

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
        destination=file.destination,
        references=find_references([value.get(field) for field in _PARTS_WITH_REFERENCES]),
    )


def build_resources(
    value: dict[str, Any], file: ConnectorFile | None, structural: list[Finding]
) -> tuple[tuple[Resource, ...], list[Finding]]:
    """Return the resources of a file and the findings beyond their structure.

    `file` is None if `structural` says that something is broken. The broken parts are left out
    then, so that they lead to no second finding, and the sound ones are checked.
    """
    parts = _parts_of(file) if file else _sound_parts(value, structural)
    findings: list[Finding] = []
    if parts.client is not None:
        findings.extend(base_url_findings(parts.client))
        findings.extend(paginator_findings(parts.client.paginator, ("client", "paginator")))
        findings.extend(auth_findings(parts.client.auth, ("client", "auth"), in_defaults=False))
        findings.extend(tls_findings(parts.client))
    if parts.resources is None:
        return (), findings
    if not value["resources"]:
        message = "A connector without resources has nothing to load"
        findings.append(Finding("/resources", message, code="deliberate:no-resources"))
    # parents are found by name, so all resources are merged before any rule about two of them
    merged_resources = _merge_all(parts)
    report_duplicates(merged_resources)
    find_parents(merged_resources)
    report_cycles(merged_resources)
    check_sync_tokens(merged_resources)
    _check_unique_identifiers(merged_resources)
    made = _with_rare_options(merged_resources, parts.client, structural, findings)
    for merged in merged_resources:
        findings.extend(merged.findings)
    return made, findings


def _with_rare_options(
    merged_resources: Sequence[MergedResource],
    client: Client | None,
    structural: Sequence[Finding],
    findings: list[Finding],
) -> tuple[Resource, ...]:
    """Return the resources, after the rules about options that few files use.

    The rules are imported only for a file that uses the option: `check` and the code location start
    sooner.
    """
    if any(merged.endpoint.has_action("gone") for merged in merged_resources):
        from restsource_dagster.connector.validation.response_action_rules import check_gone_parents

        check_gone_parents(merged_resources)
    resources = tuple(_checked_resources(merged_resources))
    if len({resource.table for resource in resources}) < len(resources):
        from restsource_dagster.connector.validation.shared_tables import check_shared_tables

        check_shared_tables(merged_resources, resources)
    if any(resource.children is not None for resource in resources):
        from restsource_dagster.connector.validation.response_action_rules import (
            check_replaced_children,
        )

        check_replaced_children(merged_resources, resources)
    if any(
        merged.resource.given.keys() & {"deleted_when", "deletes_from", "sweep", "on_delete"}
        for merged in merged_resources
    ):
        from restsource_dagster.connector.validation.delete_rules import check_deletes

        resources = check_deletes(merged_resources, resources, structural)
    if any(merged.resource.rename_from is not None for merged in merged_resources):
        from restsource_dagster.connector.validation.own_endpoint_rules import check_renamed_fields

        check_renamed_fields(merged_resources)
    resources = _with_rare_windows(merged_resources, resources, client, structural, findings)
    if any(merged.given.checks is not None for merged in merged_resources):
        from restsource_dagster.connector.table_checks import check_table_checks

        check_table_checks(merged_resources, resources)
    return resources


def _with_rare_windows(
    merged_resources: Sequence[MergedResource],
    resources: tuple[Resource, ...],
    client: Client | None,
    structural: Sequence[Finding],
    findings: list[Finding],
) -> tuple[Resource, ...]:
    """Return the resources, after the rules about what limits the rows that a call asks for."""
    if any(merged.resource.backfill is not None for merged in merged_resources):
        from restsource_dagster.connector.validation.backfill_rules import with_backfills

        resources = with_backfills(merged_resources, resources, client, structural)
    cursors = [resource.incremental for resource in resources]
    if any(cursor and (cursor.window or cursor.retention) for cursor in cursors):
        from restsource_dagster.connector.validation.window_rules import check_windows

        check_windows(merged_resources, resources, structural)
    paginators = [client and client.paginator, *(one.endpoint.paginator for one in resources)]
    if any(getattr(paginator, "max_rows", None) is not None for paginator in paginators):
        from restsource_dagster.connector.validation.window_rules import check_max_rows

        check_max_rows(merged_resources, resources, client, findings)
    return resources


@dataclass(frozen=True)
class _Parts:
    """The parts of a file that can be checked beyond their structure."""

    client: Client | None
    defaults: ResourceDefaults
    resources: Mapping[int, ResourceObject | str] | None
    """By index, without those that have no name. None if `resources` is no list."""
    broken: frozenset[int] = frozenset()
    """The indices of resources with errors: only their names are used."""


def _parts_of(file: ConnectorFile) -> _Parts:
    resources = dict(enumerate(file.resources))
    return _Parts(file.client, file.resource_defaults or ResourceDefaults(), resources)


def _merge_all(parts: _Parts) -> list[MergedResource]:
    resources = parts.resources or {}
    names = [item if isinstance(item, str) else item.name for item in resources.values()]
    defaults = Defaults.of(parts.defaults)
    merged_resources = []
    for index, given in resources.items():
        merged = merge_resource(index, given, defaults, names)
        merged.is_checkable = index not in parts.broken
        # before the next one is merged: the path may take a param out of the defaults
        _check_resource(merged, parts.client.paginator if parts.client else None)
        merged_resources.append(merged)
    return merged_resources


def _sound_parts(value: dict[str, Any], structural: list[Finding]) -> _Parts:
    # most files are right
    from restsource_dagster.connector.validation.schema_errors import without_broken

    whole, broken = without_broken(value, structural)
    given = whole.get("resources")
    resources: dict[int, ResourceObject | str] = {}
    for index, item in enumerate(given if isinstance(given, list) else ()):
        name = item.get("name") if isinstance(item, dict) else item
        if not isinstance(name, str):
            continue
        sound = item if isinstance(item, str) else _sound_model(ResourceObject, item)
        if sound is None:
            broken.add(index)
        # Others may depend on it, and its name is known.
        resources[index] = sound or ResourceObject.of({"name": name})
    defaults = _sound_model(ResourceDefaults, whole.get("resource_defaults") or {})
    if defaults is None:
        # without its defaults a resource means something else: no key, no cursor
        broken.update(resources)
    return _Parts(
        client=_sound_model(Client, whole.get("client")),
        defaults=defaults or ResourceDefaults(),
        resources=resources if isinstance(given, list) else None,
        broken=frozenset(broken),
    )


def _sound_model(model: type[Model], given: Any) -> Model | None:
    try:
        return model.parse(given)
    except ValidationError:
        return None


def _check_resource(merged: MergedResource, clients: Paginator | None) -> None:
    _check_asset_name(merged)
    if not merged.is_checkable:
        return
    check_path(merged)
    check_placeholders(merged)
    check_endpoint_rules(merged)
    if not merged.endpoint.is_plain or merged.resource.include_from_parent:
        from restsource_dagster.connector.validation.own_endpoint_rules import check_own_endpoint

        check_own_endpoint(merged, clients)
    if merged.endpoint.response_actions:
        from restsource_dagster.connector.validation.response_action_rules import (
            check_response_actions,
        )

        check_response_actions(merged)
    check_table_hints(merged)


def _check_asset_name(merged: MergedResource) -> None:
    if is_asset_name(merged.name):
        return
    place = merged.name_at
    if find_references(merged.name):
        merged.report(
            place, "The name of a resource can't be a reference", code="deliberate:asset-name"
        )
    else:
        proposed = snake_case_table(merged.name).strip("_") if merged.name.strip() else "items"
        path = merged.endpoint.path or proposed
        merged.report(
            place,
            f"Dagster has no asset of the name {quoted_name(merged.name)}",
            describe_value(merged.name),
            "letters, digits, `_`, `-` and `.`",
            f'Write {{"name": "{proposed}", "endpoint": {describe_value(path)}}}',
            code="deliberate:asset-name",
        )


def _check_unique_identifiers(merged_resources: list[MergedResource]) -> None:
    assets: dict[str, MergedResource] = {}
    tables: dict[str, MergedResource] = {}
    for merged in merged_resources:
        if not is_asset_name(merged.name):
            continue
        earlier = assets.setdefault(asset_identifier(merged.name), merged)
        if earlier.name != merged.name:
            # One report for the pair: resources with one asset name nearly always have one table,
            # too.
            _report_same_identifier(merged, earlier, "name", "asset", asset_identifier(merged.name))
            continue
        table = merged.resource.table_name or merged.name
        if not table.strip():
            continue
        identifier = snake_case_table(table)
        earlier = tables.setdefault(identifier, merged)
        if earlier.name != merged.name and not merged.shares_table(earlier):
            field = "table_name" if merged.resource.table_name else "name"
            _report_same_identifier(merged, earlier, field, "table", identifier)
        if identifier.startswith("_dlt"):
            merged.report(
                merged.place("table_name" if merged.is_own("table_name") else "name"),
                "Tables that start with `_dlt` are dlt's own",
                code="deliberate:reserved-table",
            )


def _report_same_identifier(
    merged: MergedResource, earlier: MergedResource, field: str, what: str, identifier: str
) -> None:
    place = merged.at if merged.path_at == merged.at else merged.place(field)
    merged.report(
        place,
        f"{quoted_name(merged.name)} and {quoted_name(earlier.name)} become one {what}, "
        f"{quoted_name(identifier)}",
        fix='Give one of them another name, or its own "table_name"'
        if what == "table"
        else "Give one of them another name",
        code=f"deliberate:same-{what}",
    )


def _checked_resources(merged_resources: Sequence[MergedResource]) -> Iterator[Resource]:
    by_name = {merged.name: merged for merged in merged_resources}
    for merged in merged_resources:
        if merged.is_checkable:
            yield _build_resource(merged, _incremental_parent(merged, by_name))


def _incremental_parent(merged: MergedResource, by_name: dict[str, MergedResource]) -> str | None:
    # Parents may form a cycle, which is reported elsewhere.
    seen, current = {merged.name}, merged.parent
    while current is not None and current not in seen:
        if by_name[current].endpoint.cursor is not None:
            return current
        seen.add(current)
        current = by_name[current].parent
    return None


def _build_resource(merged: MergedResource, incremental_parent: str | None) -> Resource:
    fields, hints, foreign_endpoint = merged.resource, merged.hints, merged.foreign_endpoint
    cursor = merged.endpoint.cursor
    primary, merge = hints.key_columns("primary_key"), hints.key_columns("merge_key")
    disposition = write_disposition_of(
        merged,
        primary,
        merge,
        incremental_parent,
        incremental=merged.endpoint.incremental is not None or cursor is not None,
    )
    if disposition.value == "replace" and merged.endpoint.response_actions:
        from restsource_dagster.connector.validation.response_action_rules import (
            warn_of_ignored_refusals,
        )

        warn_of_ignored_refusals(merged)
    return Resource(
        name=merged.name,
        parent=merged.parent,
        endpoint=merged.endpoint,
        method=merged.endpoint.method or "GET",
        incremental=cursor,
        hints=hints,
        table=hints.table_name or merged.name,
        primary_key=primary,
        merge_key=merge,
        disposition=disposition,
        selected=fields.selected is not False,
        pointer=json_pointer(merged.at),
        path_params=merged.path_params or NO_PARAMS,
        foreign_endpoint=foreign_endpoint,
        include_from_parent=tuple(fields.include_from_parent or ()),
        processing_steps=tuple(fields.processing_steps),
        asset=fields.asset or NO_ASSET_OPTIONS,
        checks=fields.checks or NO_CHECKS,
        mode=fields.mode or "auto",
        children=fields.children,
        deleted_when=fields.deleted_when,
        deletes_from=DeletesFrom.of({"resource": source})
        if isinstance(source := fields.deletes_from, str)
        else source,
        sweep=fields.sweep,
        on_delete=fields.on_delete,
        rename_from=fields.rename_from,
        http=fields.http,
        max_table_nesting=max_table_nesting(fields),
    )
