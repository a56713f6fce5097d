"""Checks what `{...}` in an endpoint stands for, and which placeholders take a parent's field.

Those of a path are bound to params first: see path_params.py. Follows `build_resource_dependency_graph` in
`dlt.sources.rest_api.config_setup`.
"""

import re
import string
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from restsource_dagster.connector.cursor_format import moment_of
from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.models.endpoint import (
    EACH_PREFIX,
    ResolveParam,
    placeholder_names,
)
from restsource_dagster.connector.models.fields import finds_one_value, is_jsonpath
from restsource_dagster.connector.models.incremental_cursor import (
    END_VALUE_PLACEHOLDER,
)
from restsource_dagster.connector.time_formats import (
    is_relative_time,
    is_time_format,
    meant_relative_time,
    relative_time,
    time_format_problem,
)
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    may_be_secret,
    nearest_name,
    quoted_list,
    quoted_name,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = [
    "check_placeholders",
    "each_code",
    "each_fix",
    "guessed_field",
    "guessed_parent",
    "has_known_prefix",
    "meant_placeholder",
    "report_empty_placeholder",
    "report_lone_brace",
]


def has_known_prefix(merged: MergedResource, name: str) -> bool:
    """True for a relative time, and for a name that begins as those of this endpoint do: `resources.`, `incremental.`."""
    return is_relative_time(name) or any(
        name.startswith(f"{prefix}.") for prefix in merged.endpoint.placeholder_prefixes
    )


def meant_placeholder(merged: MergedResource, name: str) -> str | None:
    """Return the placeholder that a name without its prefix means; None if none is meant for sure."""
    word, _, field = name.partition(".")
    if name in _VALUE_ATTRIBUTES and merged.endpoint.cursor is not None:
        return f"incremental.{name}"
    if field and word != merged.name and word in merged.all_names:
        return f"resources.{name}"
    return None


def guessed_parent(merged: MergedResource, name: str) -> str:
    """Return the resource that a placeholder probably means: `orders` for `orders/{id}`."""
    before = re.search(rf"([\w.-]+)/[{{<:]{re.escape(name)}\b", merged.endpoint.path)
    others = [other for other in merged.all_names if other != merged.name]
    for word in (before[1] if before else "", re.sub(r"[_-]?id$", "", name, flags=re.IGNORECASE)):
        if word and (close := nearest_name(word, others)):
            return close
    return "<parent>"


def guessed_field(name: str) -> str:
    """Return the field of a parent's record that a placeholder probably means."""
    return "id" if name.lower().endswith("id") else name


def report_empty_placeholder(merged: MergedResource, place: FieldPath) -> None:
    """Report `{}`."""
    merged.report(
        place,
        "`{}` in a text that dlt fills in stands for nothing",
        fix="Write a literal pair of braces as `{{}}`",
        code="deliberate:empty-placeholder",
    )


def report_lone_brace(merged: MergedResource, place: FieldPath) -> None:
    """Report a text whose braces don't come in pairs."""
    merged.report(
        place,
        f"A single brace in the text of {quoted_name(str(place[-1]))} is no placeholder",
        expected="`{resources.<parent>.<field>}`, `{incremental.start_value}`, or braces doubled",
        fix="Write a literal brace twice: `{{` or `}}`",
    )


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
"""The attributes of dlt's `Incremental` that a placeholder can show."""
_START_ATTRIBUTES = ("start_value", "initial_value", "last_value")
_VALUE_ATTRIBUTES = (*_START_ATTRIBUTES, "end_value")
# Any other text in braces may be part of a body or a secret, so messages don't show it.
_SHOWABLE_NAME = re.compile(r"[\w.-]+|resources\.[\w-]+\..{1,200}")


