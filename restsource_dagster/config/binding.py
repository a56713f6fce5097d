"""Paths: params put into them, and what in them is bound to nothing.

Follows `_bind_path_params` in `dlt.sources.rest_api.config_setup`.
"""

import re
import string
from typing import Any

from restsource_dagster.config.drafts import Draft, Path, lone_brace
from restsource_dagster.config.references import without_references
from restsource_dagster.config.wording import is_secret, name_shown, nearest

__all__ = [
    "bind_path",
    "contexts_of",
    "field_of",
    "guessed_parent",
    "is_resolve",
    "report_empty",
]

_OTHER_STYLES = re.compile(r"<(\w+)>|(?<=/):([A-Za-z_]\w*)")


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
    unbound = {name for name, value in params.items() if is_resolve(value)}
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
        report_empty(draft, draft.path_at)
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


def is_resolve(value: Any) -> bool:
    """Whether a param takes a field of the parent's rows."""
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
            f"Write `{{resources.{guessed_parent(draft, name)}.{field_of(name)}}}` to take it from "
            f'each row of a parent resource, or give it in "params": {{"{name}": ...}}'
        )
    shown = name_shown("{" + name + "}")
    draft.report(draft.path_at, f"{shown} in the path is bound to nothing", mend=mend, **more)


def guessed_parent(draft: Draft, name: str) -> str:
    """The resource that a placeholder most likely means: `orders` for `orders/{id}`."""
    before = re.search(rf"([\w.-]+)/[{{<:]{re.escape(name)}\b", draft.endpoint["path"])
    for word in (before[1] if before else "", re.sub(r"[_-]?id$", "", name, flags=re.IGNORECASE)):
        if word and (close := nearest(word, draft.others)):
            return close
    return "<parent>"


def field_of(name: str) -> str:
    """The field of a parent's row that a placeholder most likely means."""
    return "id" if name.lower().endswith("id") else name


def _report_unbound(draft: Draft, unbound: set[str]) -> None:
    for name in sorted(unbound):
        value = draft.endpoint["params"][name]
        shown = f"{{resources.{value['resource']}.{value['field']}}}"
        if len(shown) > 60 or is_secret((name,)):
            shown = "{resources.<parent>.<field>}"
        draft.report(
            draft.param_place(name),
            f"A param of type `resolve` stands in the path, and the path has no `{{{name}}}`",
            mend=f'Put `{{{name}}}` into the path, or write "{name}": "{shown}"',
        )


def _warn_other_styles(draft: Draft, path: str) -> None:
    for match in _OTHER_STYLES.finditer(path.split("?", maxsplit=1)[0]):
        name = match[1] or match[2]
        draft.report(
            draft.path_at,
            f"{name_shown(match[0])} in the path is sent as it stands",
            mend=f"If it is to be filled in, write "
            f"`{{resources.{guessed_parent(draft, name)}.{field_of(name)}}}`, or "
            f"`{{{name}}}` and a param of that name",
            severity="warning",
        )


def report_empty(draft: Draft, place: Path) -> None:
    """Reports `{}`, which stands for nothing."""
    draft.report(
        place,
        "`{}` in a text that dlt fills in stands for nothing",
        mend="Write a literal pair of braces as `{{}}`",
        code="deliberate:empty-placeholder",
    )
