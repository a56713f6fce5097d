"""Rules beyond the structure of a file: what dlt refuses later, and what this project refuses.

dlt refuses some values only when it builds paginators, authentication, cursors, hooks and merge
strategies. Follows the constructors in `dlt.sources.helpers.rest_client`, `create_resources` in
`dlt.sources.rest_api` and `validate_write_disposition_hint` in `dlt.extract.hints`.

Other values dlt accepts, and then fails or silently does something else. They are refused here, while
the file is open in the editor. `refusals` lists them all, each with its reason.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from restsource_dagster.connector.cursor_format import moment_of, text_sort_key
from restsource_dagster.connector.env_references import (
    is_without_references,
    without_references,
)
from restsource_dagster.connector.models.auth import (
    OWN_AUTH_TYPES,
    Auth,
    HttpBasicAuth,
    LoginAuth,
    auth_problems,
)
from restsource_dagster.connector.models.connector_file import Client
from restsource_dagster.connector.models.fields import is_jsonpath
from restsource_dagster.connector.models.incremental_cursor import (
    TOKEN_PLACEHOLDER,
    Incremental,
    IncrementalParam,
)
from restsource_dagster.connector.models.oauth_logins import (
    OAuth2RefreshTokenAuth,
    OAuthLogin,
)
from restsource_dagster.connector.models.paginators import paginator_findings
from restsource_dagster.connector.models.processing_steps import removed_fields
from restsource_dagster.connector.models.table_hints import (
    Cdc,
    PlainDisposition,
    merge_strategy_findings,
)
from restsource_dagster.connector.naming import is_key_path
from restsource_dagster.connector.time_formats import meant_relative_time, patterns_for
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
    nearest_name,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.input_checks import (
    is_full_url,
    url_findings,
)
from restsource_dagster.connector.validation.merged_resource import (
    MergedResource,
    disposition_name,
    max_table_nesting,
    report_skip,
)

__all__ = [
    "auth_findings",
    "check_endpoint_rules",
    "check_sync_tokens",
    "check_table_hints",
    "tls_findings",
]


def auth_findings(auth: Auth | None, at: FieldPath, *, in_defaults: bool) -> Iterator[Finding]:
    """Yield what dlt refuses in an `auth` whose fields are all known, and an unusable token URL."""
    if auth is None or isinstance(auth, str):
        return
    # dlt looks an empty one up
    if isinstance(auth, OAuthLogin) and auth.access_token_url:
        yield from url_findings(auth.access_token_url, (*at, "access_token_url"))
    if isinstance(auth, OAuth2RefreshTokenAuth) and auth.authorization is not None:
        yield from url_findings(auth.authorization.url, (*at, "authorization", "url"))
    if isinstance(auth, LoginAuth) and is_full_url(auth.path):
        yield from url_findings(auth.path, (*at, "path"))
    # shown at the field if it is there, else at the object that lacks it
    for name, problem, fix in auth_problems(auth):
        at_field = (*at, name) if name in auth.model_fields_set else at
        yield Finding(json_pointer(at_field), problem, fix=fix, code="deliberate:login")
    given = auth.given
    if isinstance(auth, HttpBasicAuth) and ("username" in given) != ("password" in given):
        missing = "password" if "username" in given else "username"
        yield Finding(
            json_pointer(at),
            f"`{missing}` is missing: dlt takes user name and password together or not at all",
            fix=f'Write "{missing}": "${{NAME}}", or "{missing}": null to have dlt look for it '
            "in secrets.toml",
        )
    # In a resource `null` means that dlt looks for the secret; in defaults it fails its check.
    if in_defaults:
        is_own = given.get("type") in OWN_AUTH_TYPES
        for name in ("token", "api_key", "username", "password", "client_id", "client_secret"):
            if name in given and given[name] is None and not is_own:
                yield Finding(
                    json_pointer((*at, name)),
                    f"`{name}` is null, which dlt refuses in `resource_defaults`",
                    fix="Leave it out, or write a reference such as `${NAME}`",
                )


def tls_findings(client: Client) -> Iterator[Finding]:
    """Yield what is wrong with the certificates of a client."""
    tls = client.tls
    if tls is not None and tls.key is not None and tls.cert is None:
        yield Finding(
            json_pointer(("client", "tls", "key")),
            "a key without `cert` proves nothing",
            fix='Add "cert": "/path/client.pem"',
            code="deliberate:login",
        )


def check_endpoint_rules(merged: MergedResource) -> None:
    """Report what dlt refuses in the endpoint when it builds or first uses the resource."""
    endpoint = merged.endpoint
    if endpoint.paginator is not None:
        at = merged.endpoint_location("paginator")
        merged.findings.extend(paginator_findings(endpoint.paginator, at))
    if endpoint.auth is not None:
        in_defaults = "auth" not in merged.own_endpoint.model_fields_set
        at = merged.endpoint_location("auth")
        merged.findings.extend(auth_findings(endpoint.auth, at, in_defaults=in_defaults))
    if is_full_url(endpoint.path):
        # values of placeholders can be anything
        url = re.sub(r"\{[^{}]*\}", "x", without_references(endpoint.path, "1"))
        merged.findings.extend(url_findings(url, merged.path_at))
    # placeholders of a path are checked by `check_path`, before this
    _check_first_page_params(merged)
    params, cursor = endpoint.incremental_params, endpoint.cursor
    _check_incremental_params(merged, params)
    if cursor is not None:
        param = next(iter(params), None)
        at = merged.param_location(param) if param else merged.endpoint_location("incremental")
        _check_cursor_values(merged, cursor, at)
        _check_convert(merged, cursor)
    if endpoint.json_ and endpoint.data:
        merged.report(
            merged.endpoint_location("data"),
            "`json` and `data` are both given, and a request has one body",
            fix="Keep `json` for a JSON body, or `data` for a form or raw text",
            code="deliberate:two-bodies",
            on_key=True,
        )
    _check_graphql(merged)
    selector = endpoint.data_selector
    if selector and not is_jsonpath(without_references(selector)):
        from restsource_dagster.connector.validation.suggestions import suggest_jsonpath

        merged.report(
            merged.endpoint_location("data_selector"),
            "`data_selector` is not a JSON path that dlt can read",
            found=describe_value(selector),
            expected="a path such as `data.items` or `$.items[*]`",
            fix=suggest_jsonpath(selector),
            code="deliberate:data-selector",
        )


def _check_graphql(merged: MergedResource) -> None:
    """Report what contradicts a GraphQL query."""
    own = merged.own_endpoint
    if own.graphql is None:
        return
    # the query is in the body, and a GET has none
    if own.given.get("method") == "GET":
        merged.report(
            merged.endpoint_location("method"),
            "A GraphQL query is sent by POST",
            fix="Leave `method` out",
            code="deliberate:graphql",
        )
    # `with_graphql_request` would take the one of `graphql`, silently
    for name in sorted({"query", "variables"} & own.json_.keys()):
        merged.report(
            (*merged.endpoint_location("json"), name),
            f"`graphql` and `json` both have {quoted_name(name)}",
            fix=f"Write {quoted_name(name)} in `graphql` only",
            code="deliberate:graphql",
            on_key=True,
        )


def check_sync_tokens(merged_resources: Sequence[MergedResource]) -> None:
    """Report what a token in place of a cursor can't be together with. The parents are known."""
    parents = {merged.parent for merged in merged_resources}
    for merged in merged_resources:
        if merged.is_checkable and merged.endpoint.token is not None:
            _check_sync_token(merged, has_dependents=merged.name in parents)


