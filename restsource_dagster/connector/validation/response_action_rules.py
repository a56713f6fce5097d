"""Rules of `response_actions` and `children`: what says nothing, never matches, or can't be followed."""

import json
from collections.abc import Iterator, Sequence

from restsource_dagster.connector.env_references import is_without_references
from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.connector_file import ChildRows
from restsource_dagster.connector.models.endpoint import ResolveParam
from restsource_dagster.connector.models.processing_steps import removed_fields
from restsource_dagster.connector.models.response_action import (
    ACTION_NAMES,
    ROW_STATUSES,
    ResponseAction,
)
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
    may_be_secret,
    nearest_name,
    quoted_list,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource, names_parent

__all__ = [
    "check_gone_parents",
    "check_replaced_children",
    "check_response_actions",
    "warn_of_ignored_refusals",
]


def check_response_actions(merged: MergedResource) -> None:
    """Report actions that say nothing or never match."""
    for index, action in enumerate(merged.endpoint.response_actions or ()):
        place = (*merged.endpoint_location("response_actions"), index)
        if action.action is None:
            merged.report(
                place,
                "The response action doesn't say what to do",
                fix='Add "action": "ignore"',
                code="deliberate:no-action",
            )
        merged.findings.extend(_useless_action_findings(action, place))
        _check_searched_body(merged, action, place)


def _check_searched_body(merged: MergedResource, action: ResponseAction, place: FieldPath) -> None:
    """Refuse a condition on a body that goes to a file unread. Errors are read whatever the format is."""
    field = "content" if action.content is not None else "body"
    searches = action.content is not None or bool(action.body)
    # errors come as JSON or text, and are read whatever `response` says
    may_have_rows = action.status_code is None or any(
        status in ROW_STATUSES for status in action.statuses or ()
    )
    if merged.endpoint.response is not None and searches and may_have_rows:
        merged.report(
            (*place, field),
            f"`response` says that the rows are read from a file, and `{field}` is not looked for in it",
            fix='Name the status of an error, such as "status_code": 400, or a header in place of '
            f"`{field}`",
            code="deliberate:action-in-file",
            on_key=True,
        )


_REFUSALS_OF_ACCESS = (401, 402, 403, 407, 429, *range(500, 600))
"""Statuses that say nothing about whether there are records, unlike 404 or 410."""


def warn_of_ignored_refusals(merged: MergedResource) -> None:
    """Warn of an `ignore` that would empty a replaced table when the API refuses the request."""
    for index, action in enumerate(merged.endpoint.response_actions or ()):
        statuses = action.statuses
        # `skip` leaves the table as it is, and a condition on the body names a known answer
        if action.known_action != "ignore" or statuses is None:
            continue
        # a refusal says that nobody was let in, not that there is nothing inside
        refused = [status for status in _REFUSALS_OF_ACCESS if status in statuses]
        if refused:
            merged.report(
                (*merged.endpoint_location("response_actions"), index),
                f"`ignore` takes the refusal {refused[0]} for an empty page, and the table is replaced: "
                "it would be emptied",
                fix='Write "skip", so that the table is left as it is and the run goes on; or leave the '
                "action out, so that such a run fails",
                severity="warning",
            )


_MEANT = {
    **dict.fromkeys(("stop", "break", "last", "done"), "end"),
    **dict.fromkeys(("delete", "deleted", "remove", "removed", "absent"), "gone"),
    **dict.fromkeys(("leave", "keep", "pass", "continue"), "skip"),
    **dict.fromkeys(("error", "raise", "abort"), "fail"),
}
"""Other words for actions."""


