"""A next page whose place is misspelt is not the end of the paging, and an API's usual end is."""

from collections.abc import Mapping
from typing import Any

import pytest

from restsource_dagster.engine.errors import ResponseError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    Notes,
    connector_of,
    failure_of,
    items,
    rows_of,
)
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=13)

ROWS = [{"id": 1}, {"id": 2}]


def link(path: str) -> dict[str, Any]:
    return {"type": "json_link", "next_url_path": path}


def cursor(path: str, **more: Any) -> dict[str, Any]:
    return {"type": "cursor", "cursor_path": path, **more}


def resource(name: str, paginator: Any, selector: str | None, **endpoint: Any) -> dict[str, Any]:
    given = {"path": name, "paginator": paginator, "data_selector": selector, **endpoint}
    kept = {key: value for key, value in given.items() if value is not None}
    return {"name": name, "write_disposition": "replace", "endpoint": kept}


Answers = Mapping[str, tuple[Any, str | None, Any]]
"""The paginator, the data selector and the answer, by the name of the resource."""

LAST_PAGES: Answers = {
    "null": (link("next"), "d", {"d": ROWS, "next": None}),
    "empty_text": (cursor("meta.next_cursor"), "d", {"d": ROWS, "meta": {"next_cursor": ""}}),
    "no": (link("next"), "d", {"d": ROWS, "next": False}),
    "null_on_the_way": (link("paging.next"), "d", {"d": ROWS, "paging": None}),
    "nothing_on_the_way": (link("paging.next"), "d", {"d": ROWS, "paging": {}}),
    "no_rows": (link("paging.next"), "d", {"d": []}),
    "stripe": (
        cursor("data[-1].id", has_more_path="has_more"),
        "data",
        {"object": "list", "data": ROWS, "has_more": False},
    ),
    "graphql": (
        cursor("data.p.pageInfo.endCursor", has_more_path="data.p.pageInfo.hasNextPage"),
        "data.p.nodes",
        {"data": {"p": {"nodes": ROWS, "pageInfo": {"hasNextPage": False, "endCursor": "b"}}}},
    ),
    "github": ("header_link", None, ROWS),
    "gitlab": ("header_link", None, Reply(ROWS, headers={"X-Next-Page": "", "X-Total": "2"})),
    "link_to_first": (
        "header_link",
        None,
        Reply(ROWS, headers={"Link": '<https://a.example/?p=1>; rel="first"'}),
    ),
    "empty_header": (
        {"type": "header_cursor", "cursor_key": "X-Next"},
        None,
        Reply(ROWS, headers={"X-Next": ""}),
    ),
    "chosen_page": ("single_page", "d", {"d": ROWS, "next": None, "has_more": False}),
    "detected_end": (None, "d", {"d": ROWS, "links": {"next": None}, "total": 2}),
    "a_row_with_a_next": (None, "$", {"id": 1, "nextPageToken": None, "has_more": True}),
}
WARNED: Answers = {
    "google": (cursor("nextPageToken"), "items", {"items": ROWS}),
    "hubspot": (cursor("paging.next.after"), "results", {"results": ROWS}),
    "facebook": (
        link("paging.next"),
        "data",
        {"data": ROWS, "paging": {"cursors": {"after": "x"}}},
    ),
    "odata": (link("@odata.nextLink"), "value", {"@odata.context": "x", "value": ROWS}),
    "header": ({"type": "header_cursor", "cursor_key": "X-Nxt"}, None, ROWS),
    "other_relation": ({"type": "header_link", "links_next_key": "more"}, None, ROWS),
    "read_no_further": ("single_page", "d", {"d": ROWS, "paging": {"next": "/p2"}}),
}
MISSED: Mapping[str, tuple[Any, str | None, Any, str]] = {
    "nxt": (link("nxt"), "d", {"d": ROWS, "next": "/p2"}, "`next`"),
    "href": (
        link("links.nxt"),
        "d",
        {"d": ROWS, "_links": {"next": {"href": "/2"}}},
        "_links.next",
    ),
    "rel": (
        link("next"),
        "d",
        {"d": ROWS, "links": [{"rel": "next", "href": "/2"}]},
        "links[rel=next]",
    ),
    "cursor": (
        cursor("meta.nextCursor"),
        "d",
        {"d": ROWS, "meta": {"next_cursor": "b"}},
        "meta.next",
    ),
    "flag": (cursor("meta.after"), "d", {"d": ROWS, "meta": {"has_more": True}}, "meta.has_more"),
    "spring": (cursor("next"), "d", {"d": ROWS, "last": False, "totalPages": 9}, "`last`"),
    "pages": (cursor("next"), "d", {"d": ROWS, "total_pages": 9}, "total_pages (9)"),
    "link_name": (
        {"type": "header_link", "links_next_key": "nxt"},
        None,
        Reply(ROWS, headers={"Link": '</2>; rel="next"'}),
        'rel="next"',
    ),
    "header": (
        {"type": "header_cursor", "cursor_key": "X-Nxt"},
        None,
        Reply(ROWS, headers={"X-Next": "b"}),
        "the header X-Next",
    ),
    "no_link": ("header_link", None, Reply(ROWS, headers={"Next-Page": "/2"}), "Next-Page"),
    "total": (link("nxt"), "d", {"d": ROWS, "total": 9}, "states a total of 9"),
    "total_header": (
        "header_link",
        None,
        Reply(ROWS, headers={"Total-Records": "9"}),
        "total of 9",
    ),
    "range": (
        "header_link",
        None,
        Reply(ROWS, headers={"Content-Range": "items 0-1/9"}),
        "total of 9",
    ),
    "undetected": (None, "d", {"d": ROWS, "continuationToken": "b"}, "`continuationToken`"),
    "undetected_header": (
        "auto",
        "d",
        Reply({"d": ROWS}, headers={"Next-Page": "/2"}),
        "Next-Page",
    ),
    "more": (
        cursor("next", has_more_path="more"),
        "d",
        {"d": ROWS, "next": None, "more": True},
        "has no cursor",
    ),
}


