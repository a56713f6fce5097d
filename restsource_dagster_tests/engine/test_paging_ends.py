"""Where the paging ends by a flag, a header, a total in a header or a repeated page; and the first page's params."""

from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

MODES = pytest.mark.parametrize("mode", ["rows", "auto"])
MISS = Answer({"error": "no such page"}, 400)


def loaded(api: ApiServer, settings: Settings, paginator: dict[str, Any], **more: Any) -> list[Any]:
    """The ids in the table, in order."""
    endpoint = {"path": "items", "data_selector": "items", "paginator": paginator}
    endpoint |= more.pop("endpoint", {})
    resource = {"name": "items", "endpoint": endpoint, **more}
    outcome = load(make_connector(api.url, resource), settings)["items"]
    assert outcome.failure is None, outcome.failure.message
    return [row[0] for row in query(settings, "SELECT id FROM shop.items ORDER BY id")]


def failure(api: ApiServer, settings: Settings, paginator: dict[str, Any]) -> str:
    endpoint = {"path": "items", "data_selector": "items", "paginator": paginator}
    resource = {"name": "items", "endpoint": endpoint}
    outcome = load(make_connector(api.url, resource), settings)["items"]
    assert outcome.failure is not None
    return outcome.failure.message


def items(*ids: int, **more: Any) -> dict[str, Any]:
    return {"items": [{"id": one} for one in ids], **more}


@MODES
def test_a_flag_of_the_end_ends_a_paging_whose_next_link_is_always_there(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("after", "0"))
        return items(number + 1, next_page=f"?after={number + 1}", end_of_stream=number == 2)

    api.answers["/items"] = answer
    paginator = {"type": "json_link", "next_url_path": "next_page", "end_path": "end_of_stream"}
    assert loaded(api, settings, paginator, mode=mode) == [1, 2, 3]
    assert len(api.seen) == 3


@pytest.mark.parametrize("flag", ["done", 7, {}])
def test_a_flag_that_is_none_fails_with_its_path(
    api: ApiServer, settings: Settings, flag: Any
) -> None:
    api.answers["/items"] = items(1, next="?p=2", end=flag)
    message = failure(api, settings, {"type": "json_link", "end_path": "end"})
    assert f"`end_path` end gives {flag!r}, neither true nor false" in message


def test_a_flag_of_more_pages_must_be_there(api: ApiServer, settings: Settings) -> None:
    api.answers["/items"] = items(1, next="?p=2")
    message = failure(api, settings, {"type": "json_link", "has_more_path": "more"})
    assert "`has_more_path` more finds nothing" in message


@MODES
def test_the_next_url_may_be_in_a_header_of_any_name(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("_token", "1"))
        url = f"{api.url}/items?_limit=1&_token={number + 1}"
        return Answer(items(number), headers={"Next-Page": url} if number < 3 else {})

    api.answers["/items"] = answer
    paginator = {"type": "header_link", "next_url_header": "Next-Page"}
    assert loaded(api, settings, paginator, mode=mode) == [1, 2, 3]


def test_a_next_url_of_another_host_is_not_followed(api: ApiServer, settings: Settings) -> None:
    headers = {"Next-Page": "http://other.invalid/items"}
    api.answers["/items"] = Answer(items(1), headers=headers)
    paginator = {"type": "header_link", "next_url_header": "Next-Page"}
    assert "another origin" in failure(api, settings, paginator)


@MODES
def test_the_number_of_pages_may_be_in_a_header_and_no_page_after_it_is_asked_for(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.query["page"])
        return Answer(items(number), headers={"X-WP-TotalPages": "3"}) if number <= 3 else MISS

    api.answers["/items"] = answer
    paginator = {
        "type": "page_number",
        "base_page": 1,
        "total_header": "X-WP-TotalPages",
        "stop_after_empty_page": False,
    }
    assert loaded(api, settings, paginator, mode=mode) == [1, 2, 3]
    # pages that are requested ahead are those of the total, and no others
    assert sorted(seen.query["page"] for seen in api.seen) == ["1", "2", "3"]


