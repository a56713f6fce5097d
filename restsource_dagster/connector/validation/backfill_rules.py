"""Which resources can be backfilled, and the key that changes when a partition is due again.

A partition may be loaded again at any time, and live runs go on beside it. So each row must belong
to exactly one partition or to the live stream, and loading a row again must not store it twice.

The definition key is a short hash of all that decides the rows of a resource's partitions. When it
changes, partitions that are loaded hold other rows than they would now, so they are due again. It
covers, for the resource and for all that depend on it:

- the request: `base_url`, path, method, params, JSON and form bodies, headers, the paginator (but
  not the size of a page), `data_selector`, `response_actions`;
- the cursor: `cursor_path`, the form of `initial_value` (not the value), `start_param`,
  `end_param`, `last_value_func`, `on_cursor_value_missing`;
- the table: name, keys, write disposition, `columns`, `nested_hints`, `max_table_nesting`,
  `schema_contract`, `include_from_parent`, `selected`;
- the length of its partitions (`partition`): the first day of a month and the month itself have one
  partition key.

It leaves out: the spelling and order of the file, whether a field stands in the resource or in
`resource_defaults`, texts for people, `schedule`, `http`, `auth` and whatever else is named like a
credential, the other numbers of `backfill`, `lag`, `row_order`, `range_start` and `range_end` (not
applied in partitions), and how the load files are written.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from restsource_dagster.connector.cursor_format import (
    CursorValueError,
    IsoDate,
    PlainText,
    detect_cursor_format,
)
from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.model import Family, Resource, families_of
from restsource_dagster.connector.models.backfill import Backfill
from restsource_dagster.connector.models.connector_file import Client
from restsource_dagster.connector.models.fields import as_json
from restsource_dagster.connector.models.incremental_cursor import (
    Incremental,
    IncrementalParam,
    is_relative_text,
)
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.models.table_hints import Column
from restsource_dagster.connector.naming import asset_identifier
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    describe_value,
    json_pointer,
    quoted_name,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["definition_keys", "with_backfills"]

# 64 bits are enough for the resources of a code location, and fit into a tag of a run.
_KEY_LENGTH = 16
# No part is zero, so that two formats never show it in the same way.
_EXAMPLE_TIME = datetime(2024, 1, 31, 13, 45, 30, 123_456, tzinfo=UTC)
# A renewed credential brings the same rows.
_CREDENTIAL_FIELD = re.compile(
    r"token|secret|passw|api[-_]?key|authorization|cookie|credential|signature", re.IGNORECASE
)
# The size of a page decides in how many requests the rows arrive, not which.
_PAGE_SIZE_PARAMS = {
    *("limit", "_limit", "page[limit]", "per_page", "perpage", "page_size", "pagesize"),
    *("page[size]", "size", "_size", "count", "max_results", "maxresults", "top", "$top"),
}
_CURSOR_FIELDS = ("cursor_path", "start_param", "end_param")
_ENDPOINT_FIELDS = ("data", "data_selector", "response_actions")
_HINT_FIELDS = ("nested_hints", "schema_contract")
_IGNORED_COLUMN_FIELDS = ("name", "description", "primary_key", "merge_key")
"""The name is the object's key; the keys count apart from the columns."""


def definition_keys(
    resources: Sequence[Resource], client: Client, partitions: Mapping[str, str]
) -> dict[str, str]:
    """Return the key of each resource by its name: 16 hexadecimal digits.

    `partitions` are the lengths of the partitions, for resources that are backfilled.
    """
    own = {
        resource.name: _definition_json(
            {**_resource_definition(resource, client), "partition": partitions.get(resource.name)}
        )
        for resource in resources
    }
    children: dict[str, list[str]] = {}
    for resource in resources:
        if resource.parent is not None:
            children.setdefault(resource.parent, []).append(resource.name)
    return {
        # Dependents are loaded with a partition, so a change in one of them makes it due again.
        name: _definition_hash([text, *_dependent_definitions(name, children, own)])
        for name, text in own.items()
    }