def _useless_action_findings(action: ResponseAction, at: FieldPath) -> Iterator[Finding]:
    """Yield why a response action has no effect. The values of references are not known here."""
    name, status = action.action, action.status_code
    if name is not None and action.known_action is None and is_without_references(name):
        # first by meaning: letters don't tell that `stop` is `end`
        close = _MEANT.get(name.lower()) or nearest_name(name, ACTION_NAMES)
        yield Finding(
            json_pointer((*at, "action")),
            "There is no such action, so this one does nothing",
            found=describe_value(name),
            expected=quoted_list(ACTION_NAMES),
            fix=f'Write "{close}"' if close else "Write one of these, or leave this one out",
            severity="warning",
        )
    if not action.has_condition:
        yield Finding(
            json_pointer(at),
            "The response action has no condition, so it never matches",
            expected="`status_code`, `header`, `content` or `body`",
            fix="Say which responses are meant, or leave this one out",
            severity="warning",
        )
    if status is not None and action.statuses is None and is_without_references(status):
        yield Finding(
            json_pointer((*at, "status_code")),
            "No response has this status, so the action never matches",
            found=describe_value(status),
            expected="a status such as 404, or a class such as `5xx`",
            fix="Write the status or class that is meant, or leave this one out",
            severity="warning",
        )


def check_gone_parents(merged_resources: Sequence[MergedResource]) -> None:
    """Refuse `gone` where the rows of one parent can't be found, or others depend on them.

    Call it when the parents are known.
    """
    # of all resources: the dependents of one may come after it in the file
    parents = {merged.parent for merged in merged_resources}
    for merged in merged_resources:
        if merged.is_checkable:
            _check_gone(merged, has_dependents=merged.name in parents)


def _check_gone(merged: MergedResource, *, has_dependents: bool) -> None:
    at = _place_of_gone(merged)
    if at is None:
        return
    fields = _parent_fields(merged)
    included = merged.resource.include_from_parent or ()
    missing = [name for name in fields if name not in included]
    if not fields:
        merged.report(
            at,
            "`gone` is about the parent's record, and the resource has no parent",
            fix='Write "skip", "ignore" or "end"',
            code="deliberate:gone",
        )
        return
    if missing:
        merged.report(
            at,
            "`gone` removes the rows of a parent, and no column says which those are",
            # what stands in a param of such a name may be a secret that was written at the wrong place
            fix='Add "include_from_parent" with the fields that the call takes'
            if any(map(may_be_secret, (merged.endpoint.params, *merged.resolved.values())))
            else f'Add "include_from_parent": {json.dumps([*included, *missing])}',
            code="deliberate:gone",
        )
    # the call of a dependent is never made for a parent that is gone
    if has_dependents:
        merged.report(
            at,
            "`gone` removes the rows of a parent, and the rows of dependents below them would stay",
            fix='Write "ignore", or take `gone` to the dependents alone',
            code="deliberate:gone",
        )
    strategy = getattr(merged.resource.write_disposition, "strategy", None)
    if strategy in ("scd2", "cdc"):
        merged.report(
            at,
            f"`gone` removes rows, and {strategy} keeps the history of rows",
            fix='Write "ignore"; or leave the strategy out',
            code="deliberate:gone",
        )
    # the name that `include_from_parent` gives to a parent's field
    columns = {f"_{merged.parent}_{name}" for name in fields}
    for name in sorted(columns & removed_fields(merged.resource.processing_steps)):
        merged.report(
            merged.place("processing_steps"),
            f"The steps leave out {name}, by which `gone` finds the rows of a parent",
            fix="Keep the field",
            code="deliberate:gone",
        )


_REPLACED_BY = (None, "delete-insert", "upsert")
"""Strategies of a merge after which the table has the rows as they are now."""


def check_replaced_children(
    merged_resources: Sequence[MergedResource], resources: Sequence[Resource]
) -> None:
    """Refuse `children` where the rows of one parent can't be found, or are not all that a call returns."""
    by_name = {merged.name: merged for merged in merged_resources}
    parents = {resource.parent for resource in resources}
    tables = [resource.table for resource in resources]
    for resource in resources:
        if resource.children is None:
            continue
        merged = by_name[resource.name]
        problems = [
            *_problems_of_children(resource, merged),
            *_problems_around_children(
                resource,
                has_dependents=resource.name in parents,
                shares_table=tables.count(resource.table) > 1,
            ),
        ]
        # one at a time: what helps against the first often changes the rest
        for problem, fix in problems[:1]:
            merged.report(
                merged.place("children"),
                problem,
                fix=fix,
                code="deliberate:children",
                on_key=True,
            )


