"""What is sent: authentication, headers, bodies and params, and how requests behave (`http`)."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from restsource_dagster_tests.agreement.rows import Result, Row, page, refused
from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = ["ROWS"]

TOKEN_ANSWER = {"access_token": "fresh", "token_type": "bearer", "expires_in": 3600}


def header(name: str) -> Callable[[Result], Any]:
    return lambda result: result.seen[0].headers.get(name)


def param(name: str) -> Callable[[Result], Any]:
    return lambda result: result.seen[0].query.get(name)


def body(result: Result) -> bytes:
    return result.seen[0].body


def method(result: Result) -> str:
    return result.seen[0].method


def auth(name: str, given: Any, see: Callable[[Result], Any], gives: Any, **more: Any) -> Row:
    return Row(name, {"auth": given}, page(1), gives, see, **more)


def oauth(name: str, answer: Any = TOKEN_ANSWER, gives: str = "Bearer fresh", **fields: Any) -> Row:
    """OAuth 2.0; the token endpoint is below the row's path."""
    given = {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{{api}}/{name}/token",
        "client_id": "${USER_NAME}",
        "client_secret": "${PASSWORD}",
        **fields,
    }
    return auth(name, given, header("authorization"), gives, paths={"/token": answer})


def needs(**fields: str) -> Callable[[Seen], Any]:
    """A token if the request has these fields in its form, else 400."""

    def answer(seen: Seen) -> Any:
        sent = dict(pair.split("=", 1) for pair in seen.body.decode().split("&"))
        fine = all(sent.get(name) == value for name, value in fields.items())
        return TOKEN_ANSWER if fine else Answer({"error": f"sent {sorted(sent)}"}, 400)

    return answer


def basic_client(seen: Seen) -> Any:
    """A token if the client is sent by HTTP Basic and not in the form, else 401."""
    sent_by_basic = "Basic " + b64encode(b"ann:pass word").decode()
    in_form = b"client_id" in seen.body or b"client_secret" in seen.body
    fine = seen.headers.get("authorization") == sent_by_basic and not in_form
    return TOKEN_ANSWER if fine else Answer({"error": "invalid_client"}, 401)


def sent(name: str, endpoint: dict[str, Any], see: Callable[[Result], Any], gives: Any) -> Row:
    return Row(name, endpoint, page(1), gives, see)


AUTHORIZATION = header("authorization")

JOB = {
    "id_path": "id",
    "status": {"path": "job/status/{job.id}"},
    "status_path": "state",
    "done": ["done"],
    "every": "1s",
    "url_path": "url",
}


def job(name: str, gives: Any, asks: Callable[[Seen], bool] = lambda _: True, **fields: Any) -> Row:
    """A job that is done at once, if it is asked for as it should be, with its file at `NAME/file`."""
    given = {**JOB, "status": {"path": f"{name}/status/{{job.id}}"}, **fields}

    def status(seen: Seen) -> Any:
        return {"state": "done" if asks(seen) else "failed", "url": f"/{name}/file"}

    return Row(
        name,
        {"method": "POST", "job": {key: value for key, value in given.items() if value is not ...}},
        {"id": 7},
        gives,
        paths={
            "/status/7": status,
            "/file": page(1),
            "/file/7": page(2),
            "/delete/7": lambda seen: Answer({}, 200 if seen.method == "POST" else 405),
        },
    )


def bad_job(name: str, endpoint: dict[str, Any] | None = None, **fields: Any) -> Row:
    given = {key: value for key, value in {**JOB, **fields}.items() if value is not ...}
    return refused(name, endpoint={"job": given, **(endpoint or {})})


