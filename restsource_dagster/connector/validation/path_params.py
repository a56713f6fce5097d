"""Fills the placeholders of a path from its params, and reports those that no param or parent fills.

Follows `_bind_path_params` in `dlt.sources.rest_api.config_setup`.
"""

import re
from typing import Any

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.endpoint import (
    ResolveParam,
    as_url_text,
    bind_path,
    placeholder_names,
)
from restsource_dagster.connector.models.incremental_cursor import (
    IncrementalParam,
)
from restsource_dagster.connector.time_formats import (
    is_relative_time,
    meant_relative_time,
)
from restsource_dagster.connector.validation.diagnostics import (
    may_be_secret,
    nearest_name,
    quoted_name,
)
from restsource_dagster.connector.validation.merged_resource import MergedResource
from restsource_dagster.connector.validation.placeholders import (
    each_code,
    each_fix,
    guessed_field,
    guessed_parent,
    has_known_prefix,
    meant_placeholder,
    report_empty_placeholder,
    report_lone_brace,
)

__all__ = ["check_path"]

_OTHER_PLACEHOLDER_STYLES = re.compile(r"<(\w+)>|(?<=/):([A-Za-z_]\w*)")


def check_path(merged: MergedResource) -> None:
    """Fill the path's placeholders from the params, and report placeholders without a value.

    The params used are removed from the endpoint's params; from the defaults' params, as in dlt, if
    the resource has none of its own.
    """
    # `${NAME}` has braces, too, and is filled in before the path
    path = without_references(merged.endpoint.path)
    resolve = {name for name, p in merged.endpoint.params.items() if isinstance(p, ResolveParam)}
    unbound = set(resolve)
    try:
        names = placeholder_names(path)
    except ValueError:
        report_lone_brace(merged, merged.path_at)
        return
    # a list, not `all(...)` over a generator: each placeholder is to be reported, not only the
    # first
    bound = [
        _is_kept_placeholder(merged, name, unbound, resolve) or _take_path_param(merged, name)
        for name in names
    ]
    _report_unused_resolve_params(merged, unbound)
    _warn_other_styles(merged, path)
    # Only a path with braces can hold a placeholder once its params are filled in.
    if not all(bound) or ("{" not in path and "}" not in path):
        return
    values = {
        name: without_references(str(as_url_text(value)))
        for name, value in merged.path_params.items()
    }
    merged.bound_path = bind_path(path, values)


def _is_kept_placeholder(
    merged: MergedResource, name: str, unbound: set[str], resolve: set[str]
) -> bool:
    # a param of this name was there first: dlt's files have no relative times
    if has_known_prefix(merged, name) and not (
        is_relative_time(name) and name in merged.endpoint.params
    ):
        return True
    if name in unbound:
        unbound.discard(name)
        return True
    if name in resolve:
        merged.report(
            merged.path_at,
            f"The param {quoted_name(name)} stands in the path twice, and dlt fills in only the "
            "first",
            fix=f"Use {{resources.<parent>.<field>}} instead of `{{{name}}}`",
            code="deliberate:resolve-twice",
        )
        return True
    return False


def _take_path_param(merged: MergedResource, name: str) -> bool:
    params = merged.endpoint.params
    if not name:
        report_empty_placeholder(merged, merged.path_at)
        return False
    if name not in params:
        _report_unbound_placeholder(merged, name)
        return False
    value = params[name]
    if value is None:
        merged.report(
            merged.param_location(name),
            f"The path takes {quoted_name(name)} from here, and it is null",
            fix="Write the value",
            code="deliberate:null-in-path",
        )
        return False
    if isinstance(value, dict | IncrementalParam | ResolveParam):
        merged.report(
            merged.param_location(name),
            f"The path takes {quoted_name(name)} from here, and only a value or a param of type "
            "`resolve` can stand in a path",
        )
        return False
    # taken out: dlt sends no param that stands in the path
    merged.path_params[name] = params.pop(name)
    try:
        # Python refuses to write whole numbers of thousands of digits.
        str(value)
    except ValueError:
        merged.report(merged.param_location(name), "The number is too long for a path")
        return False
    return True


def _report_unbound_placeholder(merged: MergedResource, name: str) -> None:
    word = name.split(".", maxsplit=1)[0]
    more: dict[str, Any] = {"expected": "a param, or a field of a parent resource"}
    if name in merged.default_params:
        fix = (
            "dlt takes a param of the defaults for the path of one resource only; repeat it in "
            "this resource's params"
        )
    elif meant := meant_relative_time(name):
        fix = f"Write `{{{meant}}}`, or `{{{{` and `}}}}` for literal braces"
    elif missing_list := each_fix(name):
        more["code"] = each_code(name)
        fix = missing_list
    elif "." in name and word == "incremental":
        fix = 'Add "incremental": {"cursor_path": ...} to the endpoint'
    elif known := meant_placeholder(merged, name):
        fix = f"Write `{{{known}}}`"
        more["replacement"] = merged.endpoint.path.replace(f"{{{name}}}", f"{{{known}}}")
    elif "." in name and (close := nearest_name(word, ("resources", "incremental"))):
        fix = f"Write `{{{close}.{name.split('.', 1)[1]}}}`"
    else:
        fix = (
            f"Write `{{resources.{guessed_parent(merged, name)}.{guessed_field(name)}}}` to take it from "
            f'each row of a parent resource, or give it in "params": {{"{name}": ...}}'
        )
    shown = quoted_name("{" + name + "}")
    merged.report(merged.path_at, f"{shown} in the path is bound to nothing", fix=fix, **more)


def _report_unused_resolve_params(merged: MergedResource, unbound: set[str]) -> None:
    # Sorted, because a set has another order in each process, and findings should not.
    for name in sorted(unbound):
        param: Any = merged.endpoint.params[name]
        if param.takes_many:
            continue  # it goes into the query
        shown = f"{{resources.{param.resource}.{param.field}}}"
        if len(shown) > 60 or may_be_secret((name,)):
            shown = "{resources.<parent>.<field>}"
        merged.report(
            merged.param_location(name),
            f"A param of type `resolve` stands in the path, and the path has no `{{{name}}}`",
            fix=f'Put `{{{name}}}` into the path, or write "{name}": "{shown}"',
        )


def _warn_other_styles(merged: MergedResource, path: str) -> None:
    # In a query a colon is part of a value, such as a time.
    for match in _OTHER_PLACEHOLDER_STYLES.finditer(path.split("?", maxsplit=1)[0]):
        name = match[1] or match[2]
        merged.report(
            merged.path_at,
            f"{quoted_name(match[0])} in the path is sent as it stands",
            fix=f"If it is to be filled in, write "
            f"`{{resources.{guessed_parent(merged, name)}.{guessed_field(name)}}}`, or "
            f"`{{{name}}}` and a param of that name",
            severity="warning",
        )