def test_the_number_of_rows_may_be_in_a_header(api: ApiServer, settings: Settings) -> None:
    def answer(seen: Seen) -> Any:
        start = int(seen.query["offset"])
        found = items(*range(start, min(start + 2, 5)))
        return Answer(found, headers={"Total-Records": "5"}) if start < 5 else MISS

    api.answers["/items"] = answer
    paginator = {"type": "offset", "limit": 2, "total_header": "Total-Records"}
    paginator["stop_after_empty_page"] = False
    assert loaded(api, settings, paginator) == [0, 1, 2, 3, 4]


def test_a_total_that_is_not_in_the_header_is_an_error_if_nothing_else_ends_the_paging(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/items"] = Answer(items(1), headers={"Total": "many"})
    paginator = {"type": "page_number", "total_header": "Total", "stop_after_empty_page": False}
    assert "`total_header` Total gives 'many', no whole number" in failure(api, settings, paginator)


@MODES
def test_a_repeated_page_is_the_end_if_the_file_says_so(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    api.answers["/items"] = lambda seen: items(*range(min(int(seen.query["page"]), 2) * 3, 9))
    paginator = {"type": "page_number", "total_path": None, "stop_when_repeated": True}
    assert loaded(api, settings, {**paginator}, mode=mode, primary_key="id") == list(range(9))
    assert "very records of page" in failure(
        api, settings, {"type": "page_number", "total_path": None}
    )


def test_a_next_page_that_was_asked_for_before_is_the_end_if_the_file_says_so(
    api: ApiServer, settings: Settings
) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("p", "1"))
        return items(number, next=f"?p={min(number + 1, 3)}")

    api.answers["/items"] = answer
    assert loaded(api, settings, {"type": "json_link", "stop_when_repeated": True}) == [1, 2, 3]
    assert "does not move" in failure(api, settings, {"type": "json_link"})


@MODES
def test_params_that_only_the_first_page_may_have(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    def answer(seen: Seen) -> Any:
        token = seen.query.get("page_info")
        others = set(seen.query) - {"page_info", "limit"}
        if (token is None) != (others == {"status", "updated_at_min"}):
            return MISS
        return items(int(token or 1), next={None: "2", "2": "3"}.get(token))

    api.answers["/items"] = answer
    paginator = {
        "type": "cursor",
        "cursor_path": "next",
        "cursor_param": "page_info",
        "first_page_params": ["status", "updated_at_min"],
    }
    params = {"status": "any", "limit": 1, "updated_at_min": "{now-1d}"}
    ids = loaded(api, settings, paginator, endpoint={"params": params}, mode=mode)
    assert ids == [1, 2, 3]
    assert {seen.query["limit"] for seen in api.seen} == {"1"}


def test_numbered_pages_that_are_asked_for_ahead_lack_the_params_of_the_first_one(
    api: ApiServer, settings: Settings
) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.query["page"])
        return items(number, total=4) if ("new" in seen.query) == (number == 0) else MISS

    api.answers["/items"] = answer
    paginator = {"type": "page_number", "first_page_params": ["new"]}
    assert loaded(api, settings, paginator, endpoint={"params": {"new": "yes"}}) == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["SEARCH", "QUERY", "REPORT"])
def test_a_method_is_any_word(api: ApiServer, settings: Settings, method: str) -> None:
    api.answers["/items"] = items(1)
    endpoint = {"method": method, "json": {"q": "all"}}
    if method == "REPORT":  # the server knows the others
        assert "405" in failure_of(api, settings, endpoint)
        return
    assert loaded(api, settings, {"type": "single_page"}, endpoint=endpoint) == [1]
    assert [(seen.method, seen.body) for seen in api.seen] == [(method, b'{"q": "all"}')]


def failure_of(api: ApiServer, settings: Settings, endpoint: dict[str, Any]) -> str:
    resource = {"name": "items", "endpoint": {"path": "items", **endpoint}}
    outcome = load(make_connector(api.url, resource), settings)["items"]
    assert outcome.failure is not None
    return outcome.failure.message