ROWS = (
    Row("job_null", {"job": None}, page(1), [1]),
    job("job", [1]),
    job("job_failed", [1], failed=["failed"], at_most="2h"),
    job("job_download", [2], url_path=..., download={"path": "job_download/file/{job.id}"}),
    job("job_delete", [1], delete={"path": "job_delete/delete/{job.id}", "method": "POST"}),
    job(
        "job_params",
        [1],
        lambda seen: seen.query == {"n": "7"},
        status={"path": "job_params/status/7", "params": {"n": "{job.id}"}},
        failed=["failed"],
    ),
    job(
        "job_json",
        [1],
        lambda seen: (seen.method, json.loads(seen.body)) == ("POST", {"n": 7}),
        status={"path": "job_json/status/7", "method": "POST", "json": {"n": "{job.id}"}},
        failed=["failed"],
    ),
    job(
        "job_graphql",
        [1],
        lambda seen: (
            (seen.method, json.loads(seen.body))
            == ("POST", {"query": "{ a }", "variables": {"id": 7}})
        ),
        status={
            "path": "job_graphql/status/7",
            "graphql": {"query": "{ a }", "variables": {"id": "{job.id}"}},
        },
        failed=["failed"],
    ),
    bad_job("job_without_file", url_path=...),
    bad_job("job_two_files", download={"path": "x/{job.id}"}),
    bad_job("job_no_id", status={"path": "job/status"}),
    bad_job("job_other_placeholder", status={"path": "job/{incremental.start_value}/{job.id}"}),
    bad_job("job_brace", status={"path": "job/{job.id}/{"}),
    bad_job("job_done_and_failed", failed=["done"]),
    bad_job("job_done_empty", done=[]),
    bad_job("job_every", every="soon"),
    bad_job("job_paginator", {"paginator": "page_number"}),
    bad_job("job_for_each", {"path": "{each.n}", "for_each": {"n": [1]}}),
    bad_job("job_below", {"path": "{resources.a.id}"}),
    auth("no_auth", None, AUTHORIZATION, None),
    auth("bearer", {"type": "bearer", "token": "${TOKEN}"}, AUTHORIZATION, "Bearer t0ken"),
    auth("bearer_by_default", {"token": "${TOKEN}"}, AUTHORIZATION, "Bearer t0ken"),
    auth(
        "bearer_default",
        {"token": "${NO_SUCH:-t0ken}"},
        AUTHORIZATION,
        "Bearer t0ken",
        says="warning",
    ),
    auth("bearer_of_dlt", {"token": "${dlt:credentials.token}"}, AUTHORIZATION, "Bearer t0ken"),
    auth("bearer_literal", {"token": "t0ken"}, AUTHORIZATION, "Bearer t0ken", says="warning"),
    auth(
        "api_key",
        {"type": "api_key", "api_key": "${TOKEN}"},
        AUTHORIZATION,
        "t0ken",
    ),
    *(
        auth(
            f"api_key_{location}",
            {"type": "api_key", "name": "X-Key", "api_key": "${TOKEN}", "location": location},
            see,
            gives,
        )
        for location, see, gives in (
            ("header", header("x-key"), "t0ken"),
            ("query", param("X-Key"), "t0ken"),
            ("param", param("X-Key"), "t0ken"),
            ("cookie", header("cookie"), "X-Key=t0ken"),
        )
    ),
    # null has dlt look where it looks for secrets, also for what has a default
    *(
        auth(f"api_key_{name}_null", given, AUTHORIZATION, None, fails=f"`{name}`")
        for name in ("name", "location")
        for given in ({"type": "api_key", "api_key": "${TOKEN}", name: None},)
    ),
    auth(
        "http_basic",
        {"type": "http_basic", "username": "${USER_NAME}", "password": "${PASSWORD}"},
        AUTHORIZATION,
        "Basic YW5uOnBhc3Mgd29yZA==",
    ),
    refused(
        "http_basic_half", endpoint={"auth": {"type": "http_basic", "username": "${USER_NAME}"}}
    ),
    *(
        auth(f"word_{word}", word, AUTHORIZATION, gives)
        for word, gives in (
            ("bearer", "Bearer t0ken"),
            ("api_key", "t0ken"),
            ("http_basic", "Basic YW5uOnBhc3Mgd29yZA=="),
        )
    ),
    auth(
        "word_oauth",
        "oauth2_client_credentials",
        AUTHORIZATION,
        "Bearer fresh",
        paths={"/token": TOKEN_ANSWER},
    ),
    refused("word_unknown_auth", endpoint={"auth": "digest"}),
    refused("type_unknown_auth", endpoint={"auth": {"type": "digest"}}),
    Row(
        "auth_of_the_client",
        {},
        page(1),
        "Bearer t0ken",
        AUTHORIZATION,
        file={"client": {"auth": {"token": "${TOKEN}"}, "headers": {"X-Client": "a"}}},
    ),
    oauth("oauth"),
    oauth("oauth_client_id", needs(client_id="ann"), client_id="${USER_NAME}"),
    oauth("oauth_client_secret", needs(client_secret="pass+word"), client_secret="${PASSWORD}"),
    oauth("oauth_in_body", needs(client_id="ann"), client_authentication="body"),
    oauth("oauth_by_basic", basic_client, client_authentication="basic"),
    refused(
        "oauth_by_header",
        endpoint={"auth": {"type": "oauth2_client_credentials", "client_authentication": "header"}},
    ),
    oauth("oauth_data_flag", needs(all="true"), access_token_request_data={"all": True}),
    oauth("oauth_data", needs(scope="read"), access_token_request_data={"scope": "read"}),
    *(
        auth(f"oauth_{name}_null", given, AUTHORIZATION, None, fails=f"`{name}`")
        for name in ("access_token_request_data", "default_token_expiration")
        for given in ({"type": "oauth2_client_credentials", name: None},)
    ),
    oauth("oauth_expires", {"access_token": "fresh"}, default_token_expiration=60),
    oauth("oauth_token", access_token="${TOKEN}"),
    sent("headers", {"headers": {"X-Own": "b"}}, header("x-own"), "b"),
    sent("headers_null", {"headers": None}, header("x-own"), None),
    Row(
        "headers_of_the_client",
        {"headers": {"X-Own": "b"}},
        page(1),
        ("a", "b"),
        lambda result: (header("x-client")(result), header("x-own")(result)),
        file={"client": {"auth": {"token": "${TOKEN}"}, "headers": {"X-Client": "a"}}},
    ),
    Row(
        "headers_of_the_client_null",
        {},
        page(1),
        [1],
        file={"client": {"headers": None}},
    ),
    sent("get", {"method": "GET"}, method, "GET"),
    sent("post", {"method": "POST"}, method, "POST"),
    sent("query", {"method": "QUERY", "json": {"a": 1}}, method, "QUERY"),
    sent("search", {"method": "SEARCH"}, method, "SEARCH"),
    refused("method_in_small_letters", endpoint={"method": "search"}),
    sent("method_null", {"method": None}, method, "GET"),
    sent(
        "params",
        {"params": {"a": "b", "n": 1}},
        lambda r: dict(r.seen[0].query),
        {"a": "b", "n": "1"},
    ),
    sent("params_list", {"params": {"a": ["b", "c"]}}, param("a"), "c"),
    *(
        sent(
            f"params_{style}",
            {"params_style": style, "params": {"a": ["b", True], "c": "d"}},
            lambda r: dict(r.seen[0].query),
            gives,
        )
        for style, gives in (
            ("repeat", {"a": "true", "c": "d"}),
            ("brackets", {"a[]": "true", "c": "d"}),
            ("comma", {"a": "b,true", "c": "d"}),
        )
    ),
    refused("params_style_unknown", endpoint={"params_style": "csv"}),
    sent("params_null", {"params": {"a": None}}, param("a"), None),
    sent("json_body", {"method": "POST", "json": {"a": {"b": 1}}}, body, b'{"a": {"b": 1}}'),
    sent("form", {"method": "POST", "data": {"a": "b c"}}, body, b"a=b+c"),
    sent("raw", {"method": "POST", "data": "<a/>"}, body, b"<a/>"),
    refused("two_bodies", endpoint={"method": "POST", "data": {"a": 1}, "json": {"a": 1}}),
    Row("selector", {"data_selector": "a.b"}, {"a": {"b": [{"id": 1}]}}, [1]),
    Row("selector_all", {"data_selector": "a[*].b"}, {"a": [{"b": {"id": 1}}]}, [1]),
    Row("selector_null", {"data_selector": None}, page(1), [1]),
    Row("selector_of_nothing", {"data_selector": "rows"}, page(1), fails="rows"),
    refused("selector_no_path", endpoint={"data_selector": "a["}),
)
