"""dlt's nine types of paginator: how the next page is found.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#pagination
"""

from collections.abc import Iterator
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
    count_from_one,
)
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
    quoted_list,
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
    "PagingRules",
    "paginator_findings",
    "paths_in_body",
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


class PagingRules(FileModel):
    """What ends the paging, beside the paginator's own end, and what only the first page is asked with.

    dlt has `has_more_path` in three of its paginators, and none of the other fields.
    """

    end_path: MaybeJsonPath = Field(
        default=None,
        description="JSON path of a boolean in the response: true if this is the last page. Not part of "
        "dlt's configuration.",
    )
    stop_when_repeated: Flag | None = Field(
        default=None,
        description="`true`: a page that repeats an earlier one, or a next page that was asked for before, "
        "is the end. If left out, it is an error. Not part of dlt's configuration.",
    )
    first_page_params: list[Text] | None = Field(
        default=None,
        description="Names of `params` that only the first page may have. Not part of dlt's configuration.",
    )
    max_rows: Annotated[int, *count_from_one(100_000_000)] | None = Field(
        default=None,
        description="How many rows the API returns to one query, such as 10000 in many searches. Before more "
        "are asked for, the paging starts anew from the cursor of the last row. Needs `row_order`: `asc`, a "
        "cursor that is sent, and merged rows. Not part of dlt's configuration.",
    )
    has_more_path: MaybeJsonPath = Field(default=None, description=_HAS_MORE_DESCRIPTION)


class JsonLinkPaginator(PagingRules):
    """Follows the URL of the next page in the body of the response."""

    type: Literal["json_link", "json_response"] = Field(
        description="`json_link`, or its old name `json_response`."
    )
    next_url_path: JsonPath = Field(default="next", description="JSON path of the next page's URL.")


class HeaderLinkPaginator(PagingRules):
    """Follows the `Link` header of the response, as in GitHub's API, or a URL in another header."""

    type: Literal["header_link"] = Field(description="Always `header_link`.")
    links_next_key: Text | None = Field(
        default="next", description="The relation (`rel`) of the link to follow."
    )
    next_url_header: Text | None = Field(
        default=None,
        description="A header whose value is the next page's URL, such as `Next-Page`, instead of the "
        "`Link` header. Not part of dlt's configuration.",
    )


class HeaderCursorPaginator(PagingRules):
    """Reads a cursor from a header of the response and sends it as a query parameter."""

    type: Literal["header_cursor"] = Field(description="Always `header_cursor`.")
    cursor_key: Text | None = Field(default="next", description="The header with the cursor.")
    cursor_param: Text | None = Field(
        default="cursor", description="The query parameter that sends the cursor."
    )


class CursorPaginator(PagingRules):
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


class PageNumberPaginator(PagingRules):
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
    total_header: Text | None = Field(
        default=None,
        description="A header of the response with the total number of pages, instead of `total_path`: "
        "`X-WP-TotalPages`. Not part of dlt's configuration.",
    )
    maximum_page: WholeNumber | None = Field(
        default=None, description="The page number at which to stop, even if there are more pages."
    )
    stop_after_empty_page: Flag | None = Field(default=True, description=_STOP_DESCRIPTION)


class OffsetPaginator(PagingRules):
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
    total_header: Text | None = Field(
        default=None,
        description="A header of the response with the total number of records, instead of `total_path`: "
        "`Total-Records`. Not part of dlt's configuration.",
    )
    maximum_offset: WholeNumber | None = Field(
        default=None, description="The offset at which to stop, even if there are more records."
    )
    stop_after_empty_page: Flag | None = Field(default=True, description=_STOP_DESCRIPTION)


class SinglePagePaginator(FileModel):
    """The response is the only page. No further request is sent."""

    type: Literal["single_page"] = Field(description="Always `single_page`.")


class AutoPaginator(PagingRules):
    """dlt detects the paginator from the first response."""

    type: Literal["auto"] = Field(description="Always `auto`.")


# With a member of its own, an unknown type is one finding, and none for each field of each known type.
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

# dlt's constructors raise for two of a pair, and fall back to a usual name if both are left out.
_EXCLUSIVE_FIELDS: dict[type[FileModel], tuple[tuple[str, str], ...]] = {
    OffsetPaginator: (("offset_param", "offset_body_path"), ("limit_param", "limit_body_path")),
    PageNumberPaginator: (("page_param", "page_body_path"),),
}
# What ends the paging beside a page without rows, which an API may never send.
_STOP_FIELDS: dict[type[FileModel], tuple[str, ...]] = {
    OffsetPaginator: ("total_path", "total_header", "maximum_offset", "has_more_path", "end_path"),
    PageNumberPaginator: (
        "total_path",
        "total_header",
        "maximum_page",
        "has_more_path",
        "end_path",
    ),
}
# Names that dlt looks up as they are: it finds nothing under an empty one, and takes that for the end.
_NEXT_PAGE_NAMES: dict[type[FileModel], tuple[str, ...]] = {
    HeaderLinkPaginator: ("links_next_key",),
    HeaderCursorPaginator: ("cursor_key", "cursor_param"),
}


def paths_in_body(paginator: Paginator | None) -> tuple[str, ...]:
    """Return the fields by which a paginator reads the JSON of each response."""
    if isinstance(paginator, str):
        return {
            "json_link": ("next_url_path",),
            "json_response": ("next_url_path",),
            "cursor": ("cursor_path",),
        }.get(paginator, ())
    if isinstance(paginator, JsonLinkPaginator):
        return ("next_url_path",)
    if isinstance(paginator, CursorPaginator):
        return ("cursor_path",)
    fields = ("has_more_path", "end_path", "total_path")
    return tuple(name for name in fields if paginator and paginator.given.get(name))