def check_placeholders(merged: MergedResource) -> None:
    """Check every placeholder of the endpoint and note those that take a parent's field."""
    _check_bound_path(merged)
    for found in merged.endpoint.placeholders:
        if found.at[0] == "path":  # its params are bound first, see above
            continue
        place, name = merged.text_location(found.at), found.name
        if name is None:
            report_lone_brace(merged, place)
        elif not name:
            report_empty_placeholder(merged, place)
        elif not has_known_prefix(merged, name):
            # each value of a list, or a batch of them, may also stand in the body
            if not (found.at[0] == "json_" and name in merged.endpoint.list_params):
                _report_unknown_prefix(merged, name, found.text, place)
        else:
            _check_placeholder(merged, name, place)
            # a param that only a window fills is left out in all other runs
            is_windows = found.at[0] == "params" and END_VALUE_PLACEHOLDER in found.text
            if not found.is_whole and not is_windows:
                _check_has_value(merged, name, place)
            _check_format(merged, name, found.text, place)


def _check_bound_path(merged: MergedResource) -> None:
    if not merged.bound_path:
        return
    try:
        names = placeholder_names(merged.bound_path)
    except ValueError:
        report_lone_brace(merged, merged.path_at)
        return
    for name in names:
        if has_known_prefix(merged, name):
            _check_placeholder(merged, name, merged.path_at)
            _check_has_value(merged, name, merged.path_at)
            _check_format(merged, name, merged.bound_path, merged.path_at)
        elif not isinstance(merged.endpoint.params.get(name), ResolveParam):
            merged.report(
                merged.path_at,
                "Doubled braces in a path become a placeholder once dlt has filled in the params",
                fix="Write each literal brace of a path four times, or percent-encode it: %7B, %7D",
                code="deliberate:path-braces",
            )


def _report_unknown_prefix(merged: MergedResource, name: str, text: str, place: FieldPath) -> None:
    known = meant_placeholder(merged, name)
    merged.report(
        place,
        f"{_placeholder_shown(name, place)} in {quoted_name(str(place[-1]))} is bound to nothing",
        expected=f"a placeholder that starts with {quoted_list(f'{c}.' for c in merged.endpoint.placeholder_prefixes)}",
        fix=_suggest_placeholder(merged, name, place),
        replacement=text.replace(f"{{{name}}}", f"{{{known}}}") if known else None,
        # dlt doesn't get the block of GraphQL
        code="deliberate:graphql" if "graphql" in place else each_code(name),
    )


def each_fix(name: str) -> str | None:
    """Return what to write for a list of `for_each` that is missing; None for a name that means none."""
    if not name.startswith(EACH_PREFIX) or not _SHOWABLE_NAME.fullmatch(name):
        return None
    return f'Add "for_each": {{"{name.removeprefix(EACH_PREFIX)}": ["a", "b"]}} to the endpoint'


def each_code(name: str) -> str | None:
    """Return the code of a finding about `for_each`, which dlt does not know; None for another name."""
    return "deliberate:for-each" if name.startswith(EACH_PREFIX) else None


def _suggest_placeholder(merged: MergedResource, name: str, place: FieldPath) -> str:
    braces = "Write a literal brace twice: `{{` and `}}`"
    if fix := each_fix(name):
        return fix
    if meant := meant_relative_time(name):
        return f"Write `{{{meant}}}`"
    if not _is_showable(name, place):
        return braces
    if known := meant_placeholder(merged, name):
        return f"Write `{{{known}}}`"
    return _suggest_source(name) or (
        f"Write `{{resources.{guessed_parent(merged, name)}.{guessed_field(name)}}}`. {braces}"
    )


def _suggest_source(name: str) -> str | None:
    """Return what to write for a name that means a cursor or a secret; None for any other."""
    cursor = 'add "incremental": {"cursor_path": ...} to the endpoint'
    if name in _VALUE_ATTRIBUTES:
        return f"Write `{{incremental.{name}}}`, and {cursor}"
    if name.startswith("incremental"):
        return cursor[0].upper() + cursor[1:]
    if re.match(r"(dlt\.)?(secrets|config|env)\b", name):
        return "Write a reference to an environment variable: `${NAME}`"
    return None