def answers_of(table: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {f"/{name}": row[2] for name, row in table.items()}


def connector_for(server: FaultServer, table: Mapping[str, tuple[Any, ...]]) -> Any:
    made = [resource(name, row[0], row[1]) for name, row in table.items()]
    return connector_of(server.url, *made)


def test_the_usual_last_pages_of_apis_are_silent(server: FaultServer, settings: Settings) -> None:
    server.plan |= answers_of(LAST_PAGES)
    notes = Notes()
    outcomes = load(connector_for(server, LAST_PAGES), settings, observer=notes)
    assert {name: outcome.failure for name, outcome in outcomes.items() if outcome.failed} == {}
    assert notes.texts == []


def test_a_place_that_no_answer_had_is_told_once(server: FaultServer, settings: Settings) -> None:
    server.plan |= answers_of(WARNED)
    notes, connector = Notes(), connector_for(server, WARNED)
    outcomes = load(connector, settings, observer=notes)
    assert {name: outcome.failure for name, outcome in outcomes.items() if outcome.failed} == {}
    assert sorted(text.partition(":")[0] for text in notes.texts) == sorted(WARNED)
    again = Notes()
    load(connector, settings, observer=again)
    assert again.texts == []


def test_a_place_that_is_absent_where_more_must_follow_fails_and_is_named(
    server: FaultServer, settings: Settings
) -> None:
    server.plan |= answers_of(MISSED)
    outcomes = load(connector_for(server, MISSED), settings)
    messages = {name: failure_of(outcome) for name, outcome in outcomes.items()}
    for name, (_, _, _, named) in MISSED.items():
        assert named in messages[name], name
        assert messages[name].startswith(f"resource {name}, page 1: ")


@pytest.mark.parametrize("sent", [{"params": {"limit": 2}}, {"params": {"page[size]": 2}}])
def test_a_full_page_without_the_place_of_the_next_is_an_error(
    server: FaultServer, settings: Settings, sent: dict[str, Any]
) -> None:
    server.plan["/items"] = {"d": ROWS}
    endpoint = {"paginator": cursor("next"), "data_selector": "d"}
    connector = connector_of(server.url, items(**endpoint, **sent))
    assert "the page is full" in failure_of(load(connector, settings)["items"])


def test_a_full_page_without_a_link_header_is_the_end_and_is_told(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = ROWS
    notes = Notes()
    connector = connector_of(server.url, items(paginator="header_link", params={"per_page": 2}))
    assert load(connector, settings, observer=notes)["items"].rows_loaded == 2
    assert [text for text in notes.texts if "the page is full" in text]


def test_a_full_page_without_a_detected_paginator_is_told(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = {"d": ROWS}
    notes = Notes()
    connector = connector_of(server.url, items(data_selector="d", params={"limit": 2}))
    assert load(connector, settings, observer=notes)["items"].rows_loaded == 2
    assert [text for text in notes.texts if "the page is full" in text]


@pytest.mark.parametrize("facts", [{"total": 9}, {"meta": {"total": 9}}, {"last_page": 5}], ids=str)
def test_a_larger_total_without_a_detected_paginator_is_an_error(
    server: FaultServer, settings: Settings, facts: dict[str, Any]
) -> None:
    server.plan["/items"] = {"d": ROWS, **facts}
    connector = connector_of(server.url, items(data_selector="d"))
    text = failure_of(load(connector, settings)["items"])
    assert "no paginator could be detected" in text
    assert '"paginator": "single_page"' in text


def in_pages(names: Mapping[int, Any]) -> Any:
    """Two pages of two rows; the first has the next link that is named."""

    def answer(seen: Arrival) -> Any:
        at = int(seen.query.get("p", 0))
        return {"d": [{"id": 2 * at}, {"id": 2 * at + 1}], **names.get(at, {})}

    return answer


def test_a_place_that_was_seen_in_an_earlier_run_may_be_absent(
    server: FaultServer, settings: Settings
) -> None:
    connector = connector_of(
        server.url, items(paginator=link("next"), data_selector="d", params={"limit": 2})
    )
    server.plan["/items"] = in_pages({0: {"next": "/items?p=1"}})
    assert load(connector, settings)["items"].rows_loaded == 4
    server.plan["/items"] = in_pages({})
    notes = Notes()
    assert load(connector, settings, observer=notes)["items"].rows_loaded == 2
    assert notes.texts == []
    # it has another name now: worth a word, as the rest of the rows is not read
    server.plan["/items"] = in_pages({0: {"nextPage": "/items?p=1"}})
    load(connector, settings, observer=notes)
    assert ["`nextPage`" in text for text in notes.texts] == [True]


@pytest.mark.parametrize("seen_by", [1, 2, 3, None])
@pytest.mark.parametrize("max_concurrency", [1, 8])
def test_below_parents_one_answer_with_the_place_is_enough(
    server: FaultServer, settings: Settings, seen_by: int | None, max_concurrency: int
) -> None:
    server.plan["/items"] = [{"id": number} for number in (1, 2, 3)]
    for number in (1, 2, 3):
        next_page = {0: {"next": f"/items/{number}/lines?p=1"}} if number == seen_by else {}
        server.plan[f"/items/{number}/lines"] = in_pages(next_page)
    lines = resource("lines", link("next"), "d", path="items/{resources.items.id}/lines")
    lines["endpoint"]["params"] = {"limit": 2}
    connector = connector_of(
        server.url,
        items(paginator="single_page"),
        lines,
        http={"max_concurrency": max_concurrency},
    )
    outcome = load(connector, settings)["lines"]
    if seen_by is None:
        assert "next_url_path 'next' is not in the answer" in failure_of(outcome)
    else:
        assert outcome.rows_loaded == 8


@pytest.mark.parametrize(
    ("path", "wrap"),
    [
        ("@odata.nextLink", lambda url: {"@odata.nextLink": url}),
        ("odata.nextLink", lambda url: {"odata.nextLink": url}),
        ("meta.next.page", lambda url: {"meta": {"next.page": url}}),
        ("'@odata.nextLink'", lambda url: {"@odata.nextLink": url}),
        (None, lambda url: {"@odata.nextLink": url}),
        (None, lambda url: {"odata.nextLink": url}),
    ],
)
def test_a_key_with_dots_is_followed_as_it_is_spelt(
    server: FaultServer, path: str | None, wrap: Any
) -> None:
    server.plan["/items"] = in_pages({at: wrap(f"/items?p={at + 1}") for at in (0, 1)})
    found = rows_of(server, selector="d", paginator=link(path) if path else "auto")
    assert [row["id"] for row in found] == list(range(6))


@pytest.mark.parametrize("paginator", ["header_link", "auto"])
@pytest.mark.parametrize(
    "header",
    [
        '<{url}>; REL="Next"',
        '<{url}>; rel="next last"',
        '<{url}>; title="a; b, <c>"; rel=next',
        "<{url}&of=1,2>; rel='next', </items>; rel=first",
        "{url}; rel=next",
        '<{url}>;; "odd"; odd too; rel="next"',
    ],
)
def test_a_next_link_is_read_as_the_header_s_standard_allows(
    server: FaultServer, header: str, paginator: str
) -> None:
    def page(seen: Arrival) -> Reply:
        at = int(seen.query.get("p", 0))
        following = header.replace("{url}", f"{server.url}/items?p={at + 1}")
        return Reply([{"id": at}], headers={"Link": following} if at < 2 else {})

    server.plan["/items"] = page
    found = rows_of(server, selector="$", paginator=paginator)
    assert [row["id"] for row in found] == [0, 1, 2]


def test_a_cursor_and_a_total_may_have_keys_with_dots(server: FaultServer) -> None:
    server.plan["/items"] = in_pages(
        {0: {"page.next": "1", "page.more": True}, 1: {"page.more": False}}
    )
    paginator = cursor("page.next", cursor_param="p", has_more_path="page.more")
    assert len(rows_of(server, selector="d", paginator=paginator)) == 4
    server.plan["/items"] = lambda seen: {"d": [{"id": seen.query["offset"]}], "@odata.count": 2}
    paginator = {"type": "offset", "limit": 1, "total_path": "@odata.count"}
    assert len(rows_of(server, selector="d", paginator=paginator)) == 2


def test_a_place_that_cannot_be_a_path_is_named(server: FaultServer) -> None:
    server.plan["/items"] = {"d": ROWS, "next page": "http://127.0.0.1/2"}
    with pytest.raises(ResponseError, match="page 1"):
        rows_of(server, selector="d", paginator="auto")