_WHOLE_TABLE = ("replace", "scd2", "cdc")
"""What is written as if a load brought all rows."""


def _check_sync_token(merged: MergedResource, *, has_dependents: bool) -> None:
    _check_token_disposition(merged)
    _check_token_calls(merged, has_dependents=has_dependents)
    _check_token_params(merged)


def _check_token_disposition(merged: MergedResource) -> None:
    given = merged.resource.write_disposition
    how = None if given is None else getattr(given, "strategy", None) or disposition_name(given)
    if how in _WHOLE_TABLE:
        _report_token(
            merged,
            merged.place("write_disposition"),
            f"A run with a token gets only what changed, and {how} takes it for all rows",
            'Write "merge" with a `primary_key`, or "append"; or leave out `incremental`',
        )


def _check_token_calls(merged: MergedResource, *, has_dependents: bool) -> None:
    """Report calls that have no place for a token, or several."""
    if merged.parent is not None or has_dependents:
        relation = "has dependents" if merged.parent is None else "depends on another one"
        _report_token(
            merged,
            merged.endpoint_location("incremental"),
            f"The resource {relation}, and a token is for resources without relatives: each parent "
            "would need one of its own",
            "Leave out `incremental`, or use a cursor (`cursor_path`)",
        )
    if merged.endpoint.job is not None:
        _report_token(
            merged,
            merged.endpoint_location("incremental"),
            "A job makes a file of rows, and a token is a value beside them",
            "Leave out `incremental`, or use a cursor (`cursor_path`)",
        )
    if merged.endpoint.for_each:
        _report_token(
            merged,
            merged.endpoint_location("for_each"),
            "Each of these calls would need a token of its own, and a resource has one",
            "Write a resource for each value; or use a cursor (`cursor_path`) in place of the token",
        )
    body = merged.endpoint.response
    if body is not None and body.format in ("csv", "jsonl"):
        _report_token(
            merged,
            merged.endpoint_location("incremental"),
            f"A token is a value beside the rows, and {body.format} has nothing but rows",
            "Leave out `incremental`, or use a cursor (`cursor_path`)",
        )


