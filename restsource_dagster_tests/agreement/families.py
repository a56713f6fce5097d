"""Dependent resources, and how requests behave (`http`)."""

import asyncio
from typing import Any

from restsource_dagster_tests.agreement.rows import Result, Row, by, ids, page, refused
from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = ["ROWS"]

BROKEN = Answer({"error": "broken"}, 500)


def child(name: str, gives: Any, endpoint: Any = None, first: Any = None, **row: Any) -> Row:
    """A resource that is asked for below each of two parents: `NAME/1` and `NAME/2`."""
    parent = f"{name}_parent"
    placeholder = f"{name}/{{resources.{parent}.id}}"
    return Row(
        name,
        {"path": placeholder} if endpoint is None else endpoint,
        gives=gives,
        more=[{"name": parent, "endpoint": {"data_selector": "items", "paginator": "single_page"}}],
        paths={"_parent": page(1, 2), "/1": first or page(11), "/2": page(12)},
        **row,
    )


def http(name: str, answers: Any, endpoint: Any = None, **row: Any) -> Row:
    settings = row.pop("settings")
    return Row(name, endpoint or {}, answers, file={"http": settings}, **row)


async def slow(_: Seen) -> Any:
    """Rows after a second."""
    await asyncio.sleep(1)
    return page(1)


def elsewhere(seen: Seen) -> Any:
    """A page that leads to the same server under another name."""
    port = seen.headers["host"].rsplit(":", 1)[-1]
    return page(2) if "p" in seen.query else page(1, next=f"http://localhost:{port}{seen.path}?p=2")


def numbered(pages: int) -> Any:
    return by("page", {str(n): page(n) if n < pages else page() for n in range(pages + 1)})


def asked(result: Result) -> list[str | None]:
    return result.asked("page")


NUMBERS = {"paginator": {"type": "page_number", "total_path": None}}
LINK = {"paginator": "json_link"}

GONE = [{"status_code": 404, "action": "gone"}]


def each(name: str, gives: Any, lists: Any, **row: Any) -> Row:
    """A resource that is asked for at `NAME/VALUE`."""
    endpoint = {"path": f"{name}/{{each.n}}", "for_each": lists}
    return Row(name, endpoint, gives=gives, paths={"/1": page(11), "/b c": page(12)}, **row)


def listed(name: str, gives: Any, see: Any = ids, **param: Any) -> Row:
    """A resource that is asked for with the values of lists in two parents."""
    parent = f"{name}_parent"
    found = {"type": "resolve", "resource": parent, "field": "v[*].id", **param}
    return Row(
        name,
        {"params": {"ids": found}},
        lambda seen: page(*(int(one) for one in seen.query["ids"].split(","))),
        gives,
        see,
        more=[{"name": parent, "endpoint": {"data_selector": "items", "paginator": "single_page"}}],
        paths={
            "_parent": page(
                {"id": 1, "v": [{"id": 5}, {"id": 6}]}, {"id": 2, "v": [{"id": 7}, {"id": 5}]}
            )
        },
    )


def bad_list(name: str, **row: Any) -> Row:
    """A list of a parent in a param `ids`, with what contradicts it."""
    found = {"type": "resolve", "resource": f"{name}_parent", "field": "v[*].id"}
    endpoint = row.pop("endpoint", {})
    params = {"ids": {**found, **row.pop("param", {})}, **endpoint.pop("params", {})}
    more = [{"name": f"{name}_parent", "endpoint": "a"}]
    return refused(name, endpoint={"params": params, **endpoint}, more=more, **row)


RENAME = {"from": "code", "to": "label"}


def renamed(name: str, gives: Any, column: str, answers: Any, **rename: Any) -> Row:
    """A resource whose fields have the labels of a list of fields; `gives` are the values of a column."""
    listed = f"{name}_fields"
    return Row(
        name,
        {},
        answers,
        gives,
        lambda result: result.table(column),
        resource={"rename_from": {"resource": listed, **RENAME, **rename}},
        more=[{"name": listed, "endpoint": {"data_selector": "items", "paginator": "single_page"}}],
        paths={"_fields": page({"code": "a1", "label": "Region"})},
    )


CURSOR = {"cursor_path": "at", "initial_value": 0}

