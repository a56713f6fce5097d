"""Placeholders: params put into paths, and what `{...}` may stand for.

Follows `_bind_path_params` and `build_resource_dependency_graph` in
`dlt.sources.rest_api.config_setup`.
"""

import re
import string
from typing import Any

from restsource_dagster.config.drafts import Draft, Path, expressions_in, lone_brace, placeholders
from restsource_dagster.config.fields import is_jsonpath
from restsource_dagster.config.references import without_references
from restsource_dagster.config.wording import is_secret, listed, name_shown, nearest

__all__ = ["bind_path", "check_expressions"]

_TEMPLATED = ("params", "json", "data", "headers")
_INCREMENTAL = (
    "start_value",
    "initial_value",
    "last_value",
    "end_value",
    "cursor_path",
    "lag",
    "row_order",
    "primary_key",
    "resource_name",
    "range_start",
    "range_end",
    "on_cursor_value_missing",
    "allow_external_schedulers",
)
"""What dlt's `Incremental` has that a placeholder can show."""
_OTHER_STYLES = re.compile(r"<(\w+)>|(?<=/):([A-Za-z_]\w*)")
_IDENTIFIER = re.compile(r"[\w.-]+")


def contexts_of(draft: Draft) -> tuple[str, ...]:
    """What a placeholder of this endpoint may start with."""
    return ("resources", "incremental") if "incremental" in draft.endpoint else ("resources",)


def bind_path(draft: Draft) -> None:
    """Puts plain params into the path, as dlt does, and reports what is bound to nothing.

    Takes those params out of the endpoint's params. dlt does so in the defaults, too, if the
    resource has no params of its own: a param of the defaults serves one path only.
    """
    params = draft.endpoint.get("params", {})
    path = without_references(draft.endpoint["path"])
    unbound = {name for name, value in params.items() if _is_resolve(value)}
    known, segments, failed = set(unbound), [], False
    try:
        parsed = list(string.Formatter().parse(path))
    except ValueError:
        lone_brace(draft, draft.path_at)
        return
    for literal, name, _, _ in parsed:
        segments.append(literal)
        if name is None:
            continue
        kept = _kept(draft, name, unbound, known)
        segments.append(f"{{{name}}}" if kept else "")
        if not kept:
            failed = not _bind(draft, params, name, segments) or failed
    _report_unbound(draft, unbound)
    _warn_other_styles(draft, path)
    if not failed:
        draft.bound_path = "".join(segments)


def _kept(draft: Draft, name: str, unbound: set[str], known: set[str]) -> bool:
    if any(name.startswith(f"{context}.") for context in contexts_of(draft)):
        return True
    if name in unbound:
        unbound.discard(name)
        return True
    if name in known:
        draft.report(
            draft.path_at,
            f"The param {name_shown(name)} stands in the path twice, and dlt fills in only the "
            "first",
            mend=f"Use {{resources.<parent>.<field>}} instead of `{{{name}}}`",
            code="deliberate:resolve-twice",
        )
        return True
    return False


def _bind(draft: Draft, params: dict[str, Any], name: str, segments: list[str]) -> bool:
    if not name:
        _empty_placeholder(draft, draft.path_at)
        return False
    if name not in params:
        _report_missing(draft, name)
        return False
    if isinstance(params[name], dict):
        draft.report(
            draft.param_place(name),
            f"The path takes {name_shown(name)} from here, and only a value or a param of type "
            "`resolve` can stand in a path",
        )
        return False
    value = params.pop(name)
    try:
        segments.append(without_references(str(value)))
    except ValueError:
        draft.report(draft.param_place(name), "The number is too long for a path")
        return False
    return True


