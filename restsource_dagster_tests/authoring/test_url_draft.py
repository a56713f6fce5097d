"""Files that are drafted from a URL: what is guessed for each shape of an API, and what must not be."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.importing.imported_api import EnvVariables
from restsource_dagster.authoring.sent_body import SentBody
from restsource_dagster.authoring.url_draft import ApiLogin, UrlDraft, draft_from_url
from restsource_dagster.connector.loader import load_text
from restsource_dagster_tests.making import make_settings
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

ROWS: list[dict[str, Any]] = [
    {
        "id": number,
        "name": f"n{number % 3}",
        "updated_at": (
            datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=number * 7 % 50)
        ).isoformat(),
    }
    for number in range(1, 26)
]
"""25 rows, not in the order of their times."""


def part(first: int, size: int = 10) -> list[dict[str, Any]]:
    return ROWS[first : first + size]


def draft(api: ApiServer, path: str, tmp_path: Path, **given: Any) -> UrlDraft:
    made = draft_from_url(
        "shop",
        f"{api.url}{path}",
        login=given.pop("login", ApiLogin()),
        body=given.pop("body", None),
        settings=make_settings(tmp_path),
        environment=given,
    )
    loaded = load_text(json.dumps(made.value), Path("shop.json"))
    assert loaded.connector is not None, loaded.problems
    return made


def only(made: UrlDraft) -> Mapping[str, Any]:
    [resource] = made.value["resources"]
    assert isinstance(resource, dict)
    return resource


def page_of(seen: Seen, name: str = "page") -> int:
    return int(seen.query.get(name, 1))


def bare(seen: Seen) -> Any:
    return part((page_of(seen) - 1) * 10)


def next_url(seen: Seen, url: str) -> str | None:
    page = page_of(seen)
    return f"{url}?page={page + 1}" if page < 3 else None


def linked(api: ApiServer, path: str, shape: Any) -> None:
    """Answer with pages of ten rows; `shape` makes the body of rows and the next URL."""

    def answer(seen: Seen) -> Any:
        return shape(part((page_of(seen) - 1) * 10), next_url(seen, f"{api.url}{path}"))

    api.answers[path] = answer


LINK = {"type": "json_link"}


@pytest.mark.parametrize(
    ("shape", "selector", "next_path"),
    [
        (lambda rows, url: {"data": rows, "paging": {"next": url}}, "data", "paging.next"),
        (lambda rows, url: {"value": rows, "@odata.nextLink": url}, "value", "@odata.nextLink"),
        (
            lambda rows, url: {"_embedded": {"things": rows}, "_links": {"next": {"href": url}}},
            "_embedded.things",
            "_links.next.href",
        ),
        (
            lambda rows, url: {
                "data": [
                    {"type": "things", "id": str(row["id"]), "attributes": row} for row in rows
                ],
                "links": {"self": "/", "next": url},
                "meta": {"count": 25},
            },
            "data",
            "links.next",
        ),
    ],
    ids=["next in the body", "OData", "HAL", "JSON:API"],
)
def test_a_next_link_in_the_body_is_followed(
    api: ApiServer, tmp_path: Path, shape: Any, selector: str, next_path: str
) -> None:
    linked(api, "/v1/things", shape)
    made = draft(api, "/v1/things", tmp_path)
    assert made.value["client"]["base_url"] == f"{api.url}/v1"
    resource = only(made)
    assert resource["endpoint"]["data_selector"] == selector
    assert resource["endpoint"]["paginator"] == {**LINK, "next_url_path": next_path}
    assert resource["primary_key"] == "id"
    assert made.preview is not None
    assert made.preview.is_fine


def test_a_bare_list_is_paged_by_number(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = bare
    resource = only(draft(api, "/things", tmp_path))
    assert resource == {
        "name": "things",
        "primary_key": "id",
        "endpoint": {
            "path": "things",
            "paginator": {
                "type": "page_number",
                "base_page": 1,
                "page_param": "page",
                "total_path": None,
            },
        },
    }


def test_a_link_header_is_followed(api: ApiServer, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Answer:
        url = next_url(seen, f"{api.url}/things")
        return Answer(bare(seen), headers={"Link": f'<{url}>; rel="next"'} if url else {})

    api.answers["/things"] = answer
    assert only(draft(api, "/things", tmp_path))["endpoint"]["paginator"] == {"type": "header_link"}


def test_a_cursor_is_sent_in_the_param_that_works(api: ApiServer, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Any:
        start = int(seen.query.get("page_token") or "0")
        following = str(start + 10) if start < 20 else ""
        return {"items": part(start), "next_page_token": following}

    api.answers["/things"] = answer
    made = draft(api, "/things", tmp_path)
    assert only(made)["endpoint"]["paginator"] == {
        "type": "cursor",
        "cursor_path": "next_page_token",
        "cursor_param": "page_token",
    }
    [guess] = [one for one in made.guesses if one.place == "endpoint.paginator"]
    assert guess.confidence == "proved"
    assert "10 rows, 10 of them new" in guess.evidence


def test_offsets_with_a_total_are_told_from_pages(api: ApiServer, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Any:
        return {"data": part(int(seen.query.get("offset", 0))), "meta": {"total": 25}}

    api.answers["/things"] = answer
    made = draft(api, "/things", tmp_path)
    assert only(made)["endpoint"]["paginator"] == {
        "type": "offset",
        "limit": 10,
        "offset_param": "offset",
        "limit_param": "limit",
        "total_path": "meta.total",
    }
    # what was tried first is told with the reason
    assert "page_number" in made.refuted[0]
    assert "the very records of page 1" in made.refuted[0]


def test_pages_that_the_body_counts_and_the_url_names(api: ApiServer, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Any:
        page, size = page_of(seen, "p"), int(seen.query.get("size", 5))
        rows = part((page - 1) * size, size)
        return {"results": rows, "page": page, "total_pages": 5}

    api.answers["/things"] = answer
    made = draft(api, "/things?p=1&size=5&kind=new", tmp_path)
    endpoint = only(made)["endpoint"]
    assert endpoint["paginator"] == {
        "type": "page_number",
        "base_page": 1,
        "page_param": "p",
        "total_path": "total_pages",
    }
    assert endpoint["params"] == {"size": "5", "kind": "new"}


def test_page_numbers_may_start_at_0(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = lambda seen: part(int(seen.query.get("page", 0)) * 10)
    assert only(draft(api, "/things", tmp_path))["endpoint"]["paginator"]["base_page"] == 0


def test_columns_and_objects_by_id_become_rows(api: ApiServer, tmp_path: Path) -> None:
    api.answers |= {
        "/forecast": {"hourly": {"time": ["10:00", "11:00"], "temp": [3.5, 4.0]}, "place": "x"},
        "/report": {"columns": ["id", "n"], "rows": [[1, "a"], [2, "b"]]},
        "/stock": {"items": {"a1": {"n": 1}, "b2": {"n": 2}}},
        "/users": {"1": {"id": 1, "n": "a"}, "2": {"id": 2, "n": "b"}},
    }
    expected = {
        "/forecast": ("hourly", [{"time": "10:00", "temp": 3.5}, {"time": "11:00", "temp": 4.0}]),
        "/report": ("$", [{"id": 1, "n": "a"}, {"id": 2, "n": "b"}]),
        "/stock": ("items", [{"key": "a1", "n": 1}, {"key": "b2", "n": 2}]),
        "/users": ("$.*", [{"id": 1, "n": "a"}, {"id": 2, "n": "b"}]),
    }
    for path, (selector, rows) in expected.items():
        made = draft(api, path, tmp_path)
        assert only(made)["endpoint"]["data_selector"] == selector
        assert made.preview is not None
        [read] = made.preview.resources
        assert read.table is not None
        assert [dict(row) for row in read.table.rows] == rows


def test_of_several_lists_the_one_named_as_the_url_is_taken(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/orders"] = {
        "report": {"warnings": [{"w": 1}] * 4, "orders": [{"id": 1}, {"id": 2}]},
    }
    made = draft(api, "/orders", tmp_path)
    assert only(made)["endpoint"]["data_selector"] == "report.orders"


def test_nothing_is_guessed_from_an_error_or_an_empty_answer(
    api: ApiServer, tmp_path: Path
) -> None:
    api.answers |= {
        "/failed": {"data": [], "error": {"message": "no such shop"}},
        "/denied": Answer({"message": "who are you?"}, status=401),
        "/text": Answer(b"<a><b>1</b></a>", headers={"content-type": "text/xml"}),
        "/search": Answer({"message": "use POST"}, status=405),
    }
    made = draft(api, "/failed", tmp_path)
    assert made.guesses == ()
    assert "no such shop" in str(made.failure)
    assert draft(api, "/denied", tmp_path).failure == "the API answered 401, and no login was given"
    assert '"format": "xml"' in str(draft(api, "/text", tmp_path).failure)
    assert "give its body with --data" in str(draft(api, "/search", tmp_path).failure)
    api.answers["/empty"] = {"data": []}
    made = draft(api, "/empty", tmp_path)
    assert made.failure is None
    assert "primary_key" not in only(made)
    assert "paginator" not in only(made)["endpoint"]
    assert len(api.asked("/empty")) == 2


def test_files_of_lines_become_rows(api: ApiServer, tmp_path: Path) -> None:
    csv = "id;name\n" + "".join(f"{n};n{n % 3}\n" for n in range(1, 30))
    lines = "".join(f'{{"code": "c{n}", "size": {n % 3}}}\n' for n in range(1, 30))
    api.answers |= {
        "/v1/report.csv": Answer(
            csv.replace(";", ",").encode(), headers={"content-type": "text/csv; charset=utf-8"}
        ),
        "/v1/lines": Answer(lines.encode(), headers={"content-type": "application/x-ndjson"}),
        "/v1/none": Answer(b"", headers={"content-type": "text/csv"}),
        "/v1/other.csv": Answer(csv.encode(), headers={"content-type": "text/csv"}),
    }
    made = draft(api, "/v1/report.csv", tmp_path)
    assert made.failure is None
    assert only(made)["endpoint"]["response"] == {"format": "csv"}
    assert only(made)["endpoint"]["paginator"] == "single_page"
    assert only(made)["primary_key"] == "id"
    assert made.preview is not None
    assert made.preview.is_fine
    assert made.preview.resources[0].rows_read == 29
    assert only(draft(api, "/v1/lines", tmp_path))["endpoint"]["response"] == {"format": "jsonl"}
    assert draft(api, "/v1/none", tmp_path).failure is not None
    other = only(draft(api, "/v1/other.csv", tmp_path))
    assert other["endpoint"]["response"] == {"format": "csv", "delimiter": ";"}
    assert other["primary_key"] == "id"


def test_a_filter_of_a_file_becomes_the_cursor_if_it_filters(
    api: ApiServer, tmp_path: Path
) -> None:
    rows = [{"event_id": row["id"], "at": row["updated_at"].replace("+00:00", "Z")} for row in ROWS]

    def answer(seen: Seen) -> Answer:
        since = seen.query.get("from", "") if seen.path.startswith("/export") else ""
        lines = "".join(json.dumps(row) + "\n" for row in rows if row["at"] >= since)
        return Answer(lines.encode(), headers={"content-type": "application/x-ndjson"})

    api.answers |= {"/export/events.jsonl": answer, "/ignores/events.jsonl": answer}
    made = draft(api, "/export/events.jsonl?from=2024-01-01T00:00:00Z", tmp_path)
    resource = only(made)
    assert (resource["name"], resource["primary_key"]) == ("events", "event_id")
    assert resource["endpoint"]["incremental"] == {
        "cursor_path": "at",
        "initial_value": "2024-01-01T00:00:00Z",
        "start_param": "from",
    }
    assert made.preview is not None
    assert made.preview.is_fine
    ignored = draft(api, "/ignores/events.jsonl?from=2024-01-01T00:00:00Z", tmp_path)
    assert "incremental" not in only(ignored)["endpoint"]
    assert "sends older rows" in ignored.refuted[0]


def posted(text: str) -> dict[str, Any]:
    """The argument of a draft that asks by POST."""
    return {"body": SentBody.parse(text, EnvVariables("shop"))}


def test_a_list_that_is_asked_by_post_is_paged_in_its_body(api: ApiServer, tmp_path: Path) -> None:
    """The page stands inside of an object, and the filter becomes the cursor."""

    def answer(seen: Seen) -> Any:
        if seen.method != "POST":
            return Answer({"message": "use POST"}, status=405)
        sent = json.loads(seen.body)
        rows = [row for row in ROWS if row["updated_at"] >= sent["updated_since"]]
        page = sent["paging"]["page"]
        return {"items": rows[(page - 1) * 10 : page * 10], "pages": -(-len(rows) // 10)}

    api.answers["/v1/things/search"] = answer
    sent = {"updated_since": "2024-01-01", "text": "{all}", "paging": {"page": 1, "size": 10}}
    made = draft(api, "/v1/things/search", tmp_path, **posted(json.dumps(sent)))
    assert made.failure is None
    endpoint = only(made)["endpoint"]
    assert endpoint["method"] == "POST"
    assert endpoint["json"] == {
        "updated_since": "{incremental.start_value}",
        "text": "{{all}}",
        "paging": {"size": 10},
    }
    assert endpoint["paginator"]["page_body_path"] == "paging.page"
    assert endpoint["incremental"]["cursor_path"] == "updated_at"
    assert made.preview is not None
    assert made.preview.is_fine, made.preview.as_dict()


QUERY = "query ($first: Int, $after: String) { things { nodes { id name } pageInfo { endCursor hasNextPage } } }"


def test_a_graphql_query_is_paged_by_its_variable(api: ApiServer, tmp_path: Path) -> None:
    def answer(seen: Seen) -> Any:
        sent = json.loads(seen.body)
        assert sent["query"] == QUERY
        first = int(sent["variables"].get("after") or 0)
        rows = part(first)
        info = {"endCursor": str(first + 10), "hasNextPage": first + 10 < len(ROWS)}
        return {"data": {"things": {"nodes": rows, "pageInfo": info}}}

    api.answers["/graphql"] = answer
    made = draft(api, "/graphql", tmp_path, **posted(json.dumps({"query": QUERY})))
    assert made.failure is None
    resource = only(made)
    assert resource["name"] == "things"
    assert resource["primary_key"] == "id"
    assert resource["endpoint"] == {
        "path": "graphql",
        "graphql": {"query": QUERY, "variables": {"first": None, "after": None}},
        "data_selector": "data.things.nodes",
        "paginator": {
            "type": "cursor",
            "cursor_path": "data.things.pageInfo.endCursor",
            "cursor_body_path": "variables.after",
            "has_more_path": "data.things.pageInfo.hasNextPage",
        },
    }
    assert made.preview is not None
    assert made.preview.is_fine


@pytest.mark.parametrize("is_filter", [True, False])
def test_a_variable_without_a_value_is_the_cursor_if_it_filters(
    api: ApiServer, tmp_path: Path, is_filter: bool
) -> None:
    query = "query ($since: DateTime) { things(changedSince: $since) { nodes { id updated_at } } }"

    def answer(seen: Seen) -> Any:
        since = json.loads(seen.body)["variables"]["since"] or ""
        changed = [{**row, "updated_at": row["updated_at"].replace("+00:00", "Z")} for row in ROWS]
        rows = [row for row in changed if not is_filter or row["updated_at"] >= since]
        return {"data": {"things": {"nodes": rows}}}

    api.answers["/graphql"] = answer
    made = draft(api, "/graphql", tmp_path, **posted(query))
    endpoint = only(made)["endpoint"]
    assert made.preview is not None
    assert made.preview.is_fine, made.preview.as_dict()
    sent = endpoint["graphql"]["variables"]["since"]
    assert sent == ("{incremental.start_value}" if is_filter else None)
    assert ("incremental" in endpoint) == is_filter


def test_a_search_is_called_as_what_it_finds(api: ApiServer, tmp_path: Path) -> None:
    tickets = [{"ticket_id": f"T{n}", "text": f"n{n % 3}"} for n in range(1, 20)]
    api.answers["/v1/tickets/search"] = {"result": tickets}
    made = draft(api, "/v1/tickets/search", tmp_path, **posted("{}"))
    assert made.value["client"]["base_url"] == f"{api.url}/v1"
    assert (only(made)["name"], only(made)["primary_key"]) == ("tickets", "ticket_id")
    # a version is not what is searched
    api.answers["/v1/search"] = {"result": tickets}
    made = draft(api, "/v1/search", tmp_path, **posted("{}"))
    assert (made.value["client"]["base_url"], only(made)["name"]) == (f"{api.url}/v1", "search")
    # `ticket_id` in a list that is called otherwise may be the key of something above
    api.answers["/v1/found"] = tickets
    found = draft(api, "/v1/found", tmp_path)
    assert "primary_key" not in only(found)
    assert [one.value for one in found.guesses if one.place == "primary_key"] == ["ticket_id"]


def test_a_query_without_a_variable_for_its_pages_says_what_to_add(
    api: ApiServer, tmp_path: Path
) -> None:
    """The query may be typed without the JSON around it."""
    info = {"endCursor": "10", "hasNextPage": True}
    api.answers["/graphql"] = {"data": {"things": {"nodes": part(0), "pageInfo": info}}}
    assert SentBody.parse(QUERY, EnvVariables("shop")).value == {"first": None, "after": None}
    made = draft(api, "/graphql", tmp_path, **posted("{ things { nodes { id } } }"))
    assert only(made)["endpoint"]["graphql"] == {"query": "{ things { nodes { id } } }"}
    assert "add `$after: String`" in " ".join(guess.evidence for guess in made.guesses)


@pytest.mark.parametrize("is_sent", [False, True], ids=["in a param", "in the body"])
def test_a_time_in_an_expression_becomes_the_cursor(
    api: ApiServer, tmp_path: Path, *, is_sent: bool
) -> None:
    """As in OData's `$filter=modifiedon ge 2026-01-01`, or a search in the body."""

    def answer(seen: Seen) -> Any:
        sent = json.loads(seen.body)["filter"] if is_sent else seen.query["filter"]
        name, sign, start = sent.split()
        if (name, sign) != ("updated_at", "ge") or "{" in start:
            return Answer({"message": f"bad filter {sent}"}, status=400)
        return {"value": [row for row in ROWS if row["updated_at"] >= start]}

    api.answers["/things"] = answer
    text = "updated_at ge 2024-01-01T00:00:00Z"
    if is_sent:
        made = draft(api, "/things", tmp_path, **posted(json.dumps({"filter": text})))
    else:
        made = draft(api, f"/things?filter={text}", tmp_path)
    endpoint = only(made)["endpoint"]
    sent = endpoint["json"] if is_sent else endpoint["params"]
    assert sent == {"filter": "updated_at ge {incremental.start_value}"}
    assert endpoint["incremental"] == {
        "cursor_path": "updated_at",
        "initial_value": "2024-01-01T00:00:00Z",
    }
    [guess] = [one for one in made.guesses if one.place == "endpoint.incremental"]
    assert guess.confidence == "proved"