def _dependent_definitions(
    name: str, children: Mapping[str, list[str]], own: Mapping[str, str]
) -> list[str]:
    """Return the definitions of the dependents of a resource, at any depth, sorted."""
    seen: set[str] = {name}
    queue = [name]
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in seen:
                seen.add(child)
                queue.append(child)
    return sorted(own[member] for member in seen - {name})


def _resource_definition(resource: Resource, client: Client) -> dict[str, Any]:
    endpoint, hints = resource.endpoint, resource.hints
    paginator = endpoint.paginator or client.paginator
    return {
        "url": client.base_url,
        "method": resource.method,
        "path": _path_definition(resource),
        "json": as_json(endpoint.json_),
        **{name: as_json(getattr(endpoint, name)) for name in _ENDPOINT_FIELDS},
        "params": _params_definition(endpoint.params, paginator),
        "headers": _headers_definition({**(client.headers or {}), **(endpoint.headers or {})}),
        "paginator": _paginator_definition(paginator),
        "cursor": _cursor_definition(resource.incremental),
        "table": resource.table,
        "parent": resource.parent,
        # The order of a key's columns doesn't change which rows are the same.
        "keys": [sorted(resource.primary_key), sorted(resource.merge_key)],
        "disposition": _disposition_definition(resource),
        "columns": _columns_definition(hints.columns_by_name),
        **{name: as_json(getattr(hints, name)) for name in _HINT_FIELDS},
        "max_table_nesting": resource.max_table_nesting,
        "include_from_parent": sorted(resource.include_from_parent),
        "not_selected": not resource.selected,
        # only where there are any: the partitions of other resources keep their keys
        **({"params_style": style} if (style := endpoint.params_style) != "repeat" else {}),
        **({"steps": as_json(resource.processing_steps)} if resource.processing_steps else {}),
        **({"deleted": [when, resource.on_delete]} if (when := resource.deleted_when) else {}),
    }


def _path_definition(resource: Resource) -> Any:
    """The path, with the params that it takes: other params ask for other rows."""
    params = {n: v for n, v in resource.path_params.items() if not _CREDENTIAL_FIELD.search(n)}
    return [resource.endpoint.path, params] if params else resource.endpoint.path


def _params_definition(params: Mapping[str, Any], paginator: Paginator | None) -> dict[str, Any]:
    # With one page only, its size does decide which rows arrive.
    is_single = "single_page" in (paginator, getattr(paginator, "type", None))
    sizes = set[str]() if is_single else _PAGE_SIZE_PARAMS
    return {
        name: "incremental" if isinstance(value, IncrementalParam) else as_json(value)
        for name, value in params.items()
        if name.lower() not in sizes and not _CREDENTIAL_FIELD.search(name)
    }


def _headers_definition(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.lower(): value
        for name, value in headers.items()
        # Says who asks, not for what.
        if name.lower() != "user-agent" and not _CREDENTIAL_FIELD.search(name)
    }


def _paginator_definition(paginator: Paginator | None) -> dict[str, Any] | None:
    if paginator is None or isinstance(paginator, str):
        return {"type": paginator} if paginator else None
    return {name: value for name, value in paginator.as_json().items() if name != "limit"}


_SPELLING_FIELDS = ("convert", "cursor_format", "timezone")
"""How the ends of a partition are sent."""


def _cursor_definition(cursor: Incremental | None) -> dict[str, Any] | None:
    if cursor is None:
        return None
    return {
        **{name: getattr(cursor, name) for name in _CURSOR_FIELDS},
        # only if they are given: a field that is new here must not make all partitions due again
        **{
            name: value for name in _SPELLING_FIELDS if (value := getattr(cursor, name)) is not None
        },
        "function": cursor.last_value_func or "max",
        "missing": cursor.on_cursor_value_missing or "raise",
        "form": _cursor_spelling(cursor.initial_value),
    }


