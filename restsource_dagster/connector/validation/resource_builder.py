"""Build the resources of a file: run every check on them, and derive their write dispositions."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import ValidationError

from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.models.connector_file import (
    Client,
    ConnectorFile,
    ResourceDefaults,
    ResourceObject,
)
from restsource_dagster.connector.models.fields import FileModel
from restsource_dagster.connector.models.paginators import paginator_findings
from restsource_dagster.connector.models.processing_steps import removed_fields
from restsource_dagster.connector.models.table_hints import (
    Cdc,
    DispositionName,
    PlainDisposition,
    WriteDisposition,
    merge_strategy_findings,
)
from restsource_dagster.connector.naming import asset_identifier, is_asset_name, snake_case_table
from restsource_dagster.connector.resources import NO_PARAMS, Disposition, Resource
from restsource_dagster.connector.validation.backfill_rules import with_backfills
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
    quoted_name,
)
from restsource_dagster.connector.validation.dlt_rules import (
    auth_findings,
    check_endpoint_rules,
    warn_of_ignored_refusals,
)
from restsource_dagster.connector.validation.input_checks import base_url_findings
from restsource_dagster.connector.validation.merged_resource import (
    Defaults,
    MergedResource,
    find_parents,
    merge_resource,
    report_cycles,
    report_duplicates,
)
from restsource_dagster.connector.validation.placeholders import check_path, check_placeholders

__all__ = [
    "build_resources",
]

_STRATEGIES_BY_PRIMARY_KEY = ("upsert", "insert-only", "cdc")


def _disposition_of(
    merged: MergedResource,
    primary: tuple[str, ...],
    merge: tuple[str, ...],
    incremental_parent: str | None,
    *,
    incremental: bool,
) -> Disposition:
    """Return the write disposition and its reason; report refusals.

    `primary` and `merge` are the columns of its keys; `incremental_parent` names the nearest of its
    parents that has a cursor.
    """
    given = merged.resource.write_disposition
    if given is None:
        return _derive_disposition(primary, incremental, incremental_parent)
    value = _disposition_name(given)
    strategy = None if isinstance(given, str) else getattr(given, "strategy", None)
    where = "" if merged.is_own("write_disposition") else " in `resource_defaults`"
    reason = f"{value}, as the file says{where}"
    disposition = Disposition(value, strategy, derived=False, reason=reason)
    if value == "skip" and merged.resource.selected is not False:
        _report_skip(merged, merged.place("write_disposition"))
    if value == "merge":
        _check_keys(merged, strategy or "delete-insert", primary, merge)
    if value == "replace":
        _check_replace(merged, incremental, incremental_parent)
    return disposition


def _disposition_name(given: WriteDisposition) -> DispositionName:
    name: DispositionName = given if isinstance(given, str) else given.disposition
    return name


def _report_skip(merged: MergedResource, at: FieldPath) -> None:
    merged.report(
        at,
        "`skip` can't be loaded: dlt refuses its rows after all of them are requested",
        fix='Leave the resource out; or write "selected": false if only its dependents are wanted',
        code="deliberate:skip",
    )


@lru_cache(maxsize=4096)  # most resources of a code location have one of a few
def _derive_disposition(
    primary: tuple[str, ...], incremental: bool, incremental_parent: str | None
) -> Disposition:
    if primary:
        key = ", ".join(primary)
        return _derived_disposition(
            "merge", f"merge, because the resource has a primary key ({key})"
        )
    if incremental:
        return _derived_disposition(
            "append", "append, because the resource is incremental and has no primary key"
        )
    if incremental_parent:
        reason = (
            f"append, because its parent {incremental_parent} is incremental and it has no "
            "primary key"
        )
        return _derived_disposition("append", reason)
    return _derived_disposition(
        "replace", "replace, because the resource has neither a primary key nor a cursor"
    )


def _derived_disposition(value: DispositionName, reason: str) -> Disposition:
    return Disposition(value, None, derived=True, reason=reason)


def _check_keys(
    merged: MergedResource, strategy: str, primary: tuple[str, ...], merge: tuple[str, ...]
) -> None:
    if strategy in _STRATEGIES_BY_PRIMARY_KEY and not primary:
        needed = "a primary key"
    elif strategy == "delete-insert" and not primary and not merge:
        needed = "a primary key or a merge key"
    else:
        return
    merged.report(
        merged.place("write_disposition"),
        f"Merge ({strategy}) needs {needed}, and {quoted_name(merged.name)} has none: rows would "
        "pile up",
        fix='Add "primary_key": "id" (the column that identifies a row), or write "append"',
        code="deliberate:merge-without-key",
    )


def _check_replace(
    merged: MergedResource, incremental: bool, incremental_parent: str | None
) -> None:
    if incremental_parent:
        merged.report(
            merged.place("write_disposition"),
            f"Replace would drop the rows of all parents that {quoted_name(incremental_parent)}, "
            "which is incremental, doesn't bring this time",
            fix='Add "primary_key" and write "merge", or write "append"',
            code="deliberate:replace-below-incremental",
        )
    elif incremental:
        merged.report(
            merged.place("write_disposition"),
            "With replace and a cursor, each run leaves only the newest rows in the table",
            fix='Leave out `incremental`, or write "merge" or "append"',
            severity="warning",
        )


def _check_key_names(merged: MergedResource) -> None:
    """Warn of a key with a dot, which names no field inside of an object."""
    for hint in ("primary_key", "merge_key"):
        for name in merged.resource.key_columns(hint):
            if "." in name and not find_references(name):
                nested = name.replace(".", "__")
                merged.report(
                    merged.place(hint if getattr(merged.resource, hint) else "columns"),
                    f"{quoted_name(name)} is a field with a dot in its name, and no field inside of "
                    "an object",
                    fix=f'Write "{nested}" for the field inside of an object',
                    severity="warning",
                )


def _check_cdc(merged: MergedResource) -> None:
    """Refuse cdc of new rows only: it deletes each row that a load does not bring."""
    given = merged.resource.write_disposition
    if (
        isinstance(given, Cdc)
        and merged.endpoint.cursor is not None
        and not merged.resource.key_columns("merge_key")
        and not given.destination_scope
    ):
        merged.report(
            merged.place("write_disposition"),
            "cdc deletes all rows that a load does not bring, and with a cursor a load brings the new "
            "ones only",
            fix='Write "upsert"; or leave out the cursor; or give a `merge_key` or a '
            "`destination_scope` with the rows that each load brings whole",
            code="deliberate:cdc-incremental",
        )


def _check_processing_steps(merged: MergedResource) -> None:
    """Report a key or a cursor that the processing steps leave out of every record."""
    removed = removed_fields(merged.resource.processing_steps)
    needed = dict.fromkeys(merged.hints.key_columns("primary_key"), "the primary key")
    if cursor := merged.endpoint.cursor:
        needed[cursor.cursor_path] = "the cursor"
    for name in sorted(removed & needed.keys()):
        merged.report(
            merged.place("processing_steps"),
            f"The steps leave out {quoted_name(name)}, {needed[name]}, which each record needs after "
            "them",
            fix="Name the field as the steps leave it, or keep it",
            code="deliberate:processing-steps",
        )


def _check_table_hints(merged: MergedResource) -> None:
    """Report what dlt refuses in the hints when it builds the resource or makes the table."""
    given = merged.resource.write_disposition
    if isinstance(given, PlainDisposition):
        merged.findings.extend(merge_strategy_findings(given, merged.place("write_disposition")))
    for name, nested in (merged.resource.nested_hints or {}).items():
        if nested.write_disposition and _disposition_name(nested.write_disposition) == "skip":
            _report_skip(merged, (*merged.place("nested_hints"), name, "write_disposition"))
    _check_key_names(merged)
    _check_processing_steps(merged)
    _check_cdc(merged)
    for index, reference in enumerate(merged.resource.references or ()):
        ours, theirs = reference.columns, reference.referenced_columns
        if not (reference.referenced_table and ours and len(ours) == len(theirs)):
            merged.report(
                (*merged.place("references"), index),
                "A reference names its columns, the other table, and as many columns there",
                fix='{"columns": ["customer_id"], "referenced_table": "customers", '
                '"referenced_columns": ["id"]}',
                code="deliberate:reference",
            )


Model = TypeVar("Model", bound=FileModel)


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
    if parts.resources is None:
        return (), findings
    if not value["resources"]:
        message = "A connector without resources has nothing to load"
        findings.append(Finding("/resources", message, code="deliberate:no-resources"))
    merged_resources = _merge_all(parts)
    report_duplicates(merged_resources)
    find_parents(merged_resources)
    report_cycles(merged_resources)
    _check_unique_identifiers(merged_resources)
    made = with_backfills(
        merged_resources, tuple(_checked_resources(merged_resources)), parts.client, structural
    )
    for merged in merged_resources:
        findings.extend(merged.findings)
    return made, findings


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
        _check_resource(merged)
        merged_resources.append(merged)
    return merged_resources


def _sound_parts(value: dict[str, Any], structural: list[Finding]) -> _Parts:
    whole, broken = _without_broken(value, structural)
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
        return model.model_validate(given)
    except ValidationError:
        return None


def _without_broken(
    value: dict[str, Any], structural: list[Finding]
) -> tuple[dict[str, Any], set[int]]:
    """Return a copy without the fields that are broken, and the resources that can't be checked."""
    fields = ("client", "resource_defaults", "resources")
    # A copy, because checks of the whole value follow.
    whole: dict[str, Any] = deepcopy({name: value[name] for name in fields if name in value})
    broken: set[int] = set()
    for finding in structural:
        steps = [s.replace("~1", "/").replace("~0", "~") for s in finding.pointer.split("/")[1:]]
        # Without a key that should not be there, the rest means the same.
        if finding.on_key and _remove_field(whole, steps):
            continue
        if steps[:1] == ["resources"] and len(steps) > 1:
            _remove_from_resource(whole["resources"], int(steps[1]), steps[2:], broken)
        elif steps[:1] == ["resource_defaults"]:
            _remove_from_defaults(whole, steps[1:], broken)
        elif steps[:1] == ["client"]:
            # Checked without one of its parts, a client would be another one.
            whole.pop("client", None)
    return whole, broken


