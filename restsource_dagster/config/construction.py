"""What dlt refuses only when it builds paginators, authentication, cursors and hooks.

Follows the constructors in `dlt.sources.helpers.rest_client` and `create_resources` in
`dlt.sources.rest_api`.
"""

from collections.abc import Iterator
from typing import Any

from restsource_dagster.config.drafts import Draft, Path
from restsource_dagster.config.fields import is_jsonpath
from restsource_dagster.config.problems import Finding
from restsource_dagster.config.references import without_references
from restsource_dagster.config.wording import listed, name_shown, nearest, pointer_to, rendered

__all__ = ["auth_findings", "check_endpoint", "paginator_findings"]

_PAIRS = {
    "offset": (("offset_param", "offset_body_path"), ("limit_param", "limit_body_path")),
    "page_number": (("page_param", "page_body_path"),),
}
_STOPS = {
    "offset": ("total_path", "maximum_offset", "has_more_path"),
    "page_number": ("total_path", "maximum_page", "has_more_path"),
}
_STARTS = {"offset": "offset", "page_number": "base_page"}


def paginator_findings(paginator: Any, at: Path) -> Iterator[Finding]:
    """What the paginator's constructor in dlt would refuse, or could not start from."""
    if paginator == "offset":
        yield Finding(
            pointer_to(at),
            "An offset paginator needs its limit",
            mend='Write {"type": "offset", "limit": 100}',
        )
    if not isinstance(paginator, dict):
        return
    kind = paginator.get("type")
    for pair in _PAIRS.get(str(kind), ()):
        yield from _pair_findings(paginator, pair, at)
    if kind in _STOPS:
        yield from _stop_findings(paginator, str(kind), at)
    if kind == "cursor":
        param, body = paginator.get("cursor_param"), paginator.get("cursor_body_path")
        if param is not None and body is not None:
            yield _both(("cursor_param", "cursor_body_path"), at)


def _pair_findings(paginator: dict[str, Any], pair: tuple[str, str], at: Path) -> Iterator[Finding]:
    param, body = (paginator.get(name) for name in pair)
    if param and body:
        yield _both(pair, at)
    elif (param is not None or body is not None) and not param and not body:
        empty = pair[0] if param is not None else pair[1]
        yield Finding(
            pointer_to((*at, empty)),
            f"`{empty}` is empty",
            mend="Leave it out for the usual name, or give a name",
        )


def _both(pair: tuple[str, str], at: Path) -> Finding:
    return Finding(
        pointer_to((*at, pair[1])),
        f"`{pair[0]}` and `{pair[1]}` are given, and only one of them can be",
        mend=f"Keep `{pair[0]}` for the query, or `{pair[1]}` for a JSON body",
        on_key=True,
    )


def _stop_findings(paginator: dict[str, Any], kind: str, at: Path) -> Iterator[Finding]:
    total, *others = _STOPS[kind]
    knows_end = paginator.get(total, "total") is not None
    knows_end = knows_end or any(paginator.get(name) is not None for name in others)
    if not knows_end and not paginator.get("stop_after_empty_page", True):
        yield Finding(
            pointer_to(at),
            "Nothing tells the paginator when to stop",
            expected=f"one of {listed(_STOPS[kind])}, or `stop_after_empty_page`",
            mend='Leave out "stop_after_empty_page": false',
        )
    start = _STARTS[kind]
    if start in paginator and paginator[start] is None and paginator.get("page") is None:
        yield Finding(
            pointer_to((*at, start)),
            f"`{start}` is null, and dlt can't count from there",
            mend="Leave it out, or write 0",
            code="deliberate:no-start",
        )


