"""dlt's nine types of paginator: how the next page is found.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#pagination
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, Tag

from restsource_dagster.connector.models.fields import (
    FileModel,
    Flag,
    JsonPath,
    MaybeJsonPath,
    Text,
    WholeNumber,
    by_kind,
    closest_kind,
)

__all__ = [
    "PAGINATOR_ALIASES",
    "PAGINATOR_TYPES",
    "CursorPaginator",
    "HeaderCursorPaginator",
    "HeaderLinkPaginator",
    "OffsetPaginator",
    "PageNumberPaginator",
    "Paginator",
    "PaginatorType",
]

PaginatorType = Literal[
    "json_link",
    "json_response",
    "header_link",
    "header_cursor",
    "auto",
    "single_page",
    "cursor",
    "offset",
    "page_number",
]
PAGINATOR_TYPES: tuple[str, ...] = get_args(PaginatorType)
PAGINATOR_ALIASES = {
    "json_response_cursor": "cursor",
    "json_cursor": "cursor",
    "cursor_based": "cursor",
    "next_link": "json_link",
    "next_url": "json_link",
    "link": "header_link",
    "link_header": "header_link",
    "page": "page_number",
    "page_num": "page_number",
    "pagenumber": "page_number",
    "page_increment": "page_number",
    "limit_offset": "offset",
    "offset_limit": "offset",
    "offset_increment": "offset",
    "none": "single_page",
    "single": "single_page",
}
"""Common spellings of a type, and the type that they mean."""

_STOP_DESCRIPTION = (
    "Stops at a page without rows. The paginator needs this, a total, a maximum or "
    "`has_more_path` to know when to stop."
)
_HAS_MORE_DESCRIPTION = "JSON path of a boolean in the response: true if more pages follow."


class JsonLinkPaginator(FileModel):
    """Follows the URL of the next page in the body of the response."""

    type: Literal["json_link", "json_response"] = Field(
        description="`json_link`, or its old name `json_response`."
    )
    next_url_path: JsonPath = Field(default="next", description="JSON path of the next page's URL.")


class HeaderLinkPaginator(FileModel):
    """Follows the `Link` header of the response, as in GitHub's API."""

    type: Literal["header_link"] = Field(description="Always `header_link`.")
    links_next_key: Text | None = Field(
        default="next", description="The relation (`rel`) of the link to follow."
    )


class HeaderCursorPaginator(FileModel):
    """Reads a cursor from a header of the response and sends it as a query parameter."""

    type: Literal["header_cursor"] = Field(description="Always `header_cursor`.")
    cursor_key: Text | None = Field(default="next", description="The header with the cursor.")
    cursor_param: Text | None = Field(
        default="cursor", description="The query parameter that sends the cursor."
    )


class CursorPaginator(FileModel):
    """Reads a cursor from the body of the response and sends it with the next request."""

    type: Literal["cursor"] = Field(description="Always `cursor`.")
    cursor_path: JsonPath = Field(
        default="cursors.next", description="JSON path of the cursor in the response."
    )
    cursor_param: Text | None = Field(
        default=None,
        description="The query parameter that sends the cursor: `cursor`, unless "
        "`cursor_body_path` is set.",
    )
    cursor_body_path: Text | None = Field(
        default=None,
        description="Path of the cursor in the JSON body of the request, with dots between the "
        "keys. Use it instead of `cursor_param`.",
    )
    stop_after_empty_page: Flag | None = Field(
        default=False, description="Stops at a page without records."
    )
    has_more_path: MaybeJsonPath = Field(default=None, description=_HAS_MORE_DESCRIPTION)


