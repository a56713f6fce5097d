"""Response actions: each action, and each form of each condition."""

import json
from dataclasses import replace
from itertools import cycle
from typing import Any

from restsource_dagster_tests.agreement.rows import (
    QUERY_FILE,
    QUERY_TEXT,
    Handler,
    Result,
    Row,
    page,
    refused,
)
from restsource_dagster_tests.servers.api import Answer

__all__ = ["ROWS"]

GONE = Answer({"message": "it is gone"}, 404, {"X-Reason": "Nothing new"})


def busy() -> Handler:
    """Busy at the first request, rows at the second, and so on."""
    answers = cycle((Answer({"message": "try later"}, 425), page(1)))
    return lambda _: next(answers)


def tries(result: Result) -> int:
    return len(result.seen)


def action(name: str, answers: Any = GONE, **rule: Any) -> Row:
    """An action whose effect is that an answer which would be an error is the end of the rows."""
    gives: Any = [] if rule.get("action", "ignore") == "ignore" else None
    return Row(name, {"response_actions": [{"action": "ignore", **rule}]}, answers, gives)


def useless(name: str, **rule: Any) -> Row:
    """An action that never matches: the 404 is the error that it is without the action."""
    actions = [{"action": "ignore", **rule}]
    return Row(name, {"response_actions": actions}, GONE, fails="answered 404", says="no effect")


NUMBERED = {"type": "page_number", "total_path": None}
BROKEN = page(1, errors=[{"message": "row 2 timed out"}])
AT_A_PLACE = page(1, errors=[{"message": "no", "path": ["a", "b"]}])

