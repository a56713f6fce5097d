"""Rules about the fields of an endpoint that dlt doesn't have: what contradicts them, and what they need."""

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.body_format import BodyFormat, record_path
from restsource_dagster.connector.models.paginators import Paginator, paths_in_body
from restsource_dagster.connector.validation.diagnostics import describe_value
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_response"]


def check_response(merged: MergedResource, clients: Paginator | None) -> None:
    """Report what contradicts the format of the responses. `clients` is the paginator of the client."""
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
    if merged.own_endpoint.graphql is not None:
        merged.report(
            at, "The answer to a GraphQL query is JSON", fix="Leave `response` out", code=code
        )
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
    if body.format in ("csv", "jsonl", None) and reads_body:
        merged.report(
            merged.endpoint_location("paginator" if endpoint.paginator else "response"),
            f"The paginator reads `{reads_body[0]}` in a body of JSON or XML"
            + ("" if body.format is None else f", and the body is {body.format}"),
            fix='Say "format": "json" or "xml" if it is one of them; else use `header_link`, '
            '`header_cursor`, `page_number` or `offset`, with "total_path": null',
            code=code,
        )
