"""From the parts of a file that are well formed to resources, with every check on the way."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.naming import asset_identifier, is_asset_name, table_identifier
from restsource_dagster.connector.resources import Incremental, Resource
from restsource_dagster.connector.validation.backfill_rules import with_backfills
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    json_pointer,
    quoted_name,
)
from restsource_dagster.connector.validation.dlt_rules import (
    auth_findings,
    check_endpoint_rules,
    paginator_findings,
)
from restsource_dagster.connector.validation.merged_resource import (
    MergedResource,
    find_parents,
    merge_resources,
    report_cycles,
    report_duplicates,
)
from restsource_dagster.connector.validation.placeholders import bind_path, check_placeholders
from restsource_dagster.connector.validation.write_disposition import (
    check_table_hints,
    disposition_of,
    incremental_of,
    key_columns,
)

__all__ = ["build_resources"]


def build_resources(
    value: dict[str, Any], structural: list[Finding]
) -> tuple[tuple[Resource, ...], list[Finding]]:
    """The resources of a file and what is wrong with them beyond their structure.

    What `structural` found broken is left out of sight, so that it leads to no second finding.
    """
    whole, broken = _without_broken(value, structural)
    findings = list(_client_rule_findings(whole.get("client")))
    resources = whole.get("resources")
    if not isinstance(resources, list):
        return (), findings
    if not resources:
        message = "A connector without resources has nothing to load"
        findings.append(Finding("/resources", message, code="deliberate:no-resources"))
    defaults = whole.get("resource_defaults")
    drafts = merge_resources(resources, defaults if isinstance(defaults, dict) else {}, broken)
    for draft in drafts:
        _check_resource(draft)
    report_duplicates(drafts)
    find_parents(drafts)
    report_cycles(drafts)
    _check_unique_identifiers(drafts)
    client = whole.get("client")
    made = with_backfills(
        drafts,
        tuple(_checked_resources(drafts)),
        client if isinstance(client, dict) else {},
        structural,
    )
    for draft in drafts:
        findings.extend(draft.findings)
    return made, findings


def _without_broken(
    value: dict[str, Any], structural: list[Finding]
) -> tuple[dict[str, Any], set[int]]:
    """A copy without the fields that are broken, and the resources that can't be checked."""
    fields = ("client", "resource_defaults", "resources")
    whole: dict[str, Any] = deepcopy({name: value[name] for name in fields if name in value})
    broken: set[int] = set()
    for finding in structural:
        steps = [s.replace("~1", "/").replace("~0", "~") for s in finding.pointer.split("/")[1:]]
        if finding.on_key and _remove_field(whole, steps):
            continue
        if steps[:1] == ["resources"] and len(steps) > 1:
            _remove_from_resource(whole["resources"], int(steps[1]), steps[2:], broken)
        elif steps[:1] == ["resource_defaults"]:
            _remove_from_defaults(whole, steps[1:], broken)
        elif steps[:1] == ["client"]:
            whole.pop("client", None)
    return whole, broken


def _remove_field(whole: Any, steps: list[str]) -> bool:
    """Takes out a field that should not be there."""
    for step in steps[:-1]:
        whole = whole[int(step)] if isinstance(whole, list) else whole.get(step)
        if not isinstance(whole, dict | list):
            return False
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
    """Takes what is broken out of an endpoint; False if then nothing can be said about it."""
    if not isinstance(endpoint, dict) or not steps or steps[0] == "path":
        return False
    if steps[0] == "incremental":
        endpoint["incremental"] = {"cursor_path": "broken"}
    elif steps[0] == "params":
        params = endpoint.get("params")
        if not isinstance(params, dict) or len(steps) == 1:
            return False
        params[steps[1]] = "broken"
    else:
        endpoint.pop(steps[0], None)
    return True


def _client_rule_findings(client: Any) -> Iterator[Finding]:
    if isinstance(client, dict):
        yield from paginator_findings(client.get("paginator"), ("client", "paginator"))
        yield from auth_findings(client.get("auth"), ("client", "auth"), in_defaults=False)


def _check_resource(draft: MergedResource) -> None:
    _check_asset_name(draft)
    if not draft.is_checkable:
        return
    bind_path(draft)
    check_placeholders(draft)
    check_endpoint_rules(draft)
    check_table_hints(draft)


