"""Which resources have a history that can be loaded in windows, and what is wrong with the others.

A window may be loaded again at any time, and live runs go on beside it. So each row must belong to
exactly one window or to the live stream, and loading a row again must not make two of it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from restsource_dagster.config.backfill import BackfillBlock
from restsource_dagster.config.cursor_values import CursorValueError, IsoDate, format_of
from restsource_dagster.config.definition_keys import definition_keys
from restsource_dagster.config.dispositions import cursor_of
from restsource_dagster.config.drafts import Draft
from restsource_dagster.config.naming import asset_identifier
from restsource_dagster.config.problems import Finding
from restsource_dagster.config.references import find_references
from restsource_dagster.config.resources import Family, Incremental, Resource, families_of
from restsource_dagster.config.wording import name_shown, rendered

__all__ = ["with_histories"]

_PLAIN_FIELD = re.compile(r"[A-Za-z_@][A-Za-z0-9_@-]*")
_COMMAND = "`restsource backfill NAME RESOURCE --from X --to Y --window N`"


@dataclass(frozen=True)
class _Refusal:
    code: str
    message: str
    mend: str
    found: str | None = None
    expected: str | None = None


def with_histories(
    drafts: Sequence[Draft],
    resources: Sequence[Resource],
    client: Mapping[str, Any],
    structural: Sequence[Finding],
) -> tuple[Resource, ...]:
    """The resources with their definition keys and backfills; refusals go to the drafts.

    A family in which `structural` found something broken is not judged: its keys and cursors may
    not be what the file means.
    """
    keys = definition_keys(drafts, resources, client)
    by_name = {draft.name: draft for draft in drafts}
    blocks = {resource.name: _block(by_name[resource.name]) for resource in resources}
    families = {name: family for family in families_of(resources) for name in family.names}
    for resource in resources:
        family = families.get(resource.name)  # none in a cycle, which is reported elsewhere
        if blocks[resource.name] is None or family is None:
            continue
        if not any(_is_doubtful(by_name[name], structural) for name in family.names):
            _judge(by_name[resource.name], resource, family)
    made = {name: block.as_backfill() for name, block in blocks.items() if block is not None}
    return tuple(
        replace(resource, definition_key=keys[resource.name], backfill=made.get(resource.name))
        for resource in resources
    )


def _block(draft: Draft) -> BackfillBlock | None:
    given = draft.resource.get("backfill")
    if given is None:
        return None
    try:
        return BackfillBlock.model_validate(given)
    except ValidationError:
        return None  # it is among the structural findings


def _is_doubtful(draft: Draft, structural: Sequence[Finding]) -> bool:
    places = (f"/resources/{draft.index}/", "/resource_defaults/")
    return any(f"{finding.pointer}/".startswith(places) for finding in structural)


def _judge(draft: Draft, resource: Resource, family: Family) -> None:
    for refusal in _refusals(draft, resource, family):
        draft.report(
            (*draft.at, "backfill"),
            refusal.message,
            refusal.found,
            refusal.expected,
            refusal.mend,
            on_key=True,
            code=f"deliberate:{refusal.code}",
        )


def _refusals(draft: Draft, resource: Resource, family: Family) -> Iterator[_Refusal]:
    shown = name_shown(resource.name)
    if resource.parent is not None:
        yield _Refusal(
            "backfill-below-parent",
            f"The history of {shown} is loaded with that of {name_shown(family.root.name)}, whose "
            "windows decide which rows it is asked for",
            f"Move `backfill` to {name_shown(family.root.name)}",
        )
    elif resource.incremental is None:
        yield _Refusal(
            "backfill-not-incremental",
            f"A history is loaded in windows of the incremental cursor, and {shown} has none",
            'Add "incremental": {"cursor_path": "updated_at", "initial_value": '
            '"2024-01-01T00:00:00Z"} to the endpoint, or leave `backfill` out',
        )
    else:
        yield from _cursor_refusals(draft, resource, resource.incremental)
        yield from _row_refusals(resource, resource.incremental.cursor_path)
        yield from _family_refusals(draft, family)


def _cursor_refusals(
    draft: Draft, resource: Resource, incremental: Incremental
) -> Iterator[_Refusal]:
    if cursor_of(draft).get("last_value_func") == "min":
        yield _Refusal(
            "backfill-falling",
            "The cursor falls (`last_value_func` is `min`), and the windows of a history rise",
            f"Leave `backfill` out and use {_COMMAND}, or order the API by a cursor that grows",
        )
    if incremental.end_value is not None:
        yield _Refusal(
            "backfill-end-value",
            f"`end_value` makes one fixed window of {name_shown(resource.name)} already",
            "Leave out `end_value`; `end` in `backfill` says where the history ends",
        )
    yield from _form_refusals(draft, incremental.initial_value)


def _form_refusals(draft: Draft, sample: Any) -> Iterator[_Refusal]:
    expected = "a time, a date, or seconds or milliseconds since 1970"
    if sample is None:
        yield _Refusal(
            "backfill-cursor",
            "The ends of a window are written as the API spells its cursor, and nothing shows how: "
            "the cursor has no `initial_value`",
            'Add "initial_value" to the cursor in the API\'s own form, such as '
            '"2024-01-01T00:00:00Z"',
            expected=expected,
        )
        return
    try:
        form = format_of(sample)
    except CursorValueError:
        form = None
    if form is None or not form.is_time:
        yield _Refusal(
            "backfill-cursor",
            "`backfill` cuts time into windows, and `initial_value` is no time",
            _mend_for_form(sample),
            rendered(sample),
            expected,
        )
    elif isinstance(form, IsoDate) and draft.resource["backfill"]["partition"] == "hourly":
        yield _Refusal(
            "backfill-cursor",
            "Hourly windows need a cursor with a time of day, and `initial_value` is a date",
            'Write "partition": "daily", or an `initial_value` with a time if the API has one',
            rendered(sample),
        )


def _mend_for_form(sample: Any) -> str:
    if isinstance(sample, str) and find_references(sample):
        return "Write the value itself instead of a reference: its form is needed here"
    if isinstance(sample, int | float):
        return (
            "If it counts from 1970, write a later moment that shows whether in seconds "
            "(1704067200) or milliseconds (1704067200000). For other numbers leave `backfill` out "
            f"and use {_COMMAND}"
        )
    return (
        "Write times as in 2024-01-01T00:00:00Z, if the API takes that. Else leave `backfill` out "
        f"and use {_COMMAND}"
    )


def _row_refusals(resource: Resource, path: str) -> Iterator[_Refusal]:
    """Where a row that comes again would be there twice, or would take others with it."""
    disposition = resource.disposition
    if disposition.value in ("replace", "skip"):
        yield _Refusal(
            "backfill-replace",
            f"With {disposition.value} a window leaves nothing of the others in the table",
            'Add "primary_key" and write "merge", or write "append"',
        )
    elif disposition.strategy in ("scd2", "cdc"):
        yield _Refusal(
            "backfill-order",
            f"Merge ({disposition.strategy}) counts on rows coming in the order of time, and a "
            "history is loaded newest first, beside the live stream",
            'Use the plain "merge", or leave `backfill` out',
        )
    elif disposition.value == "append" and not _PLAIN_FIELD.fullmatch(path):
        yield _Refusal(
            "backfill-no-key",
            f"{name_shown(resource.name)} is appended to, so a window that is loaded again "
            f"replaces the rows between its ends, and {name_shown(path)} is not the name of a "
            "column",
            'Add "primary_key": "id" (the column that identifies a row) and leave out '
            "`write_disposition`, so that rows are merged",
        )
    elif disposition.value == "merge" and _straddles(resource, path):
        yield _Refusal(
            "backfill-merge-key",
            f"Rows are replaced in groups of {', '.join(resource.merge_key)}, and a group may lie "
            "in two windows: each would delete the other's rows",
            'Use "primary_key" alone, or take the cursor into the merge key',
        )


def _straddles(resource: Resource, path: str) -> bool:
    strategy = resource.disposition.strategy or "delete-insert"
    grouped = bool(resource.merge_key) and strategy == "delete-insert"
    return grouped and path not in resource.merge_key


def _family_refusals(draft: Draft, family: Family) -> Iterator[_Refusal]:
    for member in family.members[1:]:
        if member.disposition.value == "append":
            yield _Refusal(
                "backfill-child-no-key",
                f"{name_shown(member.name)} depends on {name_shown(family.root.name)} and is "
                "appended to: its rows would be there twice when a window is loaded again",
                f'Add "primary_key" to {name_shown(member.name)} and leave out its '
                "`write_disposition`, so that its rows are merged",
            )
    others = {asset_identifier(name): name for name in (draft.name, *draft.others)}
    for name in family.names:
        taken = others.get(asset_identifier(f"{name}_history"))
        if taken is not None:
            yield _Refusal(
                "backfill-name",
                f"The history of {name_shown(name)} is shown under the name of the resource "
                f"{name_shown(taken)}",
                f'Give {name_shown(taken)} another name; "table_name" keeps its table',
            )