def test_an_expression_that_takes_no_other_time_stays_as_it_was_asked(
    api: ApiServer, tmp_path: Path
) -> None:
    text = "updated_at >= 2024-01-01"

    def answer(seen: Seen) -> Any:
        if seen.query["q"] != text:
            return Answer({"message": "write a day"}, status=400)
        return {"value": ROWS}

    api.answers["/things"] = answer
    made = draft(api, f"/things?q={text}", tmp_path)
    assert only(made)["endpoint"]["params"] == {"q": text}
    assert "incremental" not in only(made)["endpoint"]
    assert "`q` as a filter" in " ".join(made.refuted)


def test_secrets_of_a_body_become_references() -> None:
    variables = EnvVariables("shop")
    made = SentBody.parse('{"api_token": "s3cret-value-of-it", "q": "x"}', variables)
    assert made.endpoint()["json"] == {"api_token": "${SHOP_API_TOKEN}", "q": "x"}
    assert variables.values() == {"SHOP_API_TOKEN": "s3cret-value-of-it"}
    for text in ("[]", "{", '{"query": "{a}", "variables": []}', '{"a":' * 30 + "1" + "}" * 30):
        with pytest.raises(ValueError, match=r".+"):
            SentBody.parse(text, variables)


def test_a_page_param_that_is_ignored_is_not_written(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = {"data": part(0), "total": 25}
    made = draft(api, "/things?page=1", tmp_path)
    assert "paginator" not in only(made)["endpoint"]
    assert made.preview is not None
    assert not made.preview.is_fine
    assert len(made.refuted) >= 2


def test_a_last_page_that_is_full_is_no_page_among_many(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = lambda seen: part(0) if page_of(seen) == 1 else []
    made = draft(api, "/things", tmp_path)
    # the empty second page shows that the number is heeded
    assert only(made)["endpoint"]["paginator"]["type"] == "page_number"


def test_a_cursor_is_written_with_its_filter(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = lambda seen: [
        row for row in ROWS[:12] if row["updated_at"] >= seen.query.get("updated_since", "")
    ]
    made = draft(api, "/things?updated_since=2024-01-01T00:00:00Z", tmp_path)
    [guess] = [one for one in made.guesses if one.place == "endpoint.incremental"]
    assert guess.confidence == "proved"
    assert only(made)["endpoint"]["incremental"] == {
        "cursor_path": "updated_at",
        "initial_value": "2024-01-01T00:00:00Z",
        "start_param": "updated_since",
    }
    assert "params" not in only(made)["endpoint"]
    # a filter that the API ignores is none
    api.answers["/things"] = ROWS[:12]
    made = draft(api, "/things?updated_since=2024-01-01T00:00:00Z", tmp_path)
    assert "incremental" not in only(made)["endpoint"]
    assert any("sends older rows, too" in text for text in made.refuted)
    made = draft(api, "/things", tmp_path)
    assert "incremental" not in only(made)["endpoint"]
    [guess] = [one for one in made.guesses if one.place == "endpoint.incremental"]
    assert guess.confidence == "possible"


def test_a_cursor_that_the_rows_follow_is_written_with_its_order(
    api: ApiServer, tmp_path: Path
) -> None:
    newest_first = sorted(ROWS[:7], key=lambda row: row["updated_at"], reverse=True)
    api.answers["/things"] = newest_first
    cursor = only(draft(api, "/things?sort=-updated_at", tmp_path))["endpoint"]["incremental"]
    assert cursor == {"cursor_path": "updated_at", "row_order": "desc"}
    # an order that the URL doesn't ask for may be one by chance
    made = draft(api, "/things", tmp_path)
    assert "incremental" not in only(made)["endpoint"]
    [guess] = [one for one in made.guesses if one.place == "endpoint.incremental"]
    assert (guess.value, guess.confidence) == (cursor, "possible")


def test_dates_as_texts_get_the_format_that_reads_them(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = [
        {"id": 1, "changed": "27/11/2026", "due": "01/02/2026"},
        {"id": 2, "changed": "28/11/2026", "due": "02/01/2026"},
    ]
    made = draft(api, "/things?order_by=changed", tmp_path)
    found = {one.place: one for one in made.guesses}
    assert found["cursor_format of changed"].value == "%d/%m/%Y"
    assert found["cursor_format of due"].value is None
    assert only(made)["endpoint"]["incremental"] == {
        "cursor_path": "changed",
        "cursor_format": "%d/%m/%Y",
        "row_order": "asc",
    }


def test_a_parent_in_the_path_becomes_a_resource(api: ApiServer, tmp_path: Path) -> None:
    api.answers |= {
        "/v1/users": [{"id": 41}, {"id": 42}],
        "/v1/users/41/orders": {"orders": [{"id": 5}]},
        "/v1/users/42/orders": {"orders": [{"id": 6}, {"id": 7}]},
        "/v1/teams/7/orders": {"orders": [{"id": 6}, {"id": 7}]},
    }
    made = draft(api, "/v1/users/42/orders", tmp_path)
    users, orders = made.value["resources"]
    assert (users["name"], users["primary_key"]) == ("users", "id")
    assert orders["endpoint"]["path"] == "users/{resources.users.id}/orders"
    assert orders["include_from_parent"] == ["id"]
    assert made.preview is not None
    assert [one.rows_read for one in made.preview.resources] == [2, 3]
    # a parent whose list can't be read is told, and the path stays
    made = draft(api, "/v1/teams/7/orders", tmp_path)
    assert only(made)["endpoint"]["path"] == "teams/7/orders"
    assert any(
        one.confidence == "possible" and one.place == "endpoint.path" for one in made.guesses
    )


def test_no_key_is_written_that_comes_twice(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = [{"id": 1, "n": 1}, {"id": 1, "n": 2}]
    assert "primary_key" not in only(draft(api, "/things", tmp_path))
    api.answers["/prices"] = [{"code": "a"}, {"code": "b"}]
    made = draft(api, "/prices", tmp_path)
    assert "primary_key" not in only(made)
    assert [one.value for one in made.guesses if one.place == "primary_key"] == ["code"]


def test_secrets_stay_references(api: ApiServer, tmp_path: Path) -> None:
    api.answers["/things"] = lambda seen: [{"id": 1, "echo": seen.headers["authorization"]}]
    login = ApiLogin({"type": "bearer", "token": "${SHOP_TOKEN}"})
    made = draft(api, "/things", tmp_path, login=login, SHOP_TOKEN="t0ken-t0ken")
    assert api.seen[0].headers["authorization"] == "Bearer t0ken-t0ken"
    assert "t0ken-t0ken" not in repr(made)
