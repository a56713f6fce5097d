"""Placeholders: what `{...}` in an endpoint may stand for, and which take a parent's field.

Follows `build_resource_dependency_graph` in `dlt.sources.rest_api.config_setup`.

Paths: params put into them, and what in them is bound to nothing.

Follows `_bind_path_params` in `dlt.sources.rest_api.config_setup`.
"""

import re
import string
from typing import Any

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.fields import is_jsonpath
from restsource_dagster.connector.validation.diagnostics import (
    may_be_secret,
    nearest_name,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.merged_resource import (
    FieldPath,
    MergedResource,
    placeholder_names,
    placeholders_in,
    report_lone_brace,
)

__all__ = [
    "bind_path",
    "check_placeholders",
    "guessed_parent",
    "guessed_parent_field",
    "is_resolve_param",
    "placeholder_prefixes",
    "report_empty_placeholder",
]

_OTHER_PLACEHOLDER_STYLES = re.compile(r"<(\w+)>|(?<=/):([A-Za-z_]\w*)")


def placeholder_prefixes(draft: MergedResource) -> tuple[str, ...]:
    """What a placeholder of this endpoint may start with."""
    return ("resources", "incremental") if "incremental" in draft.endpoint else ("resources",)


def bind_path(draft: MergedResource) -> None:
    """Puts plain params into the path, as dlt does, and reports what is bound to nothing.

    Takes those params out of the endpoint's params. dlt does so in the defaults, too, if the
    resource has no params of its own: a param of the defaults serves one path only.
    """
    params = draft.endpoint.get("params", {})
    path = without_references(draft.endpoint["path"])
    unbound = {name for name, value in params.items() if is_resolve_param(value)}
    known, segments, failed = set(unbound), [], False
    try:
        parsed = list(string.Formatter().parse(path))
    except ValueError:
        report_lone_brace(draft, draft.path_at)
        return
    for literal, name, _, _ in parsed:
        segments.append(literal)
        if name is None:
            continue
        kept = _is_kept_placeholder(draft, name, unbound, known)
        segments.append(f"{{{name}}}" if kept else "")
        if not kept:
            failed = not _bind_param(draft, params, name, segments) or failed
    _report_unused_resolve_params(draft, unbound)
    _warn_other_styles(draft, path)
    if not failed:
        draft.bound_path = "".join(segments)


def _is_kept_placeholder(
    draft: MergedResource, name: str, unbound: set[str], known: set[str]
) -> bool:
    if any(name.startswith(f"{context}.") for context in placeholder_prefixes(draft)):
        return True
    if name in unbound:
        unbound.discard(name)
        return True
    if name in known:
        draft.report(
            draft.path_at,
            f"The param {quoted_name(name)} stands in the path twice, and dlt fills in only the "
            "first",
            fix=f"Use {{resources.<parent>.<field>}} instead of `{{{name}}}`",
            code="deliberate:resolve-twice",
        )
        return True
    return False


def _bind_param(
    draft: MergedResource, params: dict[str, Any], name: str, segments: list[str]
) -> bool:
    if not name:
        report_empty_placeholder(draft, draft.path_at)
        return False
    if name not in params:
        _report_unbound_placeholder(draft, name)
        return False
    if isinstance(params[name], dict):
        draft.report(
            draft.param_location(name),
            f"The path takes {quoted_name(name)} from here, and only a value or a param of type "
            "`resolve` can stand in a path",
        )
        return False
    value = params.pop(name)
    try:
        segments.append(without_references(str(value)))
    except ValueError:
        draft.report(draft.param_location(name), "The number is too long for a path")
        return False
    return True


def is_resolve_param(value: Any) -> bool:
    """Whether a param takes a field of the parent's rows."""
    return isinstance(value, dict) and value.get("type") == "resolve"


def _report_unbound_placeholder(draft: MergedResource, name: str) -> None:
    word = name.split(".", maxsplit=1)[0]
    more: dict[str, Any] = {"expected": "a param, or a field of a parent resource"}
    if name in draft.default_params:
        fix = (
            "dlt takes a param of the defaults for the path of one resource only; repeat it in "
            "this resource's params"
        )
    elif "." in name and word == "incremental":
        fix = 'Add "incremental": {"cursor_path": ...} to the endpoint'
    elif "." in name and (close := nearest_name(word, ("resources", "incremental"))):
        fix = f"Write `{{{close}.{name.split('.', 1)[1]}}}`"
    else:
        fix = (
            f"Write `{{resources.{guessed_parent(draft, name)}.{guessed_parent_field(name)}}}` to take it from "
            f'each row of a parent resource, or give it in "params": {{"{name}": ...}}'
        )
    shown = quoted_name("{" + name + "}")
    draft.report(draft.path_at, f"{shown} in the path is bound to nothing", fix=fix, **more)


def guessed_parent(draft: MergedResource, name: str) -> str:
    """The resource that a placeholder most likely means: `orders` for `orders/{id}`."""
    before = re.search(rf"([\w.-]+)/[{{<:]{re.escape(name)}\b", draft.endpoint["path"])
    for word in (before[1] if before else "", re.sub(r"[_-]?id$", "", name, flags=re.IGNORECASE)):
        if word and (close := nearest_name(word, draft.others)):
            return close
    return "<parent>"


def guessed_parent_field(name: str) -> str:
    """The field of a parent's row that a placeholder most likely means."""
    return "id" if name.lower().endswith("id") else name


def _report_unused_resolve_params(draft: MergedResource, unbound: set[str]) -> None:
    for name in sorted(unbound):
        value = draft.endpoint["params"][name]
        shown = f"{{resources.{value['resource']}.{value['field']}}}"
        if len(shown) > 60 or may_be_secret((name,)):
            shown = "{resources.<parent>.<field>}"
        draft.report(
            draft.param_location(name),
            f"A param of type `resolve` stands in the path, and the path has no `{{{name}}}`",
            fix=f'Put `{{{name}}}` into the path, or write "{name}": "{shown}"',
        )


def _warn_other_styles(draft: MergedResource, path: str) -> None:
    for match in _OTHER_PLACEHOLDER_STYLES.finditer(path.split("?", maxsplit=1)[0]):
        name = match[1] or match[2]
        draft.report(
            draft.path_at,
            f"{quoted_name(match[0])} in the path is sent as it stands",
            fix=f"If it is to be filled in, write "
            f"`{{resources.{guessed_parent(draft, name)}.{guessed_parent_field(name)}}}`, or "
            f"`{{{name}}}` and a param of that name",
            severity="warning",
        )


def report_empty_placeholder(draft: MergedResource, place: FieldPath) -> None:
    """Reports `{}`, which stands for nothing."""
    draft.report(
        place,
        "`{}` in a text that dlt fills in stands for nothing",
        fix="Write a literal pair of braces as `{{}}`",
        code="deliberate:empty-placeholder",
    )


_PARTS_WITH_PLACEHOLDERS = ("params", "json", "data", "headers")
_INCREMENTAL_ATTRIBUTES = (
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
_SHOWABLE_NAME = re.compile(r"[\w.-]+")


def check_placeholders(draft: MergedResource) -> None:
    """Checks every placeholder of the endpoint and notes those that take a parent's field."""
    _check_bound_path(draft)
    for part in _PARTS_WITH_PLACEHOLDERS:
        value = draft.endpoint.get(part)
        at = draft.endpoint_location(part)
        for name, found_at in placeholders_in(value, at, draft):
            place = found_at
            if part == "params":
                place = (*draft.param_location(str(place[len(at)])), *place[len(at) + 1 :])
            if not name:
                report_empty_placeholder(draft, place)
            elif not any(name.startswith(f"{context}.") for context in placeholder_prefixes(draft)):
                _report_unknown_prefix(draft, name, place)
            else:
                _check_placeholder(draft, name, place)


def _check_bound_path(draft: MergedResource) -> None:
    if not draft.bound_path:
        return
    try:
        names = placeholder_names(draft.bound_path)
    except ValueError:
        report_lone_brace(draft, draft.path_at)
        return
    resolve = {n for n, v in draft.endpoint.get("params", {}).items() if is_resolve_param(v)}
    for name in names:
        if any(name.startswith(f"{context}.") for context in placeholder_prefixes(draft)):
            _check_placeholder(draft, name, draft.path_at)
        elif name not in resolve:
            draft.report(
                draft.path_at,
                "Doubled braces in a path become a placeholder once dlt has filled in the params",
                fix="Write each literal brace of a path four times, or percent-encode it: %7B, %7D",
                code="deliberate:path-braces",
            )


def _report_unknown_prefix(draft: MergedResource, name: str, place: FieldPath) -> None:
    draft.report(
        place,
        f"{_placeholder_shown(name, place)} in {quoted_name(str(place[-1]))} is bound to nothing",
        expected=f"a placeholder that starts with {quoted_list(f'{c}.' for c in placeholder_prefixes(draft))}",
        fix=_suggest_placeholder(draft, name, place),
    )


def _suggest_placeholder(draft: MergedResource, name: str, place: FieldPath) -> str:
    braces = "Write a literal brace twice: `{{` and `}}`"
    if not _is_showable(name, place):
        return braces
    if name.startswith("incremental"):
        return 'Add "incremental": {"cursor_path": ...} to the endpoint'
    if re.match(r"(dlt\.)?(secrets|config|env)\b", name):
        return "Write a reference to an environment variable: `${NAME}`"
    return f"Write `{{resources.{guessed_parent(draft, name)}.{guessed_parent_field(name)}}}`. {braces}"


def _is_showable(name: str, place: FieldPath) -> bool:
    return not may_be_secret(place) and _SHOWABLE_NAME.fullmatch(name) is not None


def _placeholder_shown(name: str, place: FieldPath) -> str:
    """A placeholder, unless it may be part of a secret or of a text that isn't ours."""
    return quoted_name("{" + name + "}") if _is_showable(name, place) else "What stands in braces"


def _check_placeholder(draft: MergedResource, name: str, place: FieldPath) -> None:
    if name.startswith("resources."):
        _add_parent_field(draft, name, place)
    elif draft.endpoint.get("incremental") is None and not _has_incremental_param(draft):
        draft.report(
            place,
            f"{_placeholder_shown(name, place)} needs an incremental cursor, and `incremental` is null",
            code="deliberate:incremental-null",
        )
    else:
        _check_incremental_attribute(draft, name, place)


def _add_parent_field(draft: MergedResource, name: str, place: FieldPath) -> None:
    parts = name.strip().split(".", maxsplit=2)
    if len(parts) == 3 and is_jsonpath(parts[2]):
        draft.resolved.setdefault(name, place)
        return
    draft.report(
        place,
        f"{_placeholder_shown(name, place)} doesn't name a field of a parent resource",
        expected="`{resources.<parent>.<field>}`",
        fix=f"Write `{{resources.{parts[1]}.id}}`"
        if len(parts) == 2 and parts[1] and _is_showable(name, place)
        else None,
    )


def _has_incremental_param(draft: MergedResource) -> bool:
    params = draft.endpoint.get("params", {}).values()
    return any(isinstance(value, dict) and value.get("type") == "incremental" for value in params)


def _check_incremental_attribute(draft: MergedResource, name: str, place: FieldPath) -> None:
    attribute = re.split(r"[.\[]", name.removeprefix("incremental."))[0]
    if attribute in _INCREMENTAL_ATTRIBUTES:
        return
    close = nearest_name(attribute, _INCREMENTAL_ATTRIBUTES)
    draft.report(
        place,
        f"{_placeholder_shown(name, place)} is nothing that an incremental cursor has",
        expected=quoted_list(f"{{incremental.{known}}}" for known in _INCREMENTAL_ATTRIBUTES[:4]),
        fix=f"Write `{{incremental.{close}}}`" if close else None,
        code="deliberate:incremental-attribute",
    )