def _is_resolve(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "resolve"


def _report_missing(draft: Draft, name: str) -> None:
    word = name.split(".", maxsplit=1)[0]
    more: dict[str, Any] = {"expected": "a param, or a field of a parent resource"}
    if name in draft.default_params:
        mend = (
            "dlt takes a param of the defaults for the path of one resource only; repeat it in "
            "this resource's params"
        )
    elif "." in name and word == "incremental":
        mend = 'Add "incremental": {"cursor_path": ...} to the endpoint'
    elif "." in name and (close := nearest(word, ("resources", "incremental"))):
        mend = f"Write `{{{close}.{name.split('.', 1)[1]}}}`"
    else:
        mend = (
            f"Write `{{resources.<parent>.{_field_of(name)}}}` to take it from each row of a "
            f'parent resource, or give it in "params": {{"{name}": ...}}'
        )
    shown = name_shown("{" + name + "}")
    draft.report(draft.path_at, f"{shown} in the path is bound to nothing", mend=mend, **more)


def _field_of(name: str) -> str:
    return "id" if name.lower().endswith("id") else name


def _report_unbound(draft: Draft, unbound: set[str]) -> None:
    for name in sorted(unbound):
        value = draft.endpoint["params"][name]
        place = f"{{resources.{value.get('resource')}.{value.get('field')}}}"
        draft.report(
            draft.param_place(name),
            f"A param of type `resolve` stands in the path, and the path has no `{{{name}}}`",
            mend=f'Put `{{{name}}}` into the path, or write "{name}": "{place}"',
        )


def _warn_other_styles(draft: Draft, path: str) -> None:
    for match in _OTHER_STYLES.finditer(path.split("?", maxsplit=1)[0]):
        name = match[1] or match[2]
        draft.report(
            draft.path_at,
            f"{name_shown(match[0])} in the path is sent as it stands",
            mend=f"If it is to be filled in, write `{{resources.<parent>.{_field_of(name)}}}`, or "
            f"`{{{name}}}` and a param of that name",
            severity="warning",
        )


def _empty_placeholder(draft: Draft, place: Path) -> None:
    draft.report(
        place,
        "`{}` in a text that dlt fills in stands for nothing",
        mend="Write a literal pair of braces as `{{}}`",
        code="deliberate:empty-placeholder",
    )


def check_expressions(draft: Draft) -> None:
    """Checks every placeholder of the endpoint and notes those that take a parent's field."""
    _check_bound_path(draft)
    for part in _TEMPLATED:
        value = draft.endpoint.get(part)
        at = draft.endpoint_place(part)
        for name, place in expressions_in(value, at, draft):
            where = draft.param_place(str(place[len(at)])) if part == "params" else place
            place = (*where, *place[len(where) :])
            if not name:
                _empty_placeholder(draft, place)
            elif not any(name.startswith(f"{context}.") for context in contexts_of(draft)):
                _report_no_context(draft, name, place)
            else:
                _note(draft, name, place)


def _check_bound_path(draft: Draft) -> None:
    if not draft.bound_path:
        return
    try:
        names = placeholders(draft.bound_path)
    except ValueError:
        lone_brace(draft, draft.path_at)
        return
    resolve = {n for n, v in draft.endpoint.get("params", {}).items() if _is_resolve(v)}
    for name in names:
        if any(name.startswith(f"{context}.") for context in contexts_of(draft)):
            _note(draft, name, draft.path_at)
        elif name not in resolve:
            draft.report(
                draft.path_at,
                "Doubled braces in a path become a placeholder once dlt has filled in the params",
                mend="Write each literal brace of a path four times, or percent-encode it: %7B, %7D",
                code="deliberate:path-braces",
            )


def _report_no_context(draft: Draft, name: str, place: Path) -> None:
    shown = "A placeholder" if is_secret(place) else name_shown("{" + name + "}")
    mend = "Write a literal brace twice: `{{` and `}}`"
    if not _IDENTIFIER.fullmatch(name):
        shown = "What stands in braces"
    elif name.startswith("incremental"):
        mend = 'Add "incremental": {"cursor_path": ...} to the endpoint'
    elif re.match(r"(dlt\.)?(secrets|config|env)\b", name):
        mend = "Write a reference to an environment variable: `${NAME}`"
    else:
        mend = f"Write `{{resources.<parent>.{_field_of(name)}}}`. {mend}"
    draft.report(
        place,
        f"{shown} in {name_shown(str(place[-1]))} is bound to nothing",
        expected=f"a placeholder that starts with {listed(f'{c}.' for c in contexts_of(draft))}",
        mend=mend,
    )


def _note(draft: Draft, name: str, place: Path) -> None:
    if name.startswith("resources."):
        _note_parent(draft, name, place)
    elif draft.endpoint.get("incremental") is None and not _has_incremental_param(draft):
        draft.report(
            place,
            f"{name_shown('{' + name + '}')} needs an incremental cursor, and `incremental` is null",
            code="deliberate:incremental-null",
        )
    else:
        _check_incremental(draft, name, place)


def _note_parent(draft: Draft, name: str, place: Path) -> None:
    parts = name.strip().split(".", maxsplit=2)
    if len(parts) == 3 and is_jsonpath(parts[2]):
        draft.resolved.setdefault(name, place)
        return
    draft.report(
        place,
        f"{name_shown('{' + name + '}')} doesn't name a field of a parent resource",
        expected="`{resources.<parent>.<field>}`",
        mend=f"Write `{{resources.{parts[1] or '<parent>'}.id}}`" if len(parts) == 2 else None,
    )


def _has_incremental_param(draft: Draft) -> bool:
    params = draft.endpoint.get("params", {}).values()
    return any(isinstance(value, dict) and value.get("type") == "incremental" for value in params)


def _check_incremental(draft: Draft, name: str, place: Path) -> None:
    attribute = re.split(r"[.\[]", name.removeprefix("incremental."))[0]
    if attribute in _INCREMENTAL:
        return
    close = nearest(attribute, _INCREMENTAL)
    draft.report(
        place,
        f"{name_shown('{' + name + '}')} is nothing that an incremental cursor has",
        expected=listed(f"{{incremental.{known}}}" for known in _INCREMENTAL[:4]),
        mend=f"Write `{{incremental.{close}}}`" if close else None,
        code="deliberate:incremental-attribute",
    )