class PageNumberPaginator(FileModel):
    """Sends page numbers in a query parameter or in the JSON body of the request."""

    type: Literal["page_number"] = Field(description="Always `page_number`.")
    base_page: WholeNumber | None = Field(
        default=0, description="The number of the API's first page: 0 or 1."
    )
    page: WholeNumber | None = Field(
        default=None, description="The page to start from. If left out, `base_page`."
    )
    page_param: Text | None = Field(
        default=None,
        description="The query parameter that sends the page number: `page`, unless "
        "`page_body_path` is set.",
    )
    page_body_path: Text | None = Field(
        default=None,
        description="Path of the page number in the JSON body of the request. Use it instead of "
        "`page_param`.",
    )
    total_path: MaybeJsonPath = Field(
        default="total",
        description="JSON path of the total number of pages in the response; `null` if it has none.",
    )
    maximum_page: WholeNumber | None = Field(
        default=None, description="The page number at which to stop, even if there are more pages."
    )
    stop_after_empty_page: Flag | None = Field(default=True, description=_STOP_DESCRIPTION)
    has_more_path: MaybeJsonPath = Field(default=None, description=_HAS_MORE_DESCRIPTION)


class OffsetPaginator(FileModel):
    """Requests `limit` records from an offset, in query parameters or in the JSON body."""

    type: Literal["offset"] = Field(description="Always `offset`.")
    limit: WholeNumber = Field(description="Records per page.")
    offset: WholeNumber | None = Field(default=0, description="The offset of the first page.")
    offset_param: Text | None = Field(
        default=None,
        description="The query parameter that sends the offset: `offset`, unless "
        "`offset_body_path` is set.",
    )
    offset_body_path: Text | None = Field(
        default=None,
        description="Path of the offset in the JSON body of the request. Use it instead of "
        "`offset_param`.",
    )
    limit_param: Text | None = Field(
        default=None,
        description="The query parameter that sends the limit: `limit`, unless `limit_body_path` "
        "is set.",
    )
    limit_body_path: Text | None = Field(
        default=None,
        description="Path of the limit in the JSON body of the request. Use it instead of "
        "`limit_param`.",
    )
    total_path: MaybeJsonPath = Field(
        default="total",
        description="JSON path of the total number of records in the response; `null` if it has "
        "none.",
    )
    maximum_offset: WholeNumber | None = Field(
        default=None, description="The offset at which to stop, even if there are more records."
    )
    stop_after_empty_page: Flag | None = Field(default=True, description=_STOP_DESCRIPTION)
    has_more_path: MaybeJsonPath = Field(default=None, description=_HAS_MORE_DESCRIPTION)


class SinglePagePaginator(FileModel):
    """The response is the only page. No further request is sent."""

    type: Literal["single_page"] = Field(description="Always `single_page`.")


class AutoPaginator(FileModel):
    """dlt detects the paginator from the first response."""

    type: Literal["auto"] = Field(description="Always `auto`.")


class UnknownPaginator(FileModel):
    """A paginator of an unknown type. Only its type is checked."""

    model_config = ConfigDict(extra="allow")

    type: PaginatorType


def _paginator_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "#name"
    if not isinstance(value, dict):
        return None
    # `json_response` is dlt's former name of `json_link`.
    return closest_kind(value.get("type"), PAGINATOR_TYPES, PAGINATOR_ALIASES).replace(
        "json_response", "json_link"
    )


Paginator = Annotated[
    Annotated[PaginatorType, Tag("#name")]
    | Annotated[JsonLinkPaginator, Tag("#json_link")]
    | Annotated[HeaderLinkPaginator, Tag("#header_link")]
    | Annotated[HeaderCursorPaginator, Tag("#header_cursor")]
    | Annotated[CursorPaginator, Tag("#cursor")]
    | Annotated[PageNumberPaginator, Tag("#page_number")]
    | Annotated[OffsetPaginator, Tag("#offset")]
    | Annotated[SinglePagePaginator, Tag("#single_page")]
    | Annotated[AutoPaginator, Tag("#auto")]
    | Annotated[UnknownPaginator, Tag("#unknown")],
    by_kind(_paginator_kind, custom_error_message="the name of a type of paginator, or an object"),
]
