"""From an endpoint's placeholders to the calls that are made of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dlt.extract import Incremental

from restsource_dagster.engine.dlt_compat import (
    expand_placeholders,
    jsonpath,
    process_parent_data_item,
)
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.endpoint_reader import Call
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = ["dependent_call", "root_call", "values_from_parent"]

_PARENT_SNIPPET_CHARS = 200
_END_VALUE_PLACEHOLDER = "{incremental.end_value"

Record = dict[str, Any]


def values_from_parent(plan: ResourcePlan, parent: Any, redactor: Redactor) -> tuple[Any, ...]:
    """The values that a call takes from its parent, in the order of the parameters.

    Raises `IngestError` if the parent lacks one: a call with `None` in its path would ask for
    something else.
    """
    values = []
    for param in plan.parent_params:
        found = jsonpath.find_values(param.field_path, parent) if isinstance(parent, dict) else []
        if not found or found[0] is None:
            error = IngestError(
                f"resource {plan.resource.name}: a record of {plan.resource.parent} has no "
                f"{param.resolve_config['field']!r}, which {param.param_name!r} needs: "
                f"{redactor.snippet(str(parent), _PARENT_SNIPPET_CHARS)}"
            )
            error.resource = plan.resource.name
            raise error
        values.append(found[0])
    return tuple(values)


def root_call(plan: ResourcePlan, incremental: Incremental[Any] | None) -> Call:
    """The one call of a resource that stands alone."""
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
    plan: ResourcePlan, incremental: Incremental[Any] | None, parent: Mapping[str, Any]
) -> tuple[Call, Record]:
    """The call for one record of the parent, and the fields that its records get from there."""
    template = _call_template(plan, incremental)
    filled = process_parent_data_item(
        path=template.path,
        item=dict(parent),
        resolved_params=list(plan.parent_params),
        headers=dict(template.headers) if template.headers else None,
        params=dict(template.params or {}),
        request_json=dict(template.json) if template.json else None,
        request_data=template.data,
        include_from_parent=list(plan.include_from_parent),
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


def _call_template(plan: ResourcePlan, incremental: Incremental[Any] | None) -> Call:
    """The call with its placeholders still in, and the incremental parameters set."""
    endpoint = plan.endpoint
    bound = {param.param_name for param in plan.parent_params}
    given = endpoint.get("params") or {}
    params = {name: value for name, value in given.items() if name not in bound}
    if incremental is not None and incremental.end_value is None:
        # the live stream has no end: what only a window has to say is not sent
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
        path=endpoint["path"],
        method=endpoint.get("method") or "GET",
        headers=endpoint.get("headers"),
        params=params,
        json=endpoint.get("json"),
        data=endpoint.get("data"),
    )