def _check_asset_name(draft: MergedResource) -> None:
    place = draft.at if draft.path_at == draft.at else (*draft.at, "name")
    if find_references(draft.name):
        draft.report(
            place, "The name of a resource can't be a reference", code="deliberate:asset-name"
        )
    elif not is_asset_name(draft.name):
        proposed = table_identifier(draft.name).strip("_") if draft.name.strip() else "items"
        path = draft.endpoint["path"] or proposed
        draft.report(
            place,
            f"Dagster has no asset of the name {quoted_name(draft.name)}",
            describe_value(draft.name),
            "letters, digits, `_`, `-` and `.`",
            f'Write {{"name": "{proposed}", "endpoint": {describe_value(path)}}}',
            code="deliberate:asset-name",
        )


def _check_unique_identifiers(drafts: list[MergedResource]) -> None:
    assets: dict[str, MergedResource] = {}
    tables: dict[str, MergedResource] = {}
    for draft in drafts:
        if not is_asset_name(draft.name):
            continue
        earlier = assets.setdefault(asset_identifier(draft.name), draft)
        if earlier.name != draft.name:
            _report_same_identifier(draft, earlier, "name", "asset", asset_identifier(draft.name))
            continue
        table = draft.resource.get("table_name") or draft.name
        if not isinstance(table, str) or not table.strip():
            continue
        identifier = table_identifier(table)
        earlier = tables.setdefault(identifier, draft)
        if earlier.name != draft.name:
            field = "table_name" if draft.resource.get("table_name") else "name"
            _report_same_identifier(draft, earlier, field, "table", identifier)
        if identifier.startswith("_dlt"):
            draft.report(
                draft.place("table_name" if "table_name" in draft.own else "name"),
                "Tables that start with `_dlt` are dlt's own",
                code="deliberate:reserved-table",
            )


def _report_same_identifier(
    draft: MergedResource, earlier: MergedResource, field: str, what: str, identifier: str
) -> None:
    place = draft.at if draft.path_at == draft.at else draft.place(field)
    draft.report(
        place,
        f"{quoted_name(draft.name)} and {quoted_name(earlier.name)} become one {what}, "
        f"{quoted_name(identifier)}",
        fix='Give one of them another name, or its own "table_name"'
        if what == "table"
        else "Give one of them another name",
        code=f"deliberate:same-{what}",
    )


def _checked_resources(drafts: list[MergedResource]) -> Iterator[Resource]:
    by_name = {draft.name: draft for draft in drafts}
    cursors = {draft.name: incremental_of(draft) for draft in drafts}
    for draft in drafts:
        if draft.is_checkable:
            yield _build_resource(draft, cursors, _incremental_parent(draft, by_name, cursors))


def _incremental_parent(
    draft: MergedResource,
    by_name: dict[str, MergedResource],
    cursors: dict[str, Incremental | None],
) -> str | None:
    seen, current = {draft.name}, draft.parent
    while current is not None and current not in seen:
        if cursors[current] is not None:
            return current
        seen.add(current)
        current = by_name[current].parent
    return None


def _build_resource(
    draft: MergedResource, cursors: dict[str, Incremental | None], incremental_parent: str | None
) -> Resource:
    cursor = cursors[draft.name]
    table = draft.resource.get("table_name")
    return Resource(
        name=draft.name,
        parent=draft.parent,
        path=draft.endpoint["path"],
        method=draft.endpoint.get("method") or "GET",
        table_name=table or None,
        primary_key=key_columns(draft, "primary_key"),
        merge_key=key_columns(draft, "merge_key"),
        incremental=cursor,
        disposition=disposition_of(draft, cursor is not None, incremental_parent),
        selected=draft.resource.get("selected") is not False,
        pointer=json_pointer(draft.at),
        mode=draft.resource.get("mode") or "auto",
        max_table_nesting=_max_table_nesting(draft.resource),
    )


def _max_table_nesting(resource: Mapping[str, Any]) -> int | None:
    """`max_table_nesting`, or what `nested` says in a word; columnar keeps JSON unless told."""
    given: int | None = resource.get("max_table_nesting")
    is_columnar = resource.get("mode") == "columnar"
    nested = resource.get("nested") or ("json" if is_columnar else "tables")
    return 0 if given is None and nested == "json" else given
