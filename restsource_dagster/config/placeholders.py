"""Placeholders: what `{...}` in an endpoint may stand for, and which take a parent's field.

Follows `build_resource_dependency_graph` in `dlt.sources.rest_api.config_setup`.
"""

import re

from restsource_dagster.config.binding import (
    contexts_of,
    field_of,
    guessed_parent,
    is_resolve,
    report_empty,
)
from restsource_dagster.config.drafts import Draft, Path, expressions_in, lone_brace, placeholders
from restsource_dagster.config.fields import is_jsonpath
from restsource_dagster.config.wording import is_secret, listed, name_shown, nearest

__all__ = ["check_expressions"]

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
_IDENTIFIER = re.compile(r"[\w.-]+")


def check_expressions(draft: Draft) -> None:
    """Checks every placeholder of the endpoint and notes those that take a parent's field."""
    _check_bound_path(draft)
    for part in _TEMPLATED:
        value = draft.endpoint.get(part)
        at = draft.endpoint_place(part)
        for name, found_at in expressions_in(value, at, draft):
            place = found_at
            if part == "params":
                place = (*draft.param_place(str(place[len(at)])), *place[len(at) + 1 :])
            if not name:
                report_empty(draft, place)
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
    resolve = {n for n, v in draft.endpoint.get("params", {}).items() if is_resolve(v)}
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
    draft.report(
        place,
        f"{_shown(name, place)} in {name_shown(str(place[-1]))} is bound to nothing",
        expected=f"a placeholder that starts with {listed(f'{c}.' for c in contexts_of(draft))}",
        mend=_mend_for(draft, name, place),
    )


def _mend_for(draft: Draft, name: str, place: Path) -> str:
    braces = "Write a literal brace twice: `{{` and `}}`"
    if not _is_showable(name, place):
        return braces
    if name.startswith("incremental"):
        return 'Add "incremental": {"cursor_path": ...} to the endpoint'
    if re.match(r"(dlt\.)?(secrets|config|env)\b", name):
        return "Write a reference to an environment variable: `${NAME}`"
    return f"Write `{{resources.{guessed_parent(draft, name)}.{field_of(name)}}}`. {braces}"


def _is_showable(name: str, place: Path) -> bool:
    return not is_secret(place) and _IDENTIFIER.fullmatch(name) is not None


def _shown(name: str, place: Path) -> str:
    """A placeholder, unless it may be part of a secret or of a text that isn't ours."""
    return name_shown("{" + name + "}") if _is_showable(name, place) else "What stands in braces"


def _note(draft: Draft, name: str, place: Path) -> None:
    if name.startswith("resources."):
        _note_parent(draft, name, place)
    elif draft.endpoint.get("incremental") is None and not _has_incremental_param(draft):
        draft.report(
            place,
            f"{_shown(name, place)} needs an incremental cursor, and `incremental` is null",
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
        f"{_shown(name, place)} doesn't name a field of a parent resource",
        expected="`{resources.<parent>.<field>}`",
        mend=f"Write `{{resources.{parts[1]}.id}}`"
        if len(parts) == 2 and parts[1] and _is_showable(name, place)
        else None,
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
        f"{_shown(name, place)} is nothing that an incremental cursor has",
        expected=listed(f"{{incremental.{known}}}" for known in _INCREMENTAL[:4]),
        mend=f"Write `{{incremental.{close}}}`" if close else None,
        code="deliberate:incremental-attribute",
    )