ROWS = (
    Row("partial_errors_default", {}, BROKEN, fails="says in `errors` that something failed"),
    Row("partial_errors_fail", {"partial_errors": "fail"}, BROKEN, fails="says in `errors`"),
    Row("partial_errors_load", {"partial_errors": "load"}, BROKEN, [1]),
    refused("partial_errors_unknown", endpoint={"partial_errors": "ignore"}),
    Row(
        "graphql",
        {"graphql": {"query": "{ a }", "variables": {"n": 1}}},
        page(1),
        {"query": "{ a }", "variables": {"n": 1}},
        lambda result: json.loads(result.seen[0].body),
    ),
    Row("graphql_null", {"graphql": None}, page(1), [1]),
    Row(
        "graphql_more",
        {"graphql": {"query": "{ a }"}, "json": {"operationName": "a"}},
        page(1),
        {"query": "{ a }", "operationName": "a"},
        lambda result: json.loads(result.seen[0].body),
    ),
    Row(
        "graphql_query_file",
        {"graphql": {"query_file": QUERY_FILE}},
        page(1),
        QUERY_TEXT,
        lambda result: json.loads(result.seen[0].body)["query"],
    ),
    refused("graphql_no_query", endpoint={"graphql": {"variables": {"n": 1}}}),
    refused(
        "graphql_two_queries", endpoint={"graphql": {"query": "{ a }", "query_file": QUERY_FILE}}
    ),
    refused("graphql_outside", endpoint={"graphql": {"query_file": f"../configs/{QUERY_FILE}"}}),
    Row("graphql_error", {"graphql": {"query": "{ a }"}}, AT_A_PLACE, fails="(at a.b)"),
    Row("graphql_allowed", {"graphql": {"query": "{ a }", "allow_errors": ["a"]}}, AT_A_PLACE, [1]),
    refused("graphql_get", endpoint={"graphql": {"query": "{ a }"}, "method": "GET"}),
    refused("graphql_twice", endpoint={"graphql": {"query": "{ a }"}, "json": {"query": "{ b }"}}),
    refused("graphql_data", endpoint={"graphql": {"query": "{ a }"}, "data": "x"}),
    refused("graphql_empty", endpoint={"graphql": {"query": ""}}),
    action("ignore_404", status_code=404),
    action("ignore_404_text", status_code="404"),
    action("ignore_404_spaces", status_code=" 404 "),
    # a refusal would empty the replaced table
    replace(action("ignore_class", status_code="4xx"), says="warning"),
    replace(action("ignore_class_capital", status_code="4XX"), says="warning"),
    replace(action("ignore_403", Answer({}, 403), status_code=403), says="warning"),
    replace(
        action("ignore_403_merged", Answer({}, 403), status_code=403),
        resource={"primary_key": "id"},
    ),
    action("ignore_content", content="is gone"),
    action("ignore_content_empty", content=""),
    action("ignore_header", header={"x-reason": "nothing"}),
    action("ignore_header_present", header={"X-Reason": ""}),
    action("ignore_all_of", status_code=404, content="gone", header={"X-Reason": "new"}),
    action("ignore_200", page(1), status_code=200),
    action("ignore_204", Answer(b"", 204), status_code=204),
    Row(
        "ignore_not_all_of",
        {"response_actions": [{"status_code": 404, "content": "here", "action": "ignore"}]},
        GONE,
        fails="answered 404",
    ),
    Row(
        "ignore_null_conditions",
        {
            "response_actions": [
                {"status_code": 404, "content": None, "header": None, "action": "ignore"}
            ]
        },
        GONE,
        gives=[],
    ),
    Row(
        "retry_425",
        {"response_actions": [{"status_code": 425, "action": "retry"}]},
        busy(),
        see=tries,
        gives=2,
    ),
    Row(
        "retry_content",
        {"response_actions": [{"content": "try later", "action": "retry"}]},
        busy(),
        gives=[1],
    ),
    Row(
        "fail_200",
        {"response_actions": [{"status_code": "2xx", "action": "fail"}]},
        page(1),
        fails="response_actions: fail",
    ),
    Row(
        "fail_503",
        {"response_actions": [{"status_code": 503, "action": "fail"}]},
        Answer({}, 503),
        see=tries,
        gives=1,
        fails="response_actions: fail",
    ),
    Row(
        "first_that_matches",
        {
            "response_actions": [
                {"status_code": 404, "action": "ignore"},
                {"status_code": "4xx", "action": "fail"},
            ]
        },
        GONE,
        gives=[],
    ),
    action("body_value", body={"message": "it is gone"}),
    action("body_values", body={"message": "it is gone"}, content="gone", status_code=404),
    Row(
        "body_other",
        {"response_actions": [{"body": {"message": "it"}, "action": "ignore"}]},
        GONE,
        fails="answered 404",
    ),
    refused(
        "body_list",
        endpoint={"response_actions": [{"body": {"message": ["it"]}, "action": "ignore"}]},
    ),
    refused(
        "body_no_path", endpoint={"response_actions": [{"body": {"a[": 1}, "action": "ignore"}]}
    ),
    Row(
        "skip",
        {"response_actions": [{"status_code": 403, "action": "skip"}]},
        page(1, 2),
        gives=[1, 2],
        again=Answer({}, 403),
    ),
    Row(
        "end",
        {"paginator": NUMBERED, "response_actions": [{"status_code": 400, "action": "end"}]},
        lambda seen: page(1) if seen.query["page"] == "0" else Answer({}, 400),
        gives=[1],
    ),
    Row(
        "end_first",
        {"response_actions": [{"status_code": 400, "action": "end"}]},
        Answer({}, 400),
        fails="no page came before it",
    ),
    Row(
        "end_with_rows",
        {"paginator": NUMBERED, "response_actions": [{"body": {"last": True}, "action": "end"}]},
        lambda seen: page(int(seen.query["page"]), last=seen.query["page"] == "1"),
        gives=[0, 1],
    ),
    refused(
        "gone_without_parent",
        endpoint={"response_actions": [{"status_code": 404, "action": "gone"}]},
    ),
    useless("no_body", body={}),
    useless("action_unknown", status_code=404, action="ingore"),
    useless("action_of_dlt_only", status_code=404, action="Ignore"),
    useless("no_condition"),
    useless("no_header", header={}),
    useless("status_word", status_code="gone"),
    useless("status_list", status_code="404, 410"),
    useless("status_too_small", status_code=40),
    useless("status_too_large", status_code=1404),
    useless("class_too_large", status_code="6xx"),
    Row(
        "no_action",
        {"response_actions": [{"status_code": 404}]},
        GONE,
        says="error",
    ),
)
