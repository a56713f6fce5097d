"""The models of a connector file as the objects and arguments that dlt wants.

Only this module makes dlt's dicts. References are already resolved: the models hold the values to send.
"""

from collections.abc import Mapping
from typing import Any

from dlt.extract import Incremental as DltIncremental
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from requests.auth import AuthBase

from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.auth import OWN_AUTH_TYPES, Auth
from restsource_dagster.connector.models.deletes import DELETED_AT
from restsource_dagster.connector.models.endpoint import ResolveParam
from restsource_dagster.connector.models.fields import FileModel, as_json
from restsource_dagster.connector.models.incremental_cursor import Incremental
from restsource_dagster.connector.models.oauth_logins import (
    OWN_AUTH_FIELDS,
    OAuth2ClientCredentialsAuth,
)
from restsource_dagster.connector.models.paginators import Paginator, PagingRules
from restsource_dagster.connector.naming import key_column
from restsource_dagster.engine.dlt_compat import (
    ResolvedParam,
    create_auth,
    create_paginator,
)
from restsource_dagster.engine.paging.safe_paginators import (
    HeaderUrlPaginator,
    ReceivedOffsetPaginator,
    TolerantCursorPaginator,
    TolerantHeaderCursorPaginator,
    TolerantHeaderLinkPaginator,
    TolerantLinkPaginator,
    TolerantOffsetPaginator,
    TolerantPageNumberPaginator,
)

__all__ = [
    "DltIncremental",
    "make_auth",
    "make_incremental",
    "make_paginator",
    "make_resolved_params",
    "paging_rules",
    "resource_hints",
]

_NOT_DLT_CURSOR_FIELDS = {
    *("start_param", "end_param", "convert", "cursor_format", "timezone"),
    *("window", "retention"),
}


def make_auth(auth: Auth) -> AuthBase | FileModel | None:
    """Return the authentication of an `auth`; of OAuth 2.0 and own types the model, all filled in.

    dlt finds secrets that the file leaves out of its own types. Raises dlt's
    `ConfigFieldMissingException` for one that it doesn't find.
    """
    if not isinstance(auth, str):
        # with a key there is no client secret that dlt could look for
        needs_dlt = getattr(auth, "client_authentication", "") != "private_key_jwt"
        if auth.given.get("type") in OWN_AUTH_TYPES or not needs_dlt:
            return auth
    given: Any = auth if isinstance(auth, str) else _for_dlt(auth)
    made: AuthBase | None = create_auth(given)
    if not isinstance(made, OAuth2ClientCredentials):
        return made
    fields = auth.given if isinstance(auth, OAuth2ClientCredentialsAuth) else {}
    found = {name: getattr(made, name) for name in _LOOKED_UP}
    return OAuth2ClientCredentialsAuth.of({**fields, "type": "oauth2_client_credentials", **found})


_LOOKED_UP = (
    *("access_token_url", "client_id", "client_secret", "access_token"),
    *("access_token_request_data", "default_token_expiration"),
)


def _for_dlt(auth: FileModel) -> dict[str, Any]:
    given = auth.as_json()
    return {name: value for name, value in given.items() if name not in OWN_AUTH_FIELDS}


def make_paginator(paginator: Paginator | None, *, knows_page_size: bool) -> BasePaginator | None:
    """Return a new paginator; None means that it is detected.

    `knows_page_size` is True if a page's items are what the API counts (`records.knows_page_size`). Raises
    `ValueError` as dlt does.
    """
    if paginator is None:
        return None
    offset = ReceivedOffsetPaginator if knows_page_size else TolerantOffsetPaginator
    ours: Mapping[str, type[BasePaginator]] = {
        "json_link": TolerantLinkPaginator,
        "json_response": TolerantLinkPaginator,
        "header_link": TolerantHeaderLinkPaginator,
        "header_cursor": TolerantHeaderCursorPaginator,
        "cursor": TolerantCursorPaginator,
        "offset": offset,
        "page_number": TolerantPageNumberPaginator,
    }
    # only what the file gives, so that dlt's own defaults apply to the rest
    given = as_json(paginator)
    arguments = {"type": given} if isinstance(given, str) else dict(given)
    kind = arguments.pop("type", None)
    for name in _RULE_FIELDS:
        arguments.pop(name, None)
    if kind not in _KINDS_WITH_HAS_MORE:
        arguments.pop("has_more_path", None)
    # dlt's reads the links of RFC 8288 only
    if kind == "header_link" and arguments.get("next_url_header"):
        return HeaderUrlPaginator(arguments["next_url_header"])
    arguments.pop("next_url_header", None)
    total_header = arguments.pop("total_header", None)
    if kind in ("offset", "page_number"):
        return _make_range(ours[kind], arguments, total_header, paging_rules(paginator))
    if kind in ours:
        return ours[kind](**arguments)
    rest: Any = {"type": kind, **arguments}
    made: BasePaginator | None = create_paginator(rest)
    return made


_RULE_FIELDS = ("end_path", "stop_when_repeated", "first_page_params", "max_rows")
_KINDS_WITH_HAS_MORE = ("cursor", "offset", "page_number")
"""The paginators that read `has_more_path` themselves."""


def paging_rules(paginator: Paginator | None) -> PagingRules:
    """Return what ends the paging beside the paginator's own end, for the page loop."""
    if not isinstance(paginator, PagingRules):
        return PagingRules()
    reads_more = paginator.as_json()["type"] in _KINDS_WITH_HAS_MORE
    given = {name: getattr(paginator, name) for name in _RULE_FIELDS}
    return PagingRules.of(
        {**given, "has_more_path": None if reads_more else paginator.has_more_path}
    )


