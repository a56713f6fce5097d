"""Guess what an OpenAPI document does not say: how pages are asked for, and the key.

Each guess notes the params and fields that it was made of.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from restsource_dagster.authoring.importing.imported_api import ImportedPaginator, literal
from restsource_dagster.authoring.importing.openapi_schemas import (
    RecordList,
    References,
    Shape,
    field_path,
    scalars_of,
    shape_of,
)
from restsource_dagster.authoring.importing.param_names import (
    CURSOR_PARAMS,
    LIMIT_PARAMS,
    OFFSET_PARAMS,
    PAGE_PARAMS,
    is_named,
    normal_name,
)
from restsource_dagster.authoring.importing.source_pieces import Piece
from restsource_dagster.connector.models.paginators import (
    CursorPaginator,
    HeaderLinkPaginator,
    JsonLinkPaginator,
    OffsetPaginator,
    PageNumberPaginator,
)

__all__ = ["DocumentedParam", "guess_key", "guess_paginator", "singular"]


@dataclass(frozen=True)
class DocumentedParam:
    """A param of an operation: where it is sent, and its schema (in Swagger 2 the param itself)."""

    name: str
    place: str
    is_required: bool
    piece: Piece
    schema: Piece

    @property
    def type(self) -> str:
        """Its type; "" if the document says none."""
        given = self.schema.get("type").value
        if isinstance(given, list):
            given = next((each for each in given if each != "null"), "")
        return given if isinstance(given, str) else ""

    @property
    def description(self) -> str:
        """What the document says of it."""
        return self.piece.get("description").text or self.schema.get("description").text or ""


_Fields = Sequence[tuple[tuple[str, ...], Shape]]
_HAS_MORE = (
    "has_more",
    "hasmore",
    "more",
    "has_next",
    "has_next_page",
    "more_items",
    "is_truncated",
)
_ENDS = ("is_last", "is_last_page", "last", "done", "finished", "end_of_list")
_TOTAL_ROWS = (
    "total",
    "total_count",
    "total_results",
    "total_items",
    "total_records",
    "total_size",
)
_TOTAL_PAGES = ("total_pages", "pages", "page_count", "last_page", "num_pages", "pages_total")
_NEXT_CURSORS = (
    *("next_cursor", "next_page_token", "next_token", "next_marker", "end_cursor", "cursor"),
    *("continuation_token", "next_page_cursor", "pagination_token", "page_token", "next_page"),
    *("next", "after", "starting_after", "bookmark", "marker", "scroll_id", "scroll_param"),
)
_NEXT_LINKS = (
    *("next", "next_url", "next_page_url", "next_page_uri", "next_link", "next_uri", "next_href"),
    *("odata_next_link", "next_page", "next_records_url", "next_page_link"),
)


def guess_paginator(
    params: Sequence[DocumentedParam],
    found: RecordList,
    references: References,
    headers: Piece,
    target: str,
    sent: dict[str, Any],
) -> tuple[ImportedPaginator | None, frozenset[str]]:
    """Return the paginator, and the params that it sends itself. Puts the page's size into `sent`."""
    fields = list(scalars_of(found.answer, references)) if found.answer.kind == "object" else []
    query = [each for each in params if each.place == "query"]
    limit = next((each for each in query if is_named(each.name, LIMIT_PARAMS)), None)
    size = _page_size(limit, target) if limit else None
    guess = _PagingGuess(query, fields, found, f"{target}.paginator")
    paginator = (
        # in the order of how sure they are: a link says all, an offset the least
        guess.next_link()
        or guess.cursor()
        or guess.page_number()
        or guess.offset(limit, size)
        or guess.link_header(headers)
    )
    if paginator is None:
        guess.suggest()
    # an offset paginator sends the size itself, as its `limit`
    if limit and size and not isinstance(paginator, OffsetPaginator):
        sent[literal(limit.name)] = size
    return paginator, frozenset(guess.claimed)