def _cursor_spelling(sample: Any) -> str | None:
    """How the API spells a cursor, by an example that is the same for all samples."""
    try:
        form = detect_cursor_format(sample)
    except CursorValueError:
        return None
    if form.is_time:
        return repr(form.render(_EXAMPLE_TIME))
    return "text" if isinstance(form, PlainText) else "number"


def _disposition_definition(resource: Resource) -> dict[str, Any]:
    given = as_json(resource.hints.write_disposition)
    options = given if isinstance(given, dict) else {}
    value = resource.disposition.value
    # dlt's default, so that leaving it out and writing it have one key.
    strategy = resource.disposition.strategy or ("delete-insert" if value == "merge" else None)
    return {**options, "disposition": value, "strategy": strategy}


def _columns_definition(columns: Mapping[str, Column]) -> dict[str, Any]:
    hints = {
        name: {k: v for k, v in column.as_json().items() if k not in _IGNORED_COLUMN_FIELDS}
        for name, column in columns.items()
    }
    return _without_empty({name: _without_empty(column) for name, column in hints.items()})


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without empty ones, which mean the same as a missing field."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _definition_json(definition: Mapping[str, Any]) -> str:
    fields = _without_empty(definition)
    try:
        # Sorted: the order of fields in the file must not change the key.
        return json.dumps(fields, sort_keys=True)
    except ValueError:  # Python doesn't write whole numbers of thousands of digits
        return json.dumps(_in_hexadecimal(fields), sort_keys=True)