def _make_range(
    kind: type[BasePaginator],
    arguments: dict[str, Any],
    total_header: str | None,
    rules: PagingRules,
) -> BasePaginator:
    """Return a paginator by offset or number, whose total may be in a header."""
    if total_header is not None:
        arguments["total_path"] = None
    stops = arguments.get("stop_after_empty_page", True)
    # dlt refuses one without an end that it knows
    made: Any = kind(**{**arguments, "stop_after_empty_page": True})
    made.stop_after_empty_page = stops
    made.total_header = total_header
    made.ends_by_rule = bool(rules.end_path or rules.stop_when_repeated)
    typed: BasePaginator = made
    return typed


def make_incremental(cursor: Incremental | None) -> DltIncremental[Any] | None:
    """Return dlt's cursor."""
    if cursor is None:
        return None
    # of several fields, the path stands for the first that has a value
    given = {**cursor.as_json(), "cursor_path": cursor.path}
    return DltIncremental(
        **{name: value for name, value in given.items() if name not in _NOT_DLT_CURSOR_FIELDS}
    )


READER_ORDERS = "x-reader-orders"
"""The hint of a column whose `dedup_sort` is ours: of rows with one key the last one is the newest."""


def make_resolved_params(fields: Mapping[str, ResolveParam]) -> tuple[ResolvedParam, ...]:
    """Return dlt's form of what a dependent takes from each record of its parent."""
    made: Any = ((name, field.as_json()) for name, field in fields.items())
    return tuple(ResolvedParam(name, config) for name, config in made)


def resource_hints(resource: Resource) -> dict[str, Any]:
    """Return the arguments for `dlt.resource`: the name and the table hints."""
    hints = {"name": resource.name, **resource.hints.as_json()}
    for table in (nested := hints.get("nested_hints") or {}).values():
        if table.get("columns"):
            # unlike those of the resource, dlt wants these as a dict and with their names
            table["columns"] = _by_name(table["columns"])
    for table in (hints, *nested.values()):
        if table.get("columns"):
            table["columns"] = _without_nulls(table["columns"])
    for hint in ("primary_key", "merge_key"):
        # dlt reads a dot as a part of the name
        if isinstance(name := hints.get(hint), str):
            hints[hint] = key_column(name)
        elif isinstance(name, list):
            hints[hint] = [key_column(one) for one in name]
    # dlt would derive nothing: without a write disposition it appends
    if resource.disposition.derived:
        hints["write_disposition"] = resource.disposition.value
    if resource.max_table_nesting is not None:
        hints["max_table_nesting"] = resource.max_table_nesting
    _keep_newest_version(hints, resource)
    if resource.has_deletion_time:
        _add_deletion_column(hints, resource)
    return hints


def _add_deletion_column(hints: dict[str, Any], resource: Resource) -> None:
    """Add the column that says when a row was found deleted.

    As dlt's `hard_delete`, a value in it removes the row with this key in the merge itself:
    https://dlthub.com/docs/general-usage/merge-loading#delete-records
    """
    column: dict[str, Any] = {"name": DELETED_AT, "data_type": "timestamp", "nullable": True}
    if resource.on_delete == "remove":
        column["hard_delete"] = True
    given = hints.get("columns") or {}
    hints["columns"] = (
        {**given, DELETED_AT: column} if isinstance(given, Mapping) else [*given, column]
    )


def _keep_newest_version(hints: dict[str, Any], resource: Resource) -> None:
    """Make a merge keep the row with the newest cursor if a load has several rows with one key.

    A row that changes while pages are read arrives twice. dlt keeps either of the two. If it kept the
    older one, no later run would request the newer one, because the cursor is past it.

    dlt orders by the stored column, which is right for numbers and times. Texts that stand for either
    have another order, and a cursor inside of an object has no such column. `RepeatedRows` therefore
    leaves older versions out, and `READER_ORDERS` lets a destination that can take the row that came
    last.
    """
    cursor, disposition = resource.incremental, resource.disposition
    # a path into an object is no column's name
    if cursor is None or not resource.primary_key or not cursor.path.isidentifier():
        return
    if disposition.value != "merge" or disposition.strategy not in (None, "delete-insert"):
        return
    given = hints.get("columns") or {}
    is_list = not isinstance(given, Mapping)
    columns = {column["name"]: column for column in given} if is_list else dict(given)
    # the file's own order counts
    if any("dedup_sort" in column for column in columns.values()):
        return
    newest = "asc" if cursor.last_value_func == "min" else "desc"
    known = columns.get(cursor.path, {"name": cursor.path})
    columns[cursor.path] = {**known, "dedup_sort": newest, READER_ORDERS: True}
    hints["columns"] = list(columns.values()) if is_list else columns


def _by_name(columns: Any) -> dict[str, Any]:
    if isinstance(columns, Mapping):
        return {name: {"name": name, **column} for name, column in columns.items()}
    return {column["name"]: column for column in columns}


def _without_nulls(columns: Any) -> Any:
    """Return columns without hints that are null: dlt stores no values of a column of type null."""
    if isinstance(columns, Mapping):
        return {name: _given(column) for name, column in columns.items()}
    return [_given(column) for column in columns]


def _given(column: Mapping[str, Any]) -> dict[str, Any]:
    return {name: hint for name, hint in column.items() if hint is not None}