def paginator_findings(paginator: Paginator | None, at: FieldPath) -> Iterator[Finding]:
    """Yield what the paginator's constructor in dlt would refuse, or could not start from."""
    # The short form can't name a limit, and dlt has no default for it.
    if paginator == "offset":
        yield Finding(
            json_pointer(at),
            "An offset paginator needs its limit",
            fix='Write {"type": "offset", "limit": 100}',
        )
    if not isinstance(paginator, FileModel):
        return
    yield from _endless_findings(paginator, at)
    yield from _contradiction_findings(paginator, at)
    if isinstance(paginator, OffsetPaginator | PageNumberPaginator):
        for pair in _EXCLUSIVE_FIELDS[type(paginator)]:
            yield from _pair_findings(paginator, pair, at)
        yield from _stop_findings(paginator, at)
        yield from _start_findings(paginator, at)
    # Unlike above, dlt refuses the two even if one of them is an empty text.
    if isinstance(paginator, CursorPaginator) and None not in (
        paginator.cursor_param,
        paginator.cursor_body_path,
    ):
        yield _both_given_finding(("cursor_param", "cursor_body_path"), at)


def _contradiction_findings(paginator: FileModel, at: FieldPath) -> Iterator[Finding]:
    """Yield two places for one thing, and a param of the paging that only the first page has."""
    pairs = (("links_next_key", "next_url_header"), ("total_path", "total_header"))
    for usual, header in pairs:
        given = getattr(paginator, header, None)
        if given is not None and usual in paginator.model_fields_set and getattr(paginator, usual):
            yield Finding(
                json_pointer((*at, header)),
                f"`{usual}` and `{header}` are given, and only one of them can be",
                fix=f"Leave out `{usual}`, or `{header}`",
                on_key=True,
                code="deliberate:paging-end",
            )
    for index, name in enumerate(getattr(paginator, "first_page_params", None) or ()):
        if name in {getattr(paginator, param, None) or usual for param, usual in _POSITION_PARAMS}:
            yield Finding(
                json_pointer((*at, "first_page_params", index)),
                f"`{name}` says which page is asked for, so every page needs it",
                fix="Leave it out of `first_page_params`",
                code="deliberate:paging-end",
            )


_POSITION_PARAMS = (
    ("cursor_param", "cursor"),
    ("page_param", "page"),
    ("offset_param", "offset"),
    ("limit_param", "limit"),
)
"""The params of a paginator that name the page, and what they are called if the file does not say."""


def _endless_findings(paginator: FileModel, at: FieldPath) -> Iterator[Finding]:
    """Yield settings with which only the first page is requested, once or forever."""
    for name in _NEXT_PAGE_NAMES.get(type(paginator), ()):
        if not getattr(paginator, name):
            yield Finding(
                json_pointer((*at, name)),
                f"`{name}` is empty, so the next page can't be found",
                fix="Leave it out for the usual name, or give a name",
                code="deliberate:no-name",
            )
    # dlt adds the limit to the offset, so the same page would be requested again and again.
    if isinstance(paginator, OffsetPaginator) and paginator.limit < 1:
        yield Finding(
            json_pointer((*at, "limit")),
            "A page without rows never leads to the next one",
            found=describe_value(paginator.limit),
            expected="a whole number from 1",
            fix='Write the size of a page, such as "limit": 100',
            code="deliberate:no-limit",
        )


def _pair_findings(paginator: FileModel, pair: tuple[str, str], at: FieldPath) -> Iterator[Finding]:
    param, body = (getattr(paginator, name) for name in pair)
    if param and body:
        yield _both_given_finding(pair, at)
    # None means the usual name, and an empty text means none: then nothing would be sent.
    elif (param is not None or body is not None) and not param and not body:
        empty = pair[0] if param is not None else pair[1]
        yield Finding(
            json_pointer((*at, empty)),
            f"`{empty}` is empty",
            fix="Leave it out for the usual name, or give a name",
        )


def _both_given_finding(pair: tuple[str, str], at: FieldPath) -> Finding:
    return Finding(
        json_pointer((*at, pair[1])),
        f"`{pair[0]}` and `{pair[1]}` are given, and only one of them can be",
        fix=f"Keep `{pair[0]}` for the query, or `{pair[1]}` for a JSON body",
        on_key=True,
    )


def _stop_findings(
    paginator: OffsetPaginator | PageNumberPaginator, at: FieldPath
) -> Iterator[Finding]:
    # `null` counts as given up: `"total_path": null` says that the API has no total.
    stops = _STOP_FIELDS[type(paginator)]
    knows_end = any(
        getattr(paginator, name) is not None
        # a header takes the place of the usual path
        and not (
            name == "total_path"
            and "total_path" not in paginator.model_fields_set
            and paginator.total_header
        )
        for name in stops
    )
    knows_end = knows_end or bool(paginator.stop_when_repeated)
    if not knows_end and not paginator.stop_after_empty_page:
        yield Finding(
            json_pointer(at),
            "Nothing tells the paginator when to stop",
            expected=f"one of {quoted_list(stops)}, or `stop_after_empty_page`",
            fix='Leave out "stop_after_empty_page": false',
        )


def _start_findings(
    paginator: OffsetPaginator | PageNumberPaginator, at: FieldPath
) -> Iterator[Finding]:
    if isinstance(paginator, OffsetPaginator):
        start, first = "offset", paginator.offset
    else:
        start = "base_page"
        first = paginator.base_page if paginator.page is None else paginator.page
    if first is None:
        yield Finding(
            json_pointer((*at, start)),
            f"`{start}` is null, and dlt can't count from there",
            fix="Leave it out, or write 0",
            code="deliberate:no-start",
        )
