"""How the pages of an answer follow one another: dlt's nine types of paginator.

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

__all__ = ["PAGINATOR_ALIASES", "PAGINATOR_TYPES", "Paginator", "PaginatorType"]

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
"""What people and programs write for the type that they mean."""

_STOP_DESCRIPTION = (
    "Stops at a page without rows. The paginator needs this, a total, a maximum or "
    "`has_more_path` to know when to stop."
)
_HAS_MORE_DESCRIPTION = "JSON path of a boolean in the answer that says whether more pages follow."


class JsonLinkPaginator(FileModel):
    """Follows the URL of the next page that stands in the body of the answer."""

    type: Literal["json_link", "json_response"] = Field(
        description="`json_link`. (`json_response` is its old name.)"
    )
    next_url_path: JsonPath = Field(default="next", description="JSON path of the next page's URL.")


class HeaderLinkPaginator(FileModel):
    """Follows the `Link` header of the answer, as GitHub's API has it."""

    type: Literal["header_link"] = Field(description="Always `header_link`.")
    links_next_key: Text | None = Field(
        default="next", description="The relation (`rel`) of the link to follow."
    )


class HeaderCursorPaginator(FileModel):
    """Takes a cursor from a header of the answer and sends it as a query parameter."""

    type: Literal["header_cursor"] = Field(description="Always `header_cursor`.")
    cursor_key: Text | None = Field(default="next", description="The header that holds the cursor.")
    cursor_param: Text | None = Field(
        default="cursor", description="The query parameter that takes the cursor."
    )


class CursorPaginator(FileModel):
    """Takes a cursor from the body of the answer and sends it with the next request."""

    type: Literal["cursor"] = Field(description="Always `cursor`.")
    cursor_path: JsonPath = Field(
        default="cursors.next", description="JSON path of the cursor in the answer."
    )
    cursor_param: Text | None = Field(
        default=None,
        description="The query parameter that takes the cursor: `cursor`, unless "
        "`cursor_body_path` is given.",
    )
    cursor_body_path: Text | None = Field(
        default=None,
        description="Where the cursor goes in the JSON body of the request, dots between the "
        "keys. Instead of `cursor_param`.",
    )
    stop_after_empty_page: Flag | None = Field(
        default=False, description="Stops at a page without rows."
    )
    has_more_path: MaybeJsonPath = Field(default=None, description=_HAS_MORE_DESCRIPTION)


class PageNumberPaginator(FileModel):
    """Counts pages in a query parameter or in the JSON body of the request."""

    type: Literal["page_number"] = Field(description="Always `page_number`.")
    base_page: WholeNumber | None = Field(
        default=0, description="The number of the first page: 0 or 1, as the API counts."
    )
    page: WholeNumber | None = Field(
        default=None, description="The page to start from; `base_page` if left out."
    )
    page_param: Text | None = Field(
        default=None,
        description="The query parameter that takes the number: `page`, unless `page_body_path` "
        "is given.",
    )
    page_body_path: Text | None = Field(
        default=None,
        description="Where the number goes in the JSON body of the request. Instead of "
        "`page_param`.",
    )
    total_path: MaybeJsonPath = Field(
        default="total",
        description="JSON path of the number of pages in the answer; `null` if it has none.",
    )
    maximum_page: WholeNumber | None = Field(
        default=None, description="The number at which to stop, even if there is more."
    )
    stop_after_empty_page: Flag | None = Field(default=True, description=_STOP_DESCRIPTION)
    has_more_path: MaybeJsonPath = Field(default=None, description=_HAS_MORE_DESCRIPTION)


class OffsetPaginator(FileModel):
    """Asks for `limit` rows from an offset on, in query parameters or in the JSON body."""

    type: Literal["offset"] = Field(description="Always `offset`.")
    limit: WholeNumber = Field(description="Rows per page.")
    offset: WholeNumber | None = Field(default=0, description="The offset of the first page.")
    offset_param: Text | None = Field(
        default=None,
        description="The query parameter that takes the offset: `offset`, unless "
        "`offset_body_path` is given.",
    )
    offset_body_path: Text | None = Field(
        default=None,
        description="Where the offset goes in the JSON body of the request. Instead of "
        "`offset_param`.",
    )
    limit_param: Text | None = Field(
        default=None,
        description="The query parameter that takes the limit: `limit`, unless `limit_body_path` "
        "is given.",
    )
    limit_body_path: Text | None = Field(
        default=None,
        description="Where the limit goes in the JSON body of the request. Instead of "
        "`limit_param`.",
    )
    total_path: MaybeJsonPath = Field(
        default="total",
        description="JSON path of the number of rows in the answer; `null` if it has none.",
    )
    maximum_offset: WholeNumber | None = Field(
        default=None, description="The offset at which to stop, even if there is more."
    )
    stop_after_empty_page: Flag | None = Field(default=True, description=_STOP_DESCRIPTION)
    has_more_path: MaybeJsonPath = Field(default=None, description=_HAS_MORE_DESCRIPTION)


class SinglePagePaginator(FileModel):
    """The answer is all there is: no further request."""

    type: Literal["single_page"] = Field(description="Always `single_page`.")


class AutoPaginator(FileModel):
    """dlt looks at the first answer and picks a paginator by itself."""

    type: Literal["auto"] = Field(description="Always `auto`.")


class UnknownPaginator(FileModel):
    """A paginator whose type is none of the nine: only its type is checked."""

    model_config = ConfigDict(extra="allow")

    type: PaginatorType


def _paginator_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "#name"
    if not isinstance(value, dict):
        return None
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
    by_kind(_paginator_kind, "the name of a type of paginator, or an object"),
]