def _check_token_params(merged: MergedResource) -> None:
    for name in merged.endpoint.incremental_params:
        _report_token(
            merged,
            merged.param_location(name),
            "The param sends a cursor, and the endpoint has a token in its place",
            f"Keep one of the two: `{TOKEN_PLACEHOLDER}}}` sends the token",
        )
    token, known = merged.endpoint.token, list(merged.endpoint.params)
    for index, name in enumerate(token.first_run_params if token else ()):
        if name not in known and is_without_references(name):
            close = nearest_name(name, known)
            _report_token(
                merged,
                (*merged.endpoint_location("incremental"), "first_run_params", index),
                f"{quoted_name(name)} is no param of this endpoint",
                f"Write `{close}`" if close else f'Add "{name}" to `params`',
            )


def _report_token(merged: MergedResource, at: FieldPath, message: str, fix: str) -> None:
    merged.report(at, message, fix=fix, code="deliberate:sync-token")


def _check_incremental_params(
    merged: MergedResource, params: Mapping[str, IncrementalParam]
) -> None:
    names = list(params)
    if len(names) > 1:
        merged.report(
            merged.param_location(names[1]),
            f"{quoted_list(names, 'and')} are all incremental, and an endpoint has one cursor",
            fix="Use `endpoint.incremental` with `start_param` and `end_param`",
        )
    # dlt raises `ValueError` for one when it builds the resource (`setup_incremental_object`)
    for name, param in params.items():
        if param.end_value:
            merged.report(
                (*merged.param_location(name), "end_value"),
                "An incremental param has no `end_value`",
                fix="Use `endpoint.incremental` with `end_value` and `end_param`",
                on_key=True,
            )
    if names and merged.endpoint.incremental and not merged.endpoint.token:
        merged.report(
            merged.endpoint_location("incremental"),
            f"`incremental` is not used: the param {quoted_name(names[0])} is the cursor",
            fix="Keep one of the two",
            severity="warning",
            on_key=True,
        )


