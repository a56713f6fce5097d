"""Rules about the fields of an endpoint that dlt doesn't have: what contradicts them, and what they need."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.body_format import BodyFormat, record_path
from restsource_dagster.connector.models.endpoint import (
    EACH_PREFIX,
    ResolveParam,
    placeholder_names,
)
from restsource_dagster.connector.models.job import JOB_PLACEHOLDER, JobRequest
from restsource_dagster.connector.models.paginators import Paginator, paths_in_body
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    describe_value,
    nearest_name,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_own_endpoint", "check_renamed_fields"]


def check_own_endpoint(merged: MergedResource, clients: Paginator | None) -> None:
    """Report what contradicts the fields that dlt doesn't have. `clients` is the client's paginator."""
    _check_response(merged, clients)
    _check_for_each(merged)
    _check_list_params(merged)
    _check_job(merged)


def _check_response(merged: MergedResource, clients: Paginator | None) -> None:
    """Report what contradicts the format of the responses."""
    endpoint, body = merged.endpoint, merged.endpoint.response
    if body is None:
        return
    at, code = merged.endpoint_location("response"), "deliberate:response"
    for name, use in body.misplaced_fields():
        merged.report(
            (*at, name),
            f"`{name}` is for {use}, and this is none",
            fix="Leave it out",
            code=code,
            on_key=True,
        )
    if body.header and body.column_names is not None:
        merged.report(
            (*at, "column_names"),
            "The header names the columns, and `column_names` names them again",
            fix='Add "header": false if the first line is a row; to rename columns, use the step `rename`',
            code=code,
            on_key=True,
        )
    if not body.header and not body.column_names:
        merged.report(
            at,
            "A file without a header needs the names of its columns",
            fix='Add "column_names": ["id", "name"], in the order of the file',
            code=code,
        )
    # with a job the query creates it, and its file has the rows
    if merged.own_endpoint.graphql is not None and endpoint.job is None:
        merged.report(
            at, "The answer to a GraphQL query is JSON", fix="Leave `response` out", code=code
        )
    # the client's paginator holds for endpoints that name none
    _check_records_of_format(merged, body, endpoint.paginator or clients)


def _check_records_of_format(
    merged: MergedResource, body: BodyFormat, paginator: Paginator | None
) -> None:
    """Report a `data_selector`, or a paginator, that reads a JSON body where there is none."""
    endpoint, code = merged.endpoint, "deliberate:response"
    selector = endpoint.data_selector
    if body.format in ("csv", "jsonl") and selector:
        merged.report(
            merged.endpoint_location("data_selector"),
            f"Each row of a {body.format} file is a record, so there is nothing to select",
            fix="Leave `data_selector` out; to take a part of each record, use a processing step",
            code=code,
            on_key=True,
        )
    # the value of a reference is known in a run only
    path = record_path(without_references(selector)) if selector else None
    if body.format == "xml" and path is None:
        merged.report(
            merged.endpoint_location("data_selector" if selector else "response"),
            "The records of XML are found by the names of the elements that lead to them",
            found=describe_value(selector) if selector else None,
            fix='Write "data_selector" with all names from the root on, such as `orders.order`',
            code=code,
        )
    reads_body = paths_in_body(paginator)
    if body.format in ("csv", "jsonl", None) and reads_body and endpoint.job is None:
        merged.report(
            merged.endpoint_location("paginator" if endpoint.paginator else "response"),
            f"The paginator reads `{reads_body[0]}` in a body of JSON or XML"
            + ("" if body.format is None else f", and the body is {body.format}"),
            fix='Say "format": "json" or "xml" if it is one of them; else use `header_link`, '
            '`header_cursor`, `page_number` or `offset`, with "total_path": null',
            code=code,
        )


_FOR_EACH = "deliberate:for-each"


def _check_for_each(merged: MergedResource) -> None:
    """Report lists of `for_each` that would ask for the same rows twice, or for none."""
    lists, at = merged.endpoint.for_each, merged.endpoint_location("for_each")
    # a list of a parent makes a call for each value, too
    if lists or merged.endpoint.list_params:
        _check_calls_per_value(merged)
    for name, values in (lists or {}).items():
        _check_each_list(merged, name, values)
    if lists is not None and not lists:
        merged.report(
            at, "`for_each` has no list", fix='Write {"site": ["a", "b"]}', code=_FOR_EACH
        )
    known = [f"{EACH_PREFIX}{name}" for name in lists or ()]
    for index, name in enumerate(merged.resource.include_from_parent or ()):
        if name.startswith(EACH_PREFIX) and name not in known:
            close = nearest_name(name, known)
            merged.report(
                (*merged.place("include_from_parent"), index),
                f"{quoted_name(name)} is no list of `for_each`",
                expected=quoted_list(known) or None,
                fix=f"Write `{close}`" if close else None,
                code=_FOR_EACH,
            )


def _check_calls_per_value(merged: MergedResource) -> None:
    """Report what is for one call of a resource, or of a parent, where there is one for each value."""
    cursor = merged.endpoint.cursor
    for name in ("window", "token_path") if merged.endpoint.for_each else ():
        if getattr(cursor, name, None):
            merged.report(
                (*merged.endpoint_location("incremental"), name),
                f"`{name}` is for one cursor, and with `for_each` each value has its own",
                fix=f"Leave `{name}` out, or write a resource for each value",
                code=_FOR_EACH,
                on_key=True,
            )
    # the rows of one value can't be told from those of the parent's others
    if merged.endpoint.has_action("gone"):
        merged.report(
            merged.endpoint_location("response_actions"),
            "`gone` says that a parent is gone, and here a call is for a value of a list",
            fix='Write "action": "ignore"',
            code=_FOR_EACH,
        )


def _check_each_list(merged: MergedResource, name: str, values: list[Any]) -> None:
    at = (*merged.endpoint_location("for_each"), name)
    if not values:
        merged.report(at, "The list is empty, so nothing is asked for", code=_FOR_EACH)
    for index, value in enumerate(values):
        # in the order of the file, so that the second one is marked
        if value in values[:index]:
            merged.report(
                (*at, index),
                "The value is there twice, and its rows would come twice",
                found=describe_value(value),
                fix="Leave one of them out",
                code=_FOR_EACH,
            )
    placeholder = f"{EACH_PREFIX}{name}"
    if not merged.endpoint.mentions(f"{{{placeholder}"):
        merged.report(
            at,
            f"No request has {quoted_name(f'{{{placeholder}}}')}, so each value asks for the same",
            fix=f"Write `{{{placeholder}}}` in the path, a param, a header or the body",
            code=_FOR_EACH,
            on_key=True,
        )


def _check_list_params(merged: MergedResource) -> None:
    """Report what contradicts a param with several values of a parent, or with a batch of them."""
    endpoint, code = merged.endpoint, "deliberate:batch"
    lists = endpoint.list_params
    # the first is fine: each further one would multiply the calls
    for name in list(lists)[1:]:
        merged.report(
            merged.param_location(name),
            f"{quoted_list(lists, 'and')} have several values, and a call takes one list only",
            fix="Load the list as a resource of its own, and take it as the parent",
            code=code,
        )
    for name, param in endpoint.resolve_params.items():
        _check_batch(merged, name, param)


def _check_batch(merged: MergedResource, name: str, param: ResolveParam) -> None:
    """Report what contradicts a batch of values in one call, or has no effect without one."""
    endpoint, code = merged.endpoint, "deliberate:batch"
    at = merged.param_location(name)
    if param.batch is None and "separator" in param.given:
        merged.report(
            (*at, "separator"),
            "`separator` is for a batch, and a call takes one value",
            fix='Add "batch": 100, or leave `separator` out',
            code=code,
            on_key=True,
        )
    if param.batch is None:
        return
    # in a query a list is sent as a param for each value
    if param.separator is None and f"{{{name}}}" in endpoint.path:
        merged.report(
            (*at, "separator"),
            "A batch that is a list can't stand in the path",
            fix='Write what stands between the values: "separator": ","',
            code=code,
            on_key=True,
        )
    if endpoint.cursor is not None:
        merged.report(
            (*at, "batch"),
            "A batch has no cursor of its own: the next run would make up others",
            fix="Leave `incremental` out; with a cursor in the parent, only its new rows are asked for",
            code=code,
            on_key=True,
        )
    if any(
        # a value of `for_each` is the same for all rows of the call
        not one.startswith(EACH_PREFIX)
        for one in merged.resource.include_from_parent or ()
    ):
        merged.report(
            merged.place("include_from_parent"),
            "A call of a batch has the rows of several parents",
            fix="Leave it out, and join the tables by a field of the rows",
            code=code,
        )


def _check_job(merged: MergedResource) -> None:
    """Report what contradicts a job, and requests about it that don't name it."""
    job = merged.endpoint.job
    if job is None:
        return
    at, code = merged.endpoint_location("job"), "deliberate:job"
    # both is as wrong as neither
    if (job.url_path is None) == (job.download is None):
        merged.report(
            at,
            "Either `url_path` or `download` says where the file is",
            fix='Write "url_path" with the path of the URL in the answer, or "download" with a request',
            code=code,
        )
    for value in job.failed:
        if value in job.done:
            merged.report(
                (*at, "failed"),
                f"{quoted_name(str(value))} can't mean both that the job is done and that it has failed",
                fix="Leave it out of one of the two",
                code=code,
            )
    for name in ("status", "download", "delete"):
        if (request := getattr(job, name)) is not None:
            _check_job_request(merged, request, (*at, name))
    _check_beside_job(merged)