def _problems_of_children(
    resource: Resource, merged: MergedResource
) -> Iterator[tuple[str, str | None]]:
    """Yield why the rows of a parent can't be told apart."""
    fields, by = _parent_fields(merged), resource.children
    if resource.parent is None:
        # a misspelt parent is reported at the placeholder that names it
        if names_parent(merged):
            return
        yield (
            "`children` is about the rows below a parent, and the resource has none",
            "Leave it out",
        )
        return
    included = resource.include_from_parent
    missing = [name for name in fields if name not in included]
    if isinstance(by, ChildRows):
        # one field of the rows can't say which pair of values a call took
        if len(fields) > 1:
            yield (
                "The call takes several fields of the parent, and `replace_by` names one",
                'Write "children": "replace", and add `include_from_parent`',
            )
        if by.replace_by in removed_fields(resource.processing_steps):
            yield f"The steps leave out {by.replace_by}, by which rows are found", "Keep the field"
        return
    if resource.endpoint.list_params:
        yield (
            "A call is for a value of a list, and the rows of a parent come in several calls",
            'Name the field of the rows that holds the value: "children": {"replace_by": "order_id"}',
        )
    elif missing:
        yield (
            "No column says which rows are those of a parent",
            'Name the field of the rows that holds it: "children": {"replace_by": "order_id"}'
            if any(map(may_be_secret, (merged.endpoint.params, *merged.resolved.values())))
            else f'Add "include_from_parent": {json.dumps([*included, *missing])}, or name the field of '
            'the rows that holds it: "children": {"replace_by": "order_id"}',
        )
    columns = {f"_{resource.parent}_{name}" for name in fields}
    for name in sorted(columns & removed_fields(resource.processing_steps)):
        yield f"The steps leave out {name}, by which rows are found", "Keep the field"


def _problems_around_children(
    resource: Resource, *, has_dependents: bool, shares_table: bool
) -> Iterator[tuple[str, str | None]]:
    """Yield what else is in the way of removing what a call doesn't return."""
    disposition = resource.disposition
    if (
        not resource.primary_key
        or disposition.value != "merge"
        or disposition.strategy not in _REPLACED_BY
    ):
        found = disposition.strategy or disposition.reason
        yield (
            f"Rows that stay are merged by their primary key (delete-insert, upsert); this is {found}",
            'Add a "primary_key", and leave `write_disposition` out',
        )
    if resource.endpoint.cursor is not None:
        yield (
            "A call with a cursor returns new rows only, and all others would be removed",
            "Leave `children` or `incremental` out",
        )
    if resource.endpoint.for_each:
        yield (
            "With `for_each` the rows of a parent come in several calls, and each would remove the others'",
            "Leave `children` out, or write a resource for each value",
        )
    if has_dependents:
        yield "The rows of dependents below a removed row would stay", "Leave `children` out"
    if shares_table:
        yield (
            "The rows of another resource in this table would be removed",
            'Leave `children` out, or give the resource a "table_name" of its own',
        )


def _place_of_gone(merged: MergedResource) -> FieldPath | None:
    for index, action in enumerate(merged.endpoint.response_actions or ()):
        if action.known_action == "gone":
            return (*merged.endpoint_location("response_actions"), index)
    return None


def _parent_fields(merged: MergedResource) -> list[str]:
    """Return the fields that the call takes from its parent, each once."""
    params = merged.endpoint.params.values()
    named = [param.field for param in params if isinstance(param, ResolveParam)]
    placed = [expression.strip().split(".", 2)[2] for expression in merged.resolved]
    return list(dict.fromkeys((*named, *placed)))