def _check_cursor_values(merged: MergedResource, cursor: Incremental, at: FieldPath) -> None:
    """Report an `initial_value` or `end_value` that can't be compared with what the API sends.

    `at` is where the cursor is written.
    """
    kinds = []
    for name in ("initial_value", "end_value"):
        value = getattr(cursor, name)
        if value is None or not is_without_references(value):
            continue
        try:
            # any moment will do: only the form is compared
            value = getattr(cursor.at(_ANY_START), name)
        except ValueError:
            value = "{"
        if not _is_usable_start(merged, (*at, name), value, cursor):
            return
        is_text = isinstance(value, str)
        kinds.append(text_sort_key(value)[0] if is_text else "plain number")
        if kinds[-1] == "date without an order":
            merged.report(
                (*at, name),
                f"`{name}` is a date or time in a form that has no order",
                found=describe_value(value),
                expected="a form whose values can be compared, such as 2024-01-31T00:00:00Z",
                fix=_suggest_cursor_format(value),
                code="deliberate:no-order",
            )
            return
    # a number and a time have no order, and neither have a day and an epoch
    if len(set(kinds)) > 1:
        merged.report(
            (*at, "end_value"),
            "`initial_value` and `end_value` are of different kinds and can't be compared",
            found=describe_value(cursor.end_value),
            fix="Write both as the API writes the cursor",
            code="deliberate:no-order",
        )


def _check_first_page_params(merged: MergedResource) -> None:
    """Report a name in `first_page_params` that is no param of the endpoint."""
    paginator, cursor = merged.endpoint.paginator, merged.endpoint.cursor
    known = [*merged.endpoint.params]
    # these two are added by the engine to what the file gives
    known += [name for name in (cursor.start_param, cursor.end_param) if name] if cursor else []
    for index, name in enumerate(getattr(paginator, "first_page_params", None) or ()):
        if name not in known and is_without_references(name):
            close = nearest_name(name, known)
            merged.report(
                (*merged.endpoint_location("paginator"), "first_page_params", index),
                f"{quoted_name(name)} is no param of this endpoint",
                expected=quoted_list(known) or None,
                fix=f"Write `{close}`"
                if close
                else f'Add "{name}" to `params`, or leave it out here',
                code="deliberate:paging-end",
            )


def _suggest_cursor_format(value: str) -> str:
    """Return how to have a date read that has no order as it is."""
    patterns = [f'"cursor_format": "{pattern}"' for pattern in patterns_for(value)]
    if not patterns:
        return "Use another field as the cursor, or leave `incremental` out"
    return f'Add {" or ".join(patterns)} to the cursor, and a "timezone" unless it is UTC'


_ANY_START = datetime(2024, 1, 1, tzinfo=UTC)


def _is_usable_start(
    merged: MergedResource, at: FieldPath, value: Any, cursor: Incremental
) -> bool:
    """Report a wrong relative time, and a value that `convert` can't write; True if it is neither."""
    if isinstance(value, str) and "{" in value:
        name = str(getattr(cursor, str(at[-1]))).strip("{}").partition(":")[0]
        meant = meant_relative_time(name) or "now-30d"
        merged.report(
            at,
            "The text in braces is no time relative to the start of a run",
            expected="`{now}`, `{today}` and steps such as `-30d`, `-1mo`, `+2h`",
            fix=f"Write `{{{meant}}}`",
            code="deliberate:relative-time",
        )
        return False
    if cursor.formats and text_sort_key(str(value))[0] != "time":
        merged.report(
            at,
            f"`{at[-1]}` fits neither `cursor_format` nor ISO 8601",
            found=describe_value(value),
            expected=quoted_list(cursor.formats),
            fix=f"Write `{at[-1]}` as rows spell the cursor, or as 2024-01-31T00:00:00Z",
            code="deliberate:no-order",
        )
        return False
    if cursor.convert is not None and moment_of(value) is None:
        merged.report(
            at,
            f"`convert` writes times, and `{at[-1]}` is none",
            found=describe_value(value),
            expected="a time such as 2024-01-31T00:00:00Z, or seconds since 1970",
            fix=f"Write `{at[-1]}` as rows spell the cursor, or leave `convert` out",
            code="deliberate:convert",
        )
        return False
    return True