def auth_findings(auth: Any, at: Path, *, in_defaults: bool) -> Iterator[Finding]:
    """What dlt refuses in an `auth` whose fields are all known."""
    if not isinstance(auth, dict):
        return
    if auth.get("type") == "http_basic" and ("username" in auth) != ("password" in auth):
        missing = "password" if "username" in auth else "username"
        yield Finding(
            pointer_to(at),
            f"`{missing}` is missing: dlt takes user name and password together or not at all",
            mend=f'Write "{missing}": "${{NAME}}", or "{missing}": null to have dlt look for it '
            "in secrets.toml",
        )
    if in_defaults:
        for name in ("token", "api_key", "username", "password", "client_id", "client_secret"):
            if name in auth and auth[name] is None:
                yield Finding(
                    pointer_to((*at, name)),
                    f"`{name}` is null, which dlt refuses in `resource_defaults`",
                    mend="Leave it out, or write a reference such as `${NAME}`",
                )


def check_endpoint(draft: Draft) -> None:
    """Reports what dlt refuses in the endpoint when it builds or first uses the resource."""
    endpoint = draft.endpoint
    _collect(
        draft, paginator_findings(endpoint.get("paginator"), draft.endpoint_place("paginator"))
    )
    in_defaults = "auth" not in draft.own_endpoint
    place = draft.endpoint_place("auth")
    _collect(draft, auth_findings(endpoint.get("auth"), place, in_defaults=in_defaults))
    _check_incremental_params(draft)
    _check_actions(draft)
    if endpoint.get("json") and endpoint.get("data"):
        draft.report(
            draft.endpoint_place("data"),
            "`json` and `data` are both given, and a request has one body",
            mend="Keep `json` for a JSON body, or `data` for a form or raw text",
            code="deliberate:two-bodies",
            on_key=True,
        )
    selector = endpoint.get("data_selector")
    if isinstance(selector, str) and selector and not is_jsonpath(without_references(selector)):
        draft.report(
            draft.endpoint_place("data_selector"),
            "`data_selector` is not a JSON path that dlt can read",
            found=rendered(selector),
            expected="a path such as `data.items` or `$.items[*]`",
            mend="Put a name with spaces or other special characters in quotes: `'first name'`",
            code="deliberate:data-selector",
        )


def _collect(draft: Draft, findings: Iterator[Finding]) -> None:
    draft.findings.extend(findings)


def _check_incremental_params(draft: Draft) -> None:
    params = draft.endpoint.get("params", {})
    names = [n for n, v in params.items() if isinstance(v, dict) and v.get("type") == "incremental"]
    if len(names) > 1:
        draft.report(
            draft.param_place(names[1]),
            f"{listed(names, 'and')} are all incremental, and an endpoint has one cursor",
            mend="Use `endpoint.incremental` with `start_param` and `end_param`",
        )
    for name in names:
        if params[name].get("end_value"):
            draft.report(
                (*draft.param_place(name), "end_value"),
                "An incremental param has no `end_value`",
                mend="Use `endpoint.incremental` with `end_value` and `end_param`",
                on_key=True,
            )
    if names and draft.endpoint.get("incremental"):
        draft.report(
            draft.endpoint_place("incremental"),
            f"`incremental` is not used: the param {name_shown(names[0])} is the cursor",
            mend="Keep one of the two",
            severity="warning",
            on_key=True,
        )


def _check_actions(draft: Draft) -> None:
    place = draft.endpoint_place("response_actions")
    for index, action in enumerate(draft.endpoint.get("response_actions") or ()):
        if not isinstance(action, dict):
            continue
        name = action.get("action")
        if name is None:
            draft.report(
                (*place, index),
                "The response action doesn't say what to do",
                mend='Add "action": "ignore"',
                code="deliberate:no-action",
            )
        elif name != "ignore":
            close = nearest(str(name), ("ignore",))
            draft.report(
                (*place, index, "action"),
                "dlt knows no such action and does nothing",
                found=rendered(name),
                expected="`ignore`",
                mend='Write "ignore"' if close else "Leave it out, or write `ignore`",
                severity="warning",
            )
        if isinstance(action.get("status_code"), str):
            draft.report(
                (*place, index, "status_code"),
                "A status code in quotes never equals that of an answer",
                found=rendered(action["status_code"]),
                mend="Leave out the quotes",
                severity="warning",
            )