def _remove_field(whole: Any, steps: list[str]) -> bool:
    """Remove a field that should not be there. Return False if it is not found."""
    for step in steps[:-1]:
        whole = whole[int(step)] if isinstance(whole, list) else whole.get(step)
        if not isinstance(whole, dict | list):
            return False
    # `whole` marks a missing field, because a field that is there may hold None.
    return isinstance(whole, dict) and whole.pop(steps[-1], whole) is not whole


def _remove_from_resource(
    resources: list[Any], index: int, steps: list[str], broken: set[int]
) -> None:
    resource = resources[index]
    if not steps or not isinstance(resource, dict) or steps[0] == "name":
        broken.add(index)
    elif steps[0] != "endpoint":
        resource.pop(steps[0], None)
    elif not _remove_from_endpoint(resource.get("endpoint"), steps[1:]):
        broken.add(index)


def _remove_from_defaults(whole: dict[str, Any], steps: list[str], broken: set[int]) -> None:
    defaults = whole.get("resource_defaults")
    if isinstance(defaults, dict) and steps:
        if steps[0] != "endpoint":
            defaults.pop(steps[0], None)
            return
        if _remove_from_endpoint(defaults.get("endpoint"), steps[1:]):
            return
    whole["resource_defaults"] = {}
    if isinstance(whole.get("resources"), list):
        broken.update(range(len(whole["resources"])))


