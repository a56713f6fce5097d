"""Paginators: the nine types with each of their parameters, as objects and as words."""

from collections.abc import Mapping
from typing import Any

from restsource_dagster_tests.agreement.rows import Row, by, by_json, page, refused
from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = ["ROWS"]

Pages = Mapping[Any, Any]

# The API answers only what it is asked for in the way that the row says: the ids that arrive show
# that every page was asked for, and where the paging stopped.
NEXT = {None: page(1, next="?p=2"), "2": page(2)}
LINKS = {
    None: Answer(page(1), headers={"Link": '<?p=2>; rel="next", <?p=3>; rel="more"'}),
    "2": page(2),
    "3": page(3),
}
CURSORS = {None: page(1, cursors={"next": "b"}), "b": page(2, cursors={"next": None})}
HEADER_CURSORS = {None: Answer(page(1), headers={"next": "b", "X-Next": "b"}), "b": page(2)}
NUMBERED = {"0": page(1), "1": page(2), "2": page(3), "3": page()}
FLAGGED = {"0": page(1, more=True), "1": page(2, more=False), "2": page(3)}
COUNTED = {"0": page(1, total=2), "1": page(2, total=2), "2": page(3)}
OFFSETS = {"0": page(1, 2), "2": page(3, 4), "4": page(5), "5": page()}


def row(name: str, paginator: Any, answers: Any, gives: list[int] | None, **more: Any) -> Row:
    return Row(name, {"paginator": paginator, **more.pop("endpoint", {})}, answers, gives, **more)


def link(name: str, answers: Pages = NEXT, gives: Any = (1, 2), **fields: Any) -> Row:
    return row(name, {"type": "json_link", **fields}, by("p", answers), list(gives))


def header_link(name: str, gives: Any, **fields: Any) -> Row:
    return row(name, {"type": "header_link", **fields}, by("p", LINKS), list(gives))


def header_cursor(name: str, param: str = "cursor", gives: Any = (1, 2), **fields: Any) -> Row:
    paginator = {"type": "header_cursor", **fields}
    return row(name, paginator, by(param, HEADER_CURSORS), list(gives))


def cursor(
    name: str, answers: Pages = CURSORS, gives: Any = (1, 2), param: str = "cursor", **fields: Any
) -> Row:
    return row(name, {"type": "cursor", **fields}, by(param, answers), list(gives))


def numbers(
    name: str, answers: Pages = NUMBERED, gives: Any = (1, 2, 3), param: str = "page", **fields: Any
) -> Row:
    return row(name, {"type": "page_number", **fields}, by(param, answers), list(gives))


def offset(
    name: str,
    answers: Pages = OFFSETS,
    gives: Any = (1, 2, 3, 4, 5),
    param: str = "offset",
    **fields: Any,
) -> Row:
    limit = {fields.get("limit_param") or "limit": "2"}
    return row(
        name, {"type": "offset", "limit": 2, **fields}, by(param, answers, **limit), list(gives)
    )


def in_body(name: str, path: str, answers: Pages, gives: Any, **fields: Any) -> Row:
    endpoint = {"method": "POST", "json": {"q": "all"}}
    return row(name, fields, by_json(path, answers), list(gives), endpoint=endpoint)


def numeric(pages: Pages) -> Pages:
    """The same pages by number instead of text, as they are in a JSON body."""
    return {int(key): body for key, body in pages.items()}


def stopless(name: str, kind: str, **fields: Any) -> Row:
    paginator = {"type": kind, "total_path": None, "stop_after_empty_page": False, **fields}
    return refused(name, endpoint={"paginator": paginator})


def ended(name: str, kind: str, **fields: Any) -> Row:
    """A paginator whose response says that its second page is the last one."""
    answers = {
        key: Answer(
            page(n, next=f"?p={n + 1}", cursors={"next": str(n + 1)}, last=n == 2, more=n < 2),
            headers={
                "next": str(n + 1),
                "Link": f'<?p={n + 1}>; rel="next"',
                "More": f"?p={n + 1}",
            },
        )
        for n, keys in ((1, (None, "0", "1")), (2, ("2", "2")), (3, ("3",)))
        for key in keys
    }
    param = {
        "json_link": "p",
        "header_link": "p",
        "auto": "p",
        "page_number": "page",
        "offset": "offset",
    }
    given = {"type": kind, **fields}
    return row(name, given, by(param.get(kind, "cursor"), answers), [1, 2])