@dataclass
class _PagingGuess:
    query: Sequence[DocumentedParam]
    fields: _Fields
    found: RecordList
    target: str

    def __post_init__(self) -> None:
        self.claimed: set[str] = set()

    def _param(self, names: Sequence[str]) -> DocumentedParam | None:
        return next((each for each in self.query if is_named(each.name, names)), None)

    def _field(self, names: Sequence[str], *types: str) -> tuple[str, Shape] | None:
        """Return the JSON path of the first field with such a name; its piece is noted by the caller."""
        known = {name: rank for rank, name in enumerate(names)}
        fitting = [
            (known[_last_name(at)], len(at), field_path(at), shape)
            for at, shape in self.fields
            if _last_name(at) in known and (not types or shape.type in types)
        ]
        # the best name first, and of equal names the one nearest to the top
        best = min(fitting, key=lambda each: each[:2], default=None)
        return best[2:] if best else None

    def _take(self, param: DocumentedParam) -> str:
        self.claimed.add(param.name)
        param.piece.guessed(self.target, f"the name of the param `{param.name}`")
        return literal(param.name)

    def _see(self, found: tuple[str, Shape] | None) -> str | None:
        if found is None:
            return None
        found[1].piece.guessed(self.target, f"the name of the field `{found[0]}` of the answer")
        return found[0]

    def next_link(self) -> ImportedPaginator | None:
        """A link to the next page in the answer."""
        for at, shape in self.fields:
            name = _last_name(at)
            above = normal_name(at[-2]) if len(at) > 1 else ""
            # HAL: `_links.next.href`
            is_next = name in _NEXT_LINKS or (name == "href" and above == "next")
            if is_next and _is_link(name, above, shape):
                path = self._see((field_path(at), shape))
                return JsonLinkPaginator.of({"type": "json_link", "next_url_path": path or "next"})
        return None

    def cursor(self) -> ImportedPaginator | None:
        """A cursor in the answer that a param takes, or the id of the last record."""
        param = self._param(CURSOR_PARAMS)
        if param is None:
            return None
        field = self._field(_NEXT_CURSORS) or self._field((normal_name(param.name),))
        # without it a cursor that stays the same on the last page would not end
        more = self._field(_HAS_MORE, "boolean")
        if field is not None:
            more_path = self._see(more)
            path = self._see(field) or ""
            return CursorPaginator.of(
                {
                    "type": "cursor",
                    "cursor_path": path,
                    "cursor_param": self._take(param),
                    **({"has_more_path": more_path} if more_path else {}),
                }
            )
        key = _key_field(self.found.record, ())
        last_row = normal_name(param.name) in (
            "starting_after",
            "after",
            "last_id",
            "after_id",
            "since_id",
        )
        # Stripe's paging: no cursor in the answer, but a flag
        if last_row and more is not None and key is not None:
            start = "" if self.found.selector == "$" else self.found.selector
            return CursorPaginator.of(
                {
                    "type": "cursor",
                    "cursor_path": f"{start}[-1].{field_path((key,))}",
                    "cursor_param": self._take(param),
                    "has_more_path": self._see(more),
                }
            )
        return self._described_cursor(param, more)

    def _described_cursor(
        self, param: DocumentedParam, more: tuple[str, Shape] | None
    ) -> ImportedPaginator | None:
        """A cursor whose field only the description of the param names."""
        path = _described_path(param)
        if path is None:
            return None
        more_path = self._see(more)
        param.piece.guessed(self.target, f"its description names `{path}` of the answer")
        return CursorPaginator.of(
            {
                "type": "cursor",
                "cursor_path": path,
                "cursor_param": self._take(param),
                **({"has_more_path": more_path} if more_path else {}),
            }
        )

    def suggest(self) -> None:
        """Suggest a cursor paginator for a param whose value no documented field supplies."""
        param = self._param(CURSOR_PARAMS)
        # `after` with a date is a filter
        if param is not None and param.schema.get("format").text not in ("date", "date-time"):
            param.piece.suggested(
                self.target,
                "it asks for the next page, and the document names no field of the answer for it: unless "
                'the answers show it, only the first page is loaded. Write {"type": "cursor", "cursor_path": "<the field>", "cursor_param": '
                f'"{param.name}"}}',
            )

    def page_number(self) -> ImportedPaginator | None:
        """A page's number in a param; perhaps the number of the next one is in the answer."""
        param = self._param(PAGE_PARAMS)
        # a param `page` that is an object is a filter
        if param is None or param.type not in ("integer", "number", "string", ""):
            return None
        following = self._field(("next_page", "next"), "integer")
        # null on the last page, which ends the paging without an empty one
        if following is not None:
            path = self._see(following) or ""
            return CursorPaginator.of(
                {"type": "cursor", "cursor_path": path, "cursor_param": self._take(param)}
            )
        total = self._see(self._field(_TOTAL_PAGES, "integer", "number"))
        more = None if total else self._see(self._field(_HAS_MORE, "boolean"))
        end = None if total or more else self._see(self._field(_ENDS, "boolean"))
        return PageNumberPaginator.of(
            {
                "type": "page_number",
                "base_page": _first_page(param),
                "page_param": self._take(param),
                "total_path": total,
                **({"has_more_path": more} if more else {}),
                **({"end_path": end} if end else {}),
            }
        )

    def offset(self, limit: DocumentedParam | None, size: int | None) -> ImportedPaginator | None:
        """An offset and a limit in params."""
        param = self._param(OFFSET_PARAMS)
        if param is None or limit is None or param.type not in ("integer", "number", "string", ""):
            return None
        total = self._see(self._field(_TOTAL_ROWS, "integer", "number"))
        more = None if total else self._see(self._field(_HAS_MORE, "boolean"))
        self.claimed.add(limit.name)
        return OffsetPaginator.of(
            {
                "type": "offset",
                "limit": size or _USUAL_PAGE_SIZE,
                "offset_param": self._take(param),
                "limit_param": literal(limit.name),
                "total_path": total,
                **({"has_more_path": more} if more else {}),
            }
        )

    def link_header(self, headers: Piece) -> ImportedPaginator | None:
        """A documented header `Link` of the answer."""
        for name, piece in headers.fields():
            if name.lower() == "link":
                piece.guessed(self.target, "the answer has a header `Link`")
                return HeaderLinkPaginator(type="header_link")
        return None