def _check_convert(merged: MergedResource, cursor: Incremental) -> None:
    """Report a `convert` that nothing would use: the cursor is not sent."""
    if cursor.convert is None:
        return
    if cursor.start_param or cursor.end_param or merged.endpoint.mentions("{incremental."):
        return
    merged.report(
        merged.endpoint_location("incremental"),
        "`convert` says how the cursor is sent, and nothing sends it",
        fix='Add "start_param" with the API\'s name for it, or write `{incremental.start_value}` in a param',
        code="deliberate:convert",
    )


def _check_key_names(merged: MergedResource) -> None:
    """Refuse a key inside of an object that gets no columns of its own."""
    columns = merged.hints.columns_by_name
    for hint in ("primary_key", "merge_key"):
        if not getattr(merged.resource, hint):
            continue
        for name in filter(is_key_path, merged.resource.key_columns(hint)):
            top = name.partition(".")[0]
            is_json = top in columns and columns[top].data_type == "json"
            if is_json or max_table_nesting(merged.resource) == 0:
                merged.report(
                    merged.place(hint),
                    f"{quoted_name(name)} is a field of the object {quoted_name(top)}, which is stored as "
                    "JSON and has no column for it",
                    fix="Leave out what keeps it as JSON (`nested`, `max_table_nesting`, `columns`)",
                    code="deliberate:key-in-json",
                )


def _check_cdc(merged: MergedResource) -> None:
    """Refuse cdc of new rows only: it deletes each row that a load does not bring."""
    given = merged.resource.write_disposition
    if (
        isinstance(given, Cdc)
        and merged.endpoint.cursor is not None
        and not merged.resource.key_columns("merge_key")
        and not given.destination_scope
    ):
        merged.report(
            merged.place("write_disposition"),
            "cdc deletes all rows that a load does not bring, and with a cursor a load brings the new "
            "ones only",
            fix='Write "upsert"; or leave out the cursor; or give a `merge_key` or a '
            "`destination_scope` with the rows that each load brings whole",
            code="deliberate:cdc-incremental",
        )


def _check_processing_steps(merged: MergedResource) -> None:
    """Report a key or a cursor that the processing steps leave out of every record."""
    removed = removed_fields(merged.resource.processing_steps)
    needed = dict.fromkeys(merged.hints.key_columns("primary_key"), "the primary key")
    cursor = merged.endpoint.cursor
    # of a cursor with several fields one is enough
    if cursor and removed.issuperset(cursor.paths):
        needed[cursor.paths[0]] = "the cursor"
    for name in sorted(needed):
        is_path = needed[name] == "the primary key" and is_key_path(name)
        if (name.partition(".")[0] if is_path else name) not in removed:
            continue
        merged.report(
            merged.place("processing_steps"),
            f"The steps leave out {quoted_name(name)}, {needed[name]}, which each record needs after "
            "them",
            fix="Name the field as the steps leave it, or keep it",
            code="deliberate:processing-steps",
        )


def check_table_hints(merged: MergedResource) -> None:
    """Report what dlt refuses in the hints when it builds the resource or makes the table."""
    given = merged.resource.write_disposition
    if isinstance(given, PlainDisposition):
        merged.findings.extend(merge_strategy_findings(given, merged.place("write_disposition")))
    for name, nested in (merged.resource.nested_hints or {}).items():
        if nested.write_disposition and disposition_name(nested.write_disposition) == "skip":
            report_skip(merged, (*merged.place("nested_hints"), name, "write_disposition"))
    _check_key_names(merged)
    _check_processing_steps(merged)
    _check_cdc(merged)
    for index, reference in enumerate(merged.resource.references or ()):
        ours, theirs = reference.columns, reference.referenced_columns
        if not (reference.referenced_table and ours and len(ours) == len(theirs)):
            merged.report(
                (*merged.place("references"), index),
                "A reference names its columns, the other table, and as many columns there",
                fix='{"columns": ["customer_id"], "referenced_table": "customers", '
                '"referenced_columns": ["id"]}',
                code="deliberate:reference",
            )