def _check_beside_job(merged: MergedResource) -> None:
    """Report what is for requests whose answers have rows: the request here creates a job."""
    endpoint, code = merged.endpoint, "deliberate:job"
    others = {
        "for_each": endpoint.for_each,
        # one page is what a job's file is
        "paginator": endpoint.paginator not in (None, "single_page"),
    }
    for name in (name for name, is_given in others.items() if is_given):
        merged.report(
            merged.endpoint_location(name),
            f"`{name}` is for requests whose answers have rows, and the request here creates a job",
            fix="Leave it out, and ask for all rows by one job",
            code=code,
            on_key=True,
        )
    if endpoint.parent_fields:
        merged.report(
            merged.endpoint_location("job"),
            "A job for each record of a parent is not supported",
            fix="Ask for the rows of all parents by one job",
            code=code,
            on_key=True,
        )
    cursor = endpoint.cursor
    for name in ("window", "token_path"):
        if getattr(cursor, name, None):
            merged.report(
                (*merged.endpoint_location("incremental"), name),
                f"`{name}` is for requests whose answers have rows, and the request here creates a job",
                fix="Leave it out",
                code=code,
                on_key=True,
            )


def _check_job_request(merged: MergedResource, request: JobRequest, at: FieldPath) -> None:
    """Report a placeholder that is none of a job, and a request that doesn't name the job."""
    names = set()
    for text in _texts_of([request.path, request.params, request.body]):
        try:
            names.update(placeholder_names(without_references(text)))
        except ValueError:
            merged.report(
                at,
                "A single brace is no placeholder",
                fix="Write a literal brace twice: `{{`",
                code="deliberate:job",
            )
    # cursors and params are part of the question that the job answers
    if names - {JOB_PLACEHOLDER}:
        merged.report(
            at,
            "A request about a job has a placeholder that is not `{job.id}`",
            fix="Write `{job.id}`; what else changes goes into the request that creates the job",
            code="deliberate:job",
        )
    if not names:
        merged.report(
            at,
            "The request does not say which job it is about",
            fix='Write `{job.id}` in it, such as "path": "exports/{job.id}"',
            code="deliberate:job",
        )