def _is_showable(name: str, place: FieldPath) -> bool:
    return not may_be_secret(place) and _SHOWABLE_NAME.fullmatch(name) is not None


def _placeholder_shown(name: str, place: FieldPath) -> str:
    """Show a placeholder unless it may be part of a secret or of a foreign text."""
    return quoted_name("{" + name + "}") if _is_showable(name, place) else "What stands in braces"


def _check_placeholder(merged: MergedResource, name: str, place: FieldPath) -> None:
    if is_relative_time(name):
        check_relative_time(merged, name, place)
    elif name.startswith("resources."):
        _add_parent_field(merged, name, place)
    elif name.startswith(EACH_PREFIX):
        _check_each_name(merged, name, place)
    elif merged.endpoint.token is not None:
        _check_token_placeholder(merged, name, place)
    elif merged.endpoint.cursor is None:
        merged.report(
            place,
            f"{_placeholder_shown(name, place)} needs an incremental cursor, and `incremental` is null",
            code="deliberate:incremental-null",
        )
    else:
        _check_incremental_attribute(merged, name, place)


def _check_each_name(merged: MergedResource, name: str, place: FieldPath) -> None:
    known = [f"{EACH_PREFIX}{one}" for one in merged.endpoint.for_each or ()]
    if name not in known:
        close = nearest_name(name, known)
        merged.report(
            place,
            f"{_placeholder_shown(name, place)} is no list of `for_each`",
            expected=quoted_list(f"{{{one}}}" for one in known),
            fix=f"Write `{{{close}}}`" if close else None,
            code="deliberate:for-each",
        )


def _check_token_placeholder(merged: MergedResource, name: str, place: FieldPath) -> None:
    if name != "incremental.token":
        merged.report(
            place,
            f"{_placeholder_shown(name, place)} is nothing that a token has",
            expected="`{incremental.token}`",
            fix="Write `{incremental.token}`",
            code="deliberate:sync-token",
        )


_ANY_START = datetime(2000, 1, 1, tzinfo=UTC)


def check_relative_time(merged: MergedResource, name: str, place: FieldPath) -> None:
    """Report a relative time that leaves the years 1 to 9999."""
    try:
        relative_time(name, _ANY_START)
    except ValueError:
        merged.report(
            place,
            f"{_placeholder_shown(name, place)} is outside the years 1 to 9999",
            fix="Write fewer days or years",
            code="deliberate:relative-time",
        )


def _add_parent_field(merged: MergedResource, name: str, place: FieldPath) -> None:
    parts = name.strip().split(".", maxsplit=2)
    if len(parts) == 3 and is_jsonpath(parts[2]):
        # the first place is enough: a problem of the parent is reported once
        merged.resolved.setdefault(name, place)
        if not finds_one_value(parts[2]):
            _report_many_values(merged, name, place)
        return
    merged.report(
        place,
        f"{_placeholder_shown(name, place)} doesn't name a field of a parent resource",
        expected="`{resources.<parent>.<field>}`",
        fix=f"Write `{{resources.{parts[1]}.id}}`"
        if len(parts) == 2 and parts[1] and _is_showable(name, place)
        else None,
    )


def _report_many_values(merged: MergedResource, name: str, place: FieldPath) -> None:
    merged.report(
        place,
        f"{_placeholder_shown(name, place)} can match several values of a parent's record, and each "
        "call takes one",
        expected="a path without `[*]`, `..`, slices and filters",
        fix="Write the path of one value, such as `{resources.<parent>.items[0].id}`; or, for a call of each "
        'value, a param: {"type": "resolve", "resource": "<parent>", "field": "items[*].id"}',
        code="deliberate:many-values",
    )