LINKED = ("json_link", "header_link", "header_cursor", "cursor", "auto")


def five_by_four(seen: Seen) -> Any:
    """Five records, of which a query has four at most."""
    since, offset = int(seen.query["since"]), int(seen.query["offset"])
    found = [{"id": number, "at": number} for number in range(1, 6) if number >= since]
    return page(*found[offset : offset + 2]) if offset < 4 else Answer(status=400)


CAPPED = {"type": "offset", "limit": 2, "total_path": None, "max_rows": 4}


ROWS = (
    row(
        "max_rows",
        CAPPED,
        five_by_four,
        [1, 2, 3, 4, 5],
        endpoint={
            "incremental": {
                "cursor_path": "at",
                "initial_value": 0,
                "start_param": "since",
                "row_order": "asc",
            }
        },
        resource={"primary_key": "id"},
    ),
    refused("max_rows_without_a_cursor", endpoint={"paginator": CAPPED}),
    *(ended(f"end_of_{kind}", kind, end_path="last") for kind in LINKED),
    *(ended(f"more_of_{kind}", kind, has_more_path="more") for kind in LINKED),
    *(
        row(
            f"ends_null_of_{kind}",
            {
                "type": kind,
                "end_path": None,
                "stop_when_repeated": None,
                "first_page_params": None,
                "has_more_path": None,
            },
            page(1),
            [1],
        )
        for kind in LINKED
    ),
    numbers("end_of_numbers", {**NUMBERED, "1": page(2, last=True)}, (1, 2), end_path="last"),
    numbers(
        "end_path_null",
        end_path=None,
        first_page_params=None,
        stop_when_repeated=None,
        total_header=None,
    ),
    offset("end_of_offset", {**OFFSETS, "2": page(3, 4, last=True)}, (1, 2, 3, 4), end_path="last"),
    offset(
        "ends_null_offset",
        end_path=None,
        first_page_params=None,
        stop_when_repeated=None,
        total_header=None,
    ),
    header_link("url_header_null", (1, 2), next_url_header=None),
    row(
        "url_header",
        {"type": "header_link", "next_url_header": "Next-Page"},
        by("p", {None: Answer(page(1), headers={"Next-Page": "?p=2"}), "2": page(2)}),
        [1, 2],
    ),
    numbers(
        "total_header",
        {key: Answer(body, headers={"X-Pages": "2"}) for key, body in NUMBERED.items()},
        (1, 2),
        total_header="X-Pages",
        stop_after_empty_page=False,
    ),
    offset(
        "total_header_offset",
        {key: Answer(body, headers={"X-Rows": "4"}) for key, body in OFFSETS.items()},
        (1, 2, 3, 4),
        total_header="X-Rows",
        stop_after_empty_page=False,
    ),
    *(
        row(
            f"repeated_{kind}",
            {"type": kind, "stop_when_repeated": True, **more},
            page(1, 2, 3, next="?p=2", cursors={"next": "b"}),
            [1, 2, 3],
        )
        for kind, more in (
            ("json_link", {}),
            ("cursor", {}),
            ("page_number", {"total_path": None}),
            ("offset", {"limit": 3, "total_path": None}),
        )
    ),
    *(
        row(
            f"repeated_{value}_of_{kind}",
            {"type": kind, "stop_when_repeated": value},
            page(1),
            [1],
        )
        for kind in LINKED
        for value in (True, False)
    ),
    numbers("repeated_false", stop_when_repeated=False),
    offset("repeated_false_offset", stop_when_repeated=False),
    *(
        row(
            f"first_page_of_{kind}",
            {"type": kind, "first_page_params": ["status"]},
            page(1),
            [1],
            endpoint={"params": {"status": "open"}},
        )
        for kind in LINKED
    ),
    row(
        "first_page_of_page_number",
        {"type": "page_number", "total_path": None, "first_page_params": ["status"]},
        lambda seen: (
            page(int(seen.query["page"]))
            if ("status" in seen.query) == (seen.query["page"] == "0") and seen.query["page"] < "3"
            else page()
        ),
        [0, 1, 2],
        endpoint={"params": {"status": "open"}},
    ),
    row(
        "first_page_of_offset",
        {"type": "offset", "limit": 1, "total_path": None, "first_page_params": ["status"]},
        lambda seen: (
            page(int(seen.query["offset"]))
            if ("status" in seen.query) == (seen.query["offset"] == "0")
            and seen.query["offset"] < "3"
            else page()
        ),
        [0, 1, 2],
        endpoint={"params": {"status": "open"}},
    ),
    row("word_json_link", "json_link", by("p", NEXT), [1, 2]),
    row("word_json_response", "json_response", by("p", NEXT), [1, 2]),
    row("word_auto", "auto", by("p", LINKS), [1, 2]),
    row("word_header_link", "header_link", by("p", LINKS), [1, 2]),
    row("word_header_cursor", "header_cursor", by("cursor", HEADER_CURSORS), [1, 2]),
    row("word_cursor", "cursor", by("cursor", CURSORS), [1, 2]),
    row("word_page_number", "page_number", by("page", NUMBERED), [1, 2, 3]),
    row("word_single_page", "single_page", by("p", NEXT), [1]),
    refused("word_offset", endpoint={"paginator": "offset"}),
    refused("word_unknown", endpoint={"paginator": "pages"}),
    refused("type_unknown", endpoint={"paginator": {"type": "pages"}}),
    Row("paginator_null", {"paginator": None}, by("p", LINKS), [1, 2]),
    Row("paginator_left_out", {"paginator": ...}, by("p", LINKS), [1, 2]),
    *(
        Row(
            f"of_the_client_{number}",
            {"paginator": ...},
            by("page", NUMBERED),
            [1, 2, 3],
            file={"client": {"paginator": paginator}},
        )
        for number, paginator in enumerate(("page_number", {"type": "page_number"}))
    ),
    row("auto", {"type": "auto"}, by("p", LINKS), [1, 2]),
    refused("auto_fields", endpoint={"paginator": {"type": "auto", "limit": 2}}),
    row("single_page", {"type": "single_page"}, by("p", NEXT), [1]),
    row("json_response", {"type": "json_response"}, by("p", NEXT), [1, 2]),
    link("link"),
    link("link_path", {None: page(1, a={"b": "?p=2"}), "2": page(2)}, next_url_path="a.b"),
    row(
        "link_other_path",
        {"type": "json_link", "next_url_path": "elsewhere"},
        by("p", NEXT),
        None,
        fails="is not in the answer",
    ),
    refused("link_no_path", endpoint={"paginator": {"type": "json_link", "next_url_path": "a["}}),
    header_link("header_link", [1, 2]),
    header_link("header_link_key", [1, 3], links_next_key="more"),
    header_cursor("header_cursor"),
    header_cursor("header_cursor_key", cursor_key="X-Next"),
    row(
        "header_cursor_other_key",
        {"type": "header_cursor", "cursor_key": "X-Other"},
        by("cursor", HEADER_CURSORS),
        None,
        fails="is not in the answer",
    ),
    header_cursor("header_cursor_param", param="c", cursor_param="c"),
    cursor("cursor"),
    cursor("cursor_path", {None: page(1, a={"b": 7}), "7": page(2)}, cursor_path="a.b"),
    cursor("cursor_param", param="c", cursor_param="c"),
    in_body("cursor_body", "a.c", CURSORS, [1, 2], type="cursor", cursor_body_path="a.c"),
    refused(
        "cursor_both",
        endpoint={"paginator": {"type": "cursor", "cursor_param": "c", "cursor_body_path": "c"}},
    ),
    cursor(
        "cursor_empty_page",
        {None: page(1, cursors={"next": "b"}), "b": page(cursors={"next": "c"}), "c": page(3)},
        [1],
        stop_after_empty_page=True,
    ),
    cursor(
        "cursor_no_stop",
        {None: page(1, cursors={"next": "b"}), "b": page(cursors={"next": "c"}), "c": page(3)},
        [1, 3],
        stop_after_empty_page=False,
    ),
    cursor(
        "cursor_has_more",
        {
            None: page(1, more=True, cursors={"next": "b"}),
            "b": page(2, more=False, cursors={"next": "c"}),
            "c": page(3),
        },
        has_more_path="more",
    ),
    numbers("numbers"),
    numbers("numbers_base", {"1": page(1), "2": page(2), "3": page()}, [1, 2], base_page=1),
    numbers("numbers_start", gives=[2, 3], page=1),
    numbers("numbers_param", param="n", page_param="n"),
    in_body(
        "numbers_body",
        "a.n",
        numeric(NUMBERED),
        [1, 2, 3],
        type="page_number",
        page_body_path="a.n",
    ),
    refused(
        "numbers_both",
        endpoint={"paginator": {"type": "page_number", "page_param": "p", "page_body_path": "p"}},
    ),
    refused("numbers_empty", endpoint={"paginator": {"type": "page_number", "page_param": ""}}),
    numbers("numbers_total", COUNTED, [1, 2], total_path="total"),
    numbers("numbers_total_default", COUNTED, [1, 2]),
    numbers("numbers_no_total", {**COUNTED, "3": page()}, total_path=None),
    numbers("numbers_empty_total", {**COUNTED, "3": page()}, total_path=""),
    numbers("numbers_maximum", gives=[1, 2], maximum_page=2),
    numbers("numbers_stop", gives=[1, 2, 3], total_path=None, stop_after_empty_page=True),
    numbers("numbers_no_stop", COUNTED, [1, 2], total_path="total", stop_after_empty_page=False),
    numbers("numbers_has_more", FLAGGED, [1, 2], has_more_path="more"),
    stopless("numbers_no_end", "page_number"),
    refused(
        "numbers_base_null", endpoint={"paginator": {"type": "page_number", "base_page": None}}
    ),
    offset("offset"),
    offset("offset_start", gives=[3, 4, 5], offset=2),
    refused(
        "offset_start_null", endpoint={"paginator": {"type": "offset", "limit": 2, "offset": None}}
    ),
    offset("offset_param", param="o", offset_param="o"),
    offset("offset_limit_param", limit_param="size"),
    in_body(
        "offset_body",
        "a.o",
        numeric(OFFSETS),
        [1, 2, 3, 4, 5],
        type="offset",
        limit=2,
        offset_body_path="a.o",
        limit_body_path="a.l",
    ),
    refused("offset_no_limit", endpoint={"paginator": {"type": "offset"}}),
    *(
        refused(f"offset_limit_{name}", endpoint={"paginator": {"type": "offset", "limit": limit}})
        for name, limit in (("zero", 0), ("negative", -2))
    ),
    offset(
        "offset_total", {"0": page(1, 2, n=3), "2": page(3, 4, n=3)}, [1, 2, 3, 4], total_path="n"
    ),
    offset("offset_total_default", {"0": page(1, 2, total=2), "2": page(3)}, [1, 2]),
    offset("offset_no_total", {**OFFSETS, "0": page(1, 2, total=2)}, total_path=None),
    offset("offset_maximum", gives=[1, 2, 3, 4], maximum_offset=4),
    offset("offset_stop", total_path=None, stop_after_empty_page=True),
    offset(
        "offset_no_stop",
        {"0": page(1, 2, total=2), "2": page(3)},
        [1, 2],
        stop_after_empty_page=False,
    ),
    offset(
        "offset_has_more",
        {"0": page(1, 2, more=True), "2": page(3, 4, more=False), "4": page(5)},
        [1, 2, 3, 4],
        has_more_path="more",
    ),
    stopless("offset_no_end", "offset", limit=2),
    # null where a field has a default
    *(
        refused(f"{kind}_{name}_{number}", endpoint={"paginator": {"type": kind, name: value}})
        for kind, name in (
            ("header_link", "links_next_key"),
            ("header_cursor", "cursor_key"),
            ("header_cursor", "cursor_param"),
        )
        for number, value in enumerate((None, ""))
    ),
    cursor("cursor_stop_null", stop_after_empty_page=None),
    numbers("numbers_stop_null", COUNTED, [1, 2], stop_after_empty_page=None),
    offset(
        "offset_stop_null",
        {"0": page(1, 2, total=2), "2": page(3)},
        [1, 2],
        stop_after_empty_page=None,
    ),
)