def _texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        # a key may have a placeholder as well
        yield from _texts_of([*value, *value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from _texts_of(item)


def check_renamed_fields(merged_resources: Sequence[MergedResource]) -> None:
    """Refuse `rename_from` a resource that is unknown, or whose rows no single call returns."""
    by_name = {merged.name: merged for merged in merged_resources}
    for merged in merged_resources:
        rename = merged.resource.rename_from
        if rename is None or not merged.is_checkable:
            continue
        for problem, fix in _problems_of_renaming(merged, by_name.get(rename.resource), by_name):
            merged.report(
                (*merged.place("rename_from"), "resource"),
                problem,
                fix=fix,
                code="deliberate:rename-from",
            )
            # the first problem explains the others
            break


def _problems_of_renaming(
    merged: MergedResource, other: MergedResource | None, known: Iterable[str]
) -> Iterator[tuple[str, str]]:
    others = [name for name in known if name != merged.name]
    if other is None or other is merged:
        wanted = merged.resource.rename_from.resource if merged.resource.rename_from else ""
        close = nearest_name(wanted, others)
        yield (
            "The labels are in the rows of another resource, and there is no other of this name",
            f'Write "{close}"' if close else "Add a resource that lists the fields",
        )
        return
    endpoint = other.endpoint
    if other.parent or endpoint.for_each or endpoint.job:
        yield (
            f"The rows of {quoted_name(other.name)} are those of several calls, or of a job",
            "Name a resource that is a plain list",
        )
    # an old field would lose its label as soon as it stops changing
    if endpoint.cursor is not None or endpoint.token is not None:
        yield (
            f"{quoted_name(other.name)} returns changed rows only, and all labels are needed",
            "Add a resource that lists all fields, without `incremental`",
        )
    if merged.resource.backfill is not None:
        yield (
            "A backfill doesn't know which names the live runs have given",
            "Leave `backfill` or `rename_from` out",
        )