def _in_hexadecimal(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_hexadecimal(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_in_hexadecimal(item) for item in value]
    return hex(value) if isinstance(value, int) else value


def _definition_hash(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:_KEY_LENGTH]


# The name of a column: the rows of an appended partition are deleted by it in SQL.
_PLAIN_FIELD = re.compile(r"[A-Za-z_@][A-Za-z0-9_@-]*")
_BACKFILL_COMMAND = "`restsource backfill NAME RESOURCE --from X --to Y --window N`"


@dataclass(frozen=True)
class _BackfillRefusal:
    code: str
    message: str
    fix: str
    found: str | None = None
    expected: str | None = None


def with_backfills(
    merged_resources: Sequence[MergedResource],
    resources: Sequence[Resource],
    client: Client | None,
    structural: Sequence[Finding],
) -> tuple[Resource, ...]:
    """Return the resources with their backfills and definition keys; report refusals.

    Only a file with a backfill has definition keys: nothing else reads them.
    A family with a finding in `structural` is not checked: its keys and cursors may differ once the
    file is corrected.
    """
    by_name = {merged.name: merged for merged in merged_resources}
    blocks = {resource.name: by_name[resource.name].resource.backfill for resource in resources}
    if not any(blocks.values()):
        return tuple(resources)
    families = {name: family for family in families_of(resources) for name in family.names}
    for resource in resources:
        family = families.get(resource.name)  # none in a cycle, which is reported elsewhere
        block = blocks[resource.name]
        if block is None or family is None:
            continue
        if not any(_has_schema_findings(by_name[name], structural) for name in family.names):
            _report_refusals(by_name[resource.name], resource, family, block)
    if client is None:
        return tuple(resources)
    # Not before: with errors in the client the file is refused, and its requests are unknown.
    made = {name: block for name, block in blocks.items() if block is not None}
    keys = definition_keys(
        resources, client, {name: backfill.partition for name, backfill in made.items()}
    )
    return tuple(
        replace(resource, definition_key=keys[resource.name], backfill=made.get(resource.name))
        for resource in resources
    )


def _has_schema_findings(merged: MergedResource, structural: Sequence[Finding]) -> bool:
    places = (f"{json_pointer(merged.at)}/", "/resource_defaults/")
    return any(f"{finding.pointer}/".startswith(places) for finding in structural)


def _report_refusals(
    merged: MergedResource, resource: Resource, family: Family, block: Backfill
) -> None:
    for refusal in _backfill_refusals(merged, resource, family, block):
        merged.report(
            (*merged.at, "backfill"),
            refusal.message,
            refusal.found,
            refusal.expected,
            refusal.fix,
            on_key=True,
            code=f"deliberate:{refusal.code}",
        )


def _backfill_refusals(
    merged: MergedResource, resource: Resource, family: Family, block: Backfill
) -> Iterator[_BackfillRefusal]:
    shown = quoted_name(resource.name)
    if resource.parent is not None:
        yield _BackfillRefusal(
            "backfill-below-parent",
            f"The backfill of {shown} is part of that of {quoted_name(family.root.name)}, whose "
            "partitions decide which parents it is requested for",
            f"Move `backfill` to {quoted_name(family.root.name)}",
        )
    elif resource.incremental is None:
        yield _BackfillRefusal(
            "backfill-not-incremental",
            f"A backfill is loaded in partitions of the incremental cursor, and {shown} has "
            + ("a token in its place" if merged.endpoint.token else "none"),
            'Add "incremental": {"cursor_path": "updated_at", "initial_value": '
            '"2024-01-01T00:00:00Z"} to the endpoint, or leave `backfill` out',
        )
    elif resource.endpoint.job is not None:
        yield _BackfillRefusal(
            "backfill-job",
            f"{shown} is loaded by jobs, and a backfill asks for each partition by itself",
            "Leave `backfill` out: the first run can ask for all rows by one job",
        )
    elif resource.endpoint.for_each:
        yield _BackfillRefusal(
            "backfill-for-each",
            f"{shown} has a cursor for each value of `for_each`, and a backfill has one for all",
            "Leave `backfill` out, or write a resource for each value",
        )
    else:
        yield from _cursor_refusals(resource, resource.incremental, block)
        yield from _row_refusals(resource, resource.incremental.path)
        yield from _family_refusals(merged, family)


def _cursor_refusals(
    resource: Resource, incremental: Incremental, block: Backfill
) -> Iterator[_BackfillRefusal]:
    if incremental.last_value_func == "min":
        yield _BackfillRefusal(
            "backfill-falling",
            "The cursor is descending (`last_value_func` is `min`), and partitions need an ascending one",
            f"Leave `backfill` out and use {_BACKFILL_COMMAND}, or order the API by a cursor that grows",
        )
    if incremental.end_value is not None:
        yield _BackfillRefusal(
            "backfill-end-value",
            f"`end_value` makes one fixed window of {quoted_name(resource.name)} already",
            "Leave out `end_value`; `end` in `backfill` says where the backfill ends",
        )
    yield from _cursor_format_refusals(block, incremental.initial_value)


def _cursor_format_refusals(block: Backfill, sample: Any) -> Iterator[_BackfillRefusal]:
    expected = "a time, a date, or seconds or milliseconds since 1970"
    if sample is None:
        yield _BackfillRefusal(
            "backfill-cursor",
            "The ends of a partition are sent in the form of the API's cursor, and nothing shows that form: "
            "the cursor has no `initial_value`",
            'Add "initial_value" to the cursor in the API\'s own form, such as '
            '"2024-01-01T00:00:00Z"',
            expected=expected,
        )
        return
    try:
        form = detect_cursor_format(sample)
    except CursorValueError:
        form = None
    if form is None or not form.is_time:
        yield _BackfillRefusal(
            "backfill-cursor",
            "`backfill` cuts time into partitions, and `initial_value` is no time",
            _suggest_cursor_format(sample),
            describe_value(sample),
            expected,
        )
    elif isinstance(form, IsoDate) and block.partition == "hourly":
        yield _BackfillRefusal(
            "backfill-cursor",
            "Hourly partitions need a cursor with a time of day, and `initial_value` is a date",
            'Write "partition": "daily", or an `initial_value` with a time if the API has one',
            describe_value(sample),
        )


def _suggest_cursor_format(sample: Any) -> str:
    if isinstance(sample, str) and is_relative_text(sample):
        return "Write a fixed moment: partitions can't begin at a time that moves with each run"
    if isinstance(sample, str) and find_references(sample):
        return "Write the value itself instead of a reference: its form is needed here"
    if isinstance(sample, int | float):
        return (
            "If it counts from 1970, write a later moment that shows whether in seconds "
            "(1704067200) or milliseconds (1704067200000). For other numbers leave `backfill` out "
            f"and use {_BACKFILL_COMMAND}"
        )
    return (
        "Write times as in 2024-01-01T00:00:00Z, if the API takes that. Else leave `backfill` out "
        f"and use {_BACKFILL_COMMAND}"
    )


def _row_refusals(resource: Resource, path: str) -> Iterator[_BackfillRefusal]:
    """Yield a refusal if loading a partition again would store rows twice or delete other rows."""
    disposition = resource.disposition
    if disposition.value in ("replace", "skip"):
        yield _BackfillRefusal(
            "backfill-replace",
            f"With {disposition.value} a partition leaves no row of the others in the table",
            'Add "primary_key" and write "merge", or write "append"',
        )
    elif disposition.strategy in ("scd2", "cdc"):
        yield _BackfillRefusal(
            "backfill-order",
            f"Merge ({disposition.strategy}) needs rows in the order of time, and a "
            "backfill is loaded newest first, beside the live runs",
            'Use the plain "merge", or leave `backfill` out',
        )
    elif disposition.value == "append" and not _PLAIN_FIELD.fullmatch(path):
        yield _BackfillRefusal(
            "backfill-no-key",
            f"{quoted_name(resource.name)} is appended to, so a partition that is loaded again "
            f"replaces the rows between its ends, and {quoted_name(path)} is not the name of a "
            "column",
            'Add "primary_key": "id" (the column that identifies a row) and leave out '
            "`write_disposition`, so that rows are merged",
        )
    elif disposition.value == "merge" and _merge_groups_cross_partitions(resource, path):
        yield _BackfillRefusal(
            "backfill-merge-key",
            f"Rows are replaced in groups of {', '.join(resource.merge_key)}, and a group may lie "
            "in two partitions: each would delete the other's rows",
            'Use "primary_key" alone, or take the cursor into the merge key',
        )


def _merge_groups_cross_partitions(resource: Resource, path: str) -> bool:
    strategy = resource.disposition.strategy or "delete-insert"
    # Only delete-insert uses the merge key: it deletes all rows of each group that a load brings.
    grouped = bool(resource.merge_key) and strategy == "delete-insert"
    return grouped and path not in resource.merge_key


def _family_refusals(merged: MergedResource, family: Family) -> Iterator[_BackfillRefusal]:
    for member in family.members[1:]:
        if member.disposition.value == "append":
            yield _BackfillRefusal(
                "backfill-child-no-key",
                f"{quoted_name(member.name)} depends on {quoted_name(family.root.name)} and is "
                "appended to: its rows would be stored twice when a partition is loaded again",
                f'Add "primary_key" to {quoted_name(member.name)} and leave out its '
                "`write_disposition`, so that its rows are merged",
            )
    # Two assets with one key would keep the whole code location from loading, not only this
    # connector.
    others = {asset_identifier(name): name for name in merged.all_names}
    for name in family.names:
        taken = others.get(asset_identifier(f"{name}_history"))
        if taken is not None:
            yield _BackfillRefusal(
                "backfill-name",
                f"The backfill of {quoted_name(name)} has the asset name of the resource "
                f"{quoted_name(taken)}",
                f'Give {quoted_name(taken)} another name; "table_name" keeps its table',
            )