ROWS = (
    child(
        "gone",
        [12],
        {
            "path": "gone/{resources.gone_parent.id}",
            "response_actions": GONE,
        },
        first=Answer({}, 404),
        resource={"include_from_parent": ["id"]},
    ),
    child(
        "gone_unknown_rows",
        None,
        {
            "path": "gone_unknown_rows/{resources.gone_unknown_rows_parent.id}",
            "response_actions": GONE,
        },
        says="error",
    ),
    child(
        "children",
        [11, 12],
        resource={"include_from_parent": ["id"], "primary_key": "id", "children": "replace"},
    ),
    child(
        "children_by",
        [11, 12],
        first=page({"id": 11, "parent": 1}),
        resource={"primary_key": "id", "children": {"replace_by": "id"}},
    ),
    child("children_null", [11, 12], resource={"children": None}),
    refused("children_of_nobody", resource={"primary_key": "id", "children": "replace"}),
    child(
        "children_without_key",
        None,
        resource={"include_from_parent": ["id"], "children": "replace"},
        says="error",
    ),
    child(
        "children_unknown",
        None,
        resource={"primary_key": "id", "children": "replace"},
        says="error",
    ),
    child(
        "children_with_cursor",
        None,
        {
            "path": "children_with_cursor/{resources.children_with_cursor_parent.id}",
            "incremental": CURSOR,
        },
        resource={"include_from_parent": ["id"], "primary_key": "id", "children": "replace"},
        says="error",
    ),
    renamed("renamed", ["north"], "region", page({"id": 1, "a1": "north"})),
    renamed(
        "renamed_inside",
        ["north"],
        "of__region",
        page({"id": 1, "of": {"a1": "north"}}),
        at="of",
        match="[a-z][0-9]",
    ),
    refused("renamed_by_nobody", resource={"rename_from": {**RENAME, "resource": "nobody"}}),
    refused("renamed_without_label", resource={"rename_from": {"resource": "a", "from": "b"}}),
    Row("renamed_null", {}, page(1), [1], resource={"rename_from": None}),
    each("for_each", [11, 12], {"n": [1, "b c"]}),
    Row("for_each_null", {"for_each": None}, page(1), [1]),
    each(
        "for_each_columns",
        [("1", 11), ("b c", 12)],
        {"n": [1, "b c"]},
        see=lambda result: result.table("_each_n::varchar, id"),
        resource={"include_from_parent": ["each.n"], "columns": {"_each_n": {"data_type": "text"}}},
    ),
    refused("for_each_empty", endpoint={"path": "{each.n}", "for_each": {"n": []}}),
    refused("for_each_of_nothing", endpoint={"for_each": {}}),
    refused("for_each_twice", endpoint={"path": "{each.n}", "for_each": {"n": [1, 1]}}),
    refused("for_each_flag", endpoint={"path": "{each.n}", "for_each": {"n": [True]}}),
    refused("for_each_unused", endpoint={"for_each": {"n": [1]}}),
    refused("for_each_unknown", endpoint={"path": "{each.m}{each.n}", "for_each": {"n": [1]}}),
    refused(
        "for_each_column_unknown",
        endpoint={"path": "{each.n}", "for_each": {"n": [1]}},
        resource={"include_from_parent": ["each.m"]},
    ),
    refused(
        "for_each_backfill",
        endpoint={"path": "{each.n}", "for_each": {"n": [1]}, "incremental": CURSOR},
        resource={"backfill": {"partitions": "monthly"}},
    ),
    refused(
        "for_each_window",
        endpoint={
            "path": "{each.n}",
            "for_each": {"n": [1]},
            "incremental": {
                "cursor_path": "at",
                "initial_value": "2026-01-01T00:00:00Z",
                "start_param": "since",
                "end_param": "until",
                "window": {"size": "30d"},
            },
        },
    ),
    refused(
        "for_each_gone",
        endpoint={
            "path": "{each.n}",
            "for_each": {"n": [1]},
            "response_actions": [{"status_code": 404, "action": "gone"}],
        },
    ),
    listed("list_of_a_parent", [5, 6, 7]),
    listed(
        "batch",
        ["5,6", "7"],
        lambda result: [seen.query["ids"] for seen in result.seen if "ids" in seen.query],
        batch=2,
    ),
    listed("batch_separator", [5, 6, 7], batch=2, separator=","),
    listed("batch_as_list", [5, 6, 7], batch=1, separator=None),
    bad_list("batch_zero", param={"batch": 0}),
    bad_list("batch_without", param={"separator": "|"}),
    bad_list("batch_cursor", param={"batch": 2}, endpoint={"incremental": CURSOR}),
    bad_list("batch_columns", param={"batch": 2}, resource={"include_from_parent": ["id"]}),
    bad_list("batch_in_path", param={"batch": 2, "separator": None}, endpoint={"path": "{ids}"}),
    bad_list(
        "two_lists",
        endpoint={
            "params": {"b": {"type": "resolve", "resource": "two_lists_parent", "field": "w[*]"}}
        },
    ),
    child("by_placeholder", [11, 12]),
    child(
        "by_param",
        [11, 12],
        {
            "path": "by_param/{id}",
            "params": {"id": {"type": "resolve", "resource": "by_param_parent", "field": "id"}},
        },
    ),
    refused(
        "by_param_of_nothing",
        endpoint={
            "path": "a/{id}",
            "params": {"id": {"type": "resolve", "resource": "nothing", "field": "id"}},
        },
    ),
    refused(
        "param_not_in_the_path",
        endpoint={"params": {"id": {"type": "resolve", "resource": "a", "field": "id"}}},
    ),
    child(
        "include",
        [1, 2],
        see=lambda r: r.table('"_include_parent_id"'),
        resource={"include_from_parent": ["id"]},
    ),
    child("include_null", [11, 12], resource={"include_from_parent": None}),
    child("child_fails", None, first=BROKEN, fails="500"),
    child(
        "child_fails_too",
        None,
        first=BROKEN,
        fails="500",
        file={"http": {"on_child_error": "fail"}},
    ),
    child(
        "child_skipped", [12], first=BROKEN, file={"http": {"on_child_error": {"skip_up_to": 1}}}
    ),
    refused("skip_none", file={"http": {"on_child_error": {"skip_up_to": 0}}}),
    http("in_time", page(1), settings={"timeout_seconds": 30}, gives=[1]),
    http("too_slow", slow, settings={"timeout_seconds": 0.2}, fails="timeout_seconds"),
    refused("no_time", file={"http": {"timeout_seconds": 0}}),
    http(
        "waits_too_long",
        Answer({}, 429, {"Retry-After": "100"}),
        settings={"max_wait_seconds": 2},
        fails="max_wait_seconds",
    ),
    refused("no_wait", file={"http": {"max_wait_seconds": -1}}),
    http(
        "few_requests",
        numbered(3),
        NUMBERS,
        settings={"requests_per_second": 2, "max_concurrency": 1},
        see=lambda result: result.outcome.seconds > 0.9,
        gives=True,
    ),
    http(
        "few_in_a_period",
        numbered(3),
        NUMBERS,
        settings={
            "rate_limits": [{"requests": 2, "per": "1s", "match": "few_*"}],
            "shared": "options",
            "max_concurrency": 1,
        },
        see=lambda result: result.outcome.seconds > 0.9,
        gives=True,
    ),
    http(
        "dear_requests",
        numbered(3),
        NUMBERS,
        settings={
            "rate_limits": [
                {"requests": 20, "per": "1s", "costs": {"*": 10}, "when_used_up": "wait"}
            ],
            "max_concurrency": 1,
        },
        see=lambda result: result.outcome.seconds > 0.9,
        gives=True,
    ),
    http(
        "no_tokens_left",
        numbered(3),
        NUMBERS,
        settings={
            "rate_limits": [
                {"requests": 25, "per": "1d", "costs": {"*": 10}, "when_used_up": "fail"}
            ],
            "max_concurrency": 1,
        },
        fails="leaves no room",
    ),
    refused(
        "dearer_than_the_limit",
        file={"http": {"rate_limits": [{"requests": 9, "per": "1d", "costs": {"*": 10}}]}},
    ),
    refused("no_period", file={"http": {"rate_limits": [{"requests": 1, "per": "a minute"}]}}),
    refused("long_period", file={"http": {"rate_limits": [{"requests": 1, "per": "2d"}]}}),
    refused("no_requests_in_it", file={"http": {"rate_limits": [{"requests": 0, "per": "1m"}]}}),
    refused(
        "no_path",
        file={"http": {"rate_limits": [{"requests": 1, "per": "1m", "match": "{id}"}]}},
    ),
    refused("no_name_to_share", file={"http": {"shared": "../up"}}),
    Row(
        "own_limits",
        NUMBERS,
        numbered(3),
        gives=True,
        see=lambda result: result.outcome.seconds > 0.9,
        # one by one, so that all requests fall into its own time
        file={"http": {"max_concurrency": 1}},
        resource={
            "http": {"requests_per_second": 2, "rate_limits": [{"requests": 100, "per": "1h"}]}
        },
    ),
    Row(
        "own_sizes",
        NUMBERS,
        numbered(3),
        fails="max_pages",
        resource={
            "http": {
                "max_pages": 2,
                "timeout_seconds": 30,
                "max_wait_seconds": 5,
                "max_response_mb": 1,
            }
        },
    ),
    Row("own_nothing", {}, page(1), [1], resource={"http": None}),
    refused("own_hosts", resource={"http": {"allowed_hosts": ["a.example.com"]}}),
    http("any_requests", page(1), settings={"requests_per_second": None}, gives=[1]),
    refused("no_requests", file={"http": {"requests_per_second": 0}}),
    http(
        "one_by_one",
        numbered(2),
        NUMBERS,
        settings={"max_concurrency": 1},
        see=asked,
        gives=["0", "1", "2"],
    ),
    refused("none_at_once", file={"http": {"max_concurrency": 0}}),
    http("many_pages", numbered(3), NUMBERS, settings={"max_pages": 4}, gives=[0, 1, 2]),
    http("too_many_pages", numbered(3), NUMBERS, settings={"max_pages": 2}, fails="max_pages"),
    http("large_response", page(1), settings={"max_response_mb": 1}, gives=[1]),
    http(
        "too_large_response",
        page({"id": 1, "text": "x" * 1_100_000}),
        settings={"max_response_mb": 1},
        fails="max_response_mb",
    ),
    refused("no_response", file={"http": {"max_response_mb": 0}}),
    refused("no_pages", file={"http": {"max_pages": 0}}),
    http("allowed_host", elsewhere, LINK, settings={"allowed_hosts": ["{other}"]}, gives=[1, 2]),
    http("other_host", elsewhere, LINK, settings={}, fails="allowed_hosts"),
    refused("host_with_scheme", file={"http": {"allowed_hosts": ["https://a.example.com"]}}),
)