def _check_has_value(merged: MergedResource, name: str, place: FieldPath) -> None:
    """Report a placeholder in a path or a longer text that a run could only fill with nothing."""
    cursor, attribute = merged.endpoint.cursor, name.removeprefix("incremental.")
    if merged.endpoint.token is not None and attribute == "token":
        merged.report(
            place,
            f"{_placeholder_shown(name, place)} stands in a path or a longer text, and the first run has no "
            "token",
            fix="Give it a param, a header or a field of the body of its own. If the token is a link, leave "
            "the placeholder out: the next run requests the link",
            code="deliberate:sync-token",
        )
        return
    if cursor is None or attribute == name:
        return
    # a whole param may be left out for lack of a value; a text around the placeholder can't
    needed = "end_value" if attribute == "end_value" else "initial_value"
    if attribute not in _VALUE_ATTRIBUTES or getattr(cursor, needed) is not None:
        return
    if needed == "end_value" and cursor.window:
        return  # each window has an end
    when = "a run without an end" if needed == "end_value" else "the first run"
    alone = "" if place == merged.path_at else ", or give the placeholder a param of its own"
    merged.report(
        place,
        f"{_placeholder_shown(name, place)} stands in a longer text, and in {when} it has no value",
        fix=f'Add "{needed}" to the cursor{alone}',
        code="deliberate:no-cursor-value",
    )


def _check_format(merged: MergedResource, name: str, text: str, place: FieldPath) -> None:
    """Report what stands behind a placeholder's name if no value can be written so."""
    # as dlt does: the names are those of Python's format strings
    for _, found, spec, conversion in string.Formatter().parse(text):
        if found != name or not (spec or conversion):
            continue
        if spec and (problem := _time_format_problem(merged, name, spec)):
            text_of_problem, fix = problem
            merged.report(
                place,
                f"{_placeholder_shown(name, place)}: {text_of_problem}",
                fix=fix,
                code="deliberate:placeholder-format",
            )
            return
        if spec and is_time_format(spec) and conversion is None:
            continue
        cursor = merged.endpoint.cursor if name.startswith("incremental.") else None
        start = cursor.sample if cursor else None
        # a parent's field may be of any type, so a form that fits one of them is let through
        samples = _FORMAT_SAMPLES if start is None else (start,)
        if conversion not in (None, "r", "s", "a") or not _fits_one(spec or "", samples):
            merged.report(
                place,
                f"{_placeholder_shown(name, place)} can't be written in the form after its name",
                fix=f"Write `{{{name}}}`: the value is sent as the API wrote it"
                if _is_showable(name, place)
                else None,
                code="deliberate:placeholder-format",
            )
            return


def _time_format_problem(merged: MergedResource, name: str, spec: str) -> tuple[str, str] | None:
    """Return what is wrong with a format of times behind a placeholder's name, and what to write."""
    if is_relative_time(name):
        return time_format_problem(spec)
    if not is_time_format(spec):
        return None
    cursor = merged.endpoint.cursor if name.startswith("incremental.") else None
    sample = cursor.sample if cursor else None
    if sample is not None and moment_of(sample) is None and not find_references(sample):
        return "The cursor is no time", f"Write `{{{name}}}`: the value is sent as the API wrote it"
    return time_format_problem(spec)


_FORMAT_SAMPLES = ("text", 1, 1.5)


def _fits_one(spec: str, samples: Sequence[Any]) -> bool:
    """True if a format specification such as `05d` can be applied to one of the values."""
    for sample in samples:
        try:
            format(sample, spec)
        except ValueError:
            continue
        return True
    return False


def _check_incremental_attribute(merged: MergedResource, name: str, place: FieldPath) -> None:
    attribute = re.split(r"[.\[]", name.removeprefix("incremental."))[0]
    if attribute in _INCREMENTAL_ATTRIBUTES:
        return
    close = nearest_name(attribute, _INCREMENTAL_ATTRIBUTES)
    merged.report(
        place,
        f"{_placeholder_shown(name, place)} is nothing that an incremental cursor has",
        expected=quoted_list(f"{{incremental.{known}}}" for known in _INCREMENTAL_ATTRIBUTES[:4]),
        fix=f"Write `{{incremental.{close}}}`" if close else None,
        code="deliberate:incremental-attribute",
    )
