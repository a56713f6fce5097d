"""The calls of an endpoint: its placeholders filled in from the cursor and the parent's record."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from restsource_dagster.engine.dlt_compat import (
    expand_placeholders,
    jsonpath,
    process_parent_data_item,
)
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.endpoint_reader import Call
from restsource_dagster.engine.source.dlt_adapter import (
    DltIncremental,
)
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = ["dependent_call", "root_call", "values_from_parent"]

_PARENT_SNIPPET_CHARS = 200
_END_VALUE_PLACEHOLDER = "{incremental.end_value"

Record = dict[str, Any]


def values_from_parent(plan: ResourcePlan, parent: Any, redactor: Redactor) -> tuple[Any, ...]:
    """Return the values that a call takes from its parent, in the order of the parameters.

    Raises `IngestError` if the parent lacks one: a call with `None` in its path asks for something
    else.
    """
    values = []
    for param in plan.parent_params:
        found = jsonpath.find_values(param.field_path, parent) if isinstance(parent, dict) else []
        if len(found) != 1 or found[0] is None:
            problem = f"{len(found)} values of" if len(found) > 1 else "no"
            error = IngestError(
                f"resource {plan.resource.name}: a record of {plan.resource.parent} has {problem} "
                f"{param.resolve_config['field']!r}, which {param.param_name!r} needs: "
                f"{redactor.snippet(str(parent), _PARENT_SNIPPET_CHARS)}"
            )
            error.resource = plan.resource.name
            raise error
        values.append(found[0])
    return tuple(values)


def root_call(plan: ResourcePlan, incremental: DltIncremental[Any] | None) -> Call:
    """Return the one call of a resource without a parent."""
    template = _call_template(plan, incremental)
    known = {} if incremental is None else {"incremental": incremental}
    return Call(
        path=expand_placeholders(template.path, known),
        method=template.method,
        headers=expand_placeholders(template.headers, known),
        params=expand_placeholders(template.params, known),
        json=expand_placeholders(template.json, known, preserve_value_type=True),
        data=expand_placeholders(template.data, known),
    )


def dependent_call(
    plan: ResourcePlan, incremental: DltIncremental[Any] | None, parent: Mapping[str, Any]
) -> tuple[Call, Record]:
    """Return the call for one record of the parent, and the parent's fields for its records."""
    template = _call_template(plan, incremental)
    filled = process_parent_data_item(
        path=template.path,
        item=dict(parent),
        resolved_params=list(plan.parent_params),
        headers=dict(template.headers) if template.headers else None,
        params=dict(template.params or {}),
        request_json=dict(template.json) if template.json else None,
        request_data=template.data,
        include_from_parent=list(plan.resource.include_from_parent),
        incremental=incremental,
    )
    call = replace(
        template,
        path=filled.path,
        headers=filled.headers,
        params=filled.params,
        json=filled.json,
        data=filled.data,
    )
    return call, filled.parent_record


def _call_template(plan: ResourcePlan, incremental: DltIncremental[Any] | None) -> Call:
    """The call with its placeholders still in, and the incremental parameters set."""
    endpoint = plan.endpoint
    # params of type `resolve` stand in the path
    bound = {param.param_name for param in plan.parent_params}
    params = {name: value for name, value in endpoint.params.items() if name not in bound}
    if incremental is not None and incremental.end_value is None:
        # the live stream has no end: a param that only a window can fill is left out
        params = {
            name: value
            for name, value in params.items()
            if _END_VALUE_PLACEHOLDER not in str(value)
        }
    if incremental is not None and plan.start_param:
        params[plan.start_param] = incremental.last_value
    if incremental is not None and plan.end_param:
        params[plan.end_param] = incremental.end_value
    return Call(
        path=endpoint.path,
        method=plan.resource.method,
        headers=endpoint.headers,
        params=params,
        json=endpoint.json_ or None,
        data=endpoint.data,
    )