def _remove_from_endpoint(endpoint: Any, steps: list[str]) -> bool:
    """Remove the broken part of an endpoint. Return False if the endpoint can't be checked then."""
    if not isinstance(endpoint, dict) or not steps or steps[0] == "path":
        return False
    if steps[0] == "incremental":
        # Not removed: other rules would then report that there is no cursor.
        endpoint["incremental"] = {"cursor_path": "broken"}
    elif steps[0] == "params":
        params = endpoint.get("params")
        if not isinstance(params, dict) or len(steps) == 1:
            return False
        # Not removed: its placeholder would be reported as bound to nothing.
        params[steps[1]] = "broken"
    else:
        endpoint.pop(steps[0], None)
    return True


def _check_resource(merged: MergedResource) -> None:
    _check_asset_name(merged)
    if not merged.is_checkable:
        return
    check_path(merged)
    check_placeholders(merged)
    check_endpoint_rules(merged)
    _check_table_hints(merged)


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
        if earlier.name != merged.name:
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


def _checked_resources(merged_resources: list[MergedResource]) -> Iterator[Resource]:
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
    disposition = _disposition_of(
        merged, primary, merge, incremental_parent, incremental=cursor is not None
    )
    if disposition.value == "replace":
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
        mode=fields.mode or "auto",
        max_table_nesting=_max_table_nesting(fields),
    )


def _max_table_nesting(fields: ResourceObject) -> int | None:
    """Return `max_table_nesting`, or what `nested` means; `columnar` keeps JSON by default."""
    nested = fields.nested or ("json" if fields.mode == "columnar" else "tables")
    given = fields.max_table_nesting
    return 0 if given is None and nested == "json" else given