_USUAL_PAGE_SIZE = 100
_QUOTED_NAME = re.compile(r"`([A-Za-z_][\w.]*)`")
# "of a previous request's `response_metadata`", and not "of a previous `ListOrders` call"
_OBJECT_ABOVE = re.compile(
    r"^[^`.;]*\b(?:of|in|inside|from)\b[^`.;]*`([A-Za-z_][\w.]*)`"
    r"(?!\s*(?:call|request|endpoint|method|param))"
)


def _described_path(param: DocumentedParam) -> str | None:
    """Return the field that a description names: "a `next_cursor` of a previous request's `response_metadata`"."""
    names: list[str] = [
        name
        for name in dict.fromkeys(_QUOTED_NAME.findall(param.description))
        if normal_name(name) != normal_name(param.name)
    ]
    named = [name for name in names if normal_name(name.rpartition(".")[2]) in _NEXT_CURSORS]
    # of several it can't be told which one is meant
    if len(named) != 1:
        return None
    above = _OBJECT_ABOVE.search(param.description.partition(f"`{named[0]}`")[2])
    return named[0] if "." in named[0] or above is None else f"{above[1]}.{named[0]}"


def _last_name(at: tuple[str, ...]) -> str:
    return normal_name(at[-1])


def _is_link(name: str, above: str, shape: Shape) -> bool:
    """True if a text is an address, by its format, its names or what is said of it."""
    if shape.type not in ("string", ""):
        return False
    if shape.format in ("uri", "url", "uri-reference", "iri"):
        return True
    if re.search("url|uri|link|href", f"{name} {above}"):
        return True
    example = shape.piece.get("example").text or ""
    said = shape.piece.get("description").text or ""
    return example.startswith(("http", "/")) or bool(
        re.search(r"\b(URL|URI|link)\b", said, re.IGNORECASE)
    )


def _first_page(param: DocumentedParam) -> int:
    """Return the number of the first page: the least or usual value, what is said of it, else 1."""
    for name in ("minimum", "default"):
        number = param.schema.get(name).number
        if number in (0, 1):
            return number
    says_zero = re.search(
        r"zero[- ](based|indexed)|0[- ](based|indexed)|starts? (at|from|with) 0", param.description
    )
    return 0 if says_zero else 1


_SAID_MAXIMUM = re.compile(
    r"max(?:imum)?[^.\d]{0,40}?(\d{1,5})\b|(?:up to|not exceed|between \d+ and|\b[01]\s?(?:-|to|\u2013)\s?)\D{0,3}(\d{2,5})\b",
    re.IGNORECASE,
)
_LARGEST_PAGE = 10_000


def _page_size(limit: DocumentedParam, target: str) -> int | None:
    """Return the largest page that the document allows, else its usual one; None if it says neither."""
    place = f"{target}.params.{limit.name}"
    maximum = limit.schema.get("maximum")
    if maximum.number is not None and 0 < maximum.number <= _LARGEST_PAGE:
        maximum.mapped(place)
        return maximum.number
    said = _SAID_MAXIMUM.search(limit.description)
    if said:
        size = int(said[1] or said[2])
        if 0 < size <= _LARGEST_PAGE:
            limit.piece.guessed(place, "the largest size that its description names")
            return size
    default = limit.schema.get("default")
    if default.number is not None and 0 < default.number <= _LARGEST_PAGE:
        default.mapped(place)
        return default.number
    return None


# ---- the key


def singular(word: str) -> str:
    """Return the singular of an English plural, as far as names need it."""
    for ending, other in (
        ("ies", "y"),
        ("sses", "ss"),
        ("ches", "ch"),
        ("xes", "x"),
        ("ses", "se"),
        ("s", ""),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            return word.removesuffix(ending) + other
    return word


_KEYS = ("id", "uuid", "guid", "sid", "gid", "uri")
_KEYS_OF_LISTS = ("key", "slug", "code", "number")
"""Names of keys that are often unique below one parent only."""


def _key_field(record: Shape, words: Sequence[str], *, is_below: bool = False) -> str | None:
    """Return the field of a record that is its key by its name; None if no name says so."""
    by_name = {normal_name(name): name for name in reversed(list(record.fields))}
    own = [
        f"{singular(normal_name(word))}_{key}" for word in words for key in ("id", "uuid", "key")
    ]
    for name in ("id", *own, *_KEYS, *(() if is_below else _KEYS_OF_LISTS)):
        if name in by_name:
            return by_name[name]
    return None


def guess_key(
    record: Shape, references: References, words: Sequence[str], target: str, *, is_below: bool
) -> str | None:
    """Return the primary key of a record: a value with the name of one."""
    name = _key_field(record, words, is_below=is_below)
    if name is None:
        return None
    shape = shape_of(record.fields[name], references)
    if shape.kind in ("list", "object"):
        return None
    record.fields[name].guessed(f"{target}.primary_key", f"the name of the field `{name}`")
    # in `primary_key` a name is a column's, which the table spells its own way
    return name
