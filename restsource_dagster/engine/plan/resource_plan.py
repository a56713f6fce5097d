"""Plan how each resource of a family is read, and build the calls of a plan.

In a plan the secrets are filled in, the path is bound, and the cursor and the parent's fields are
known. In a call the placeholders are filled in from the cursor and the parent's record, each value
written for its place: path, query, header, form or JSON body. dlt formats them as Python does, so
`true` goes out as `True`, a cursor without a value as `None`, and a `#` or `..` of a parent's record
changes which URL is requested.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import product
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from restsource_dagster.connector.model import Connector, Family, Resource
from restsource_dagster.connector.models.connector_file import ChildRows
from restsource_dagster.connector.models.endpoint import (
    EACH_PREFIX,
    Endpoint,
    placeholder_names,
)
from restsource_dagster.connector.models.incremental_cursor import (
    END_VALUE_PLACEHOLDER,
    Incremental,
    SyncToken,
)
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.time_formats import (
    is_relative_time,
)
from restsource_dagster.engine.dlt_compat import (
    ResolvedParam,
    jsonpath,
    single_entity_path,
)
from restsource_dagster.engine.errors import IngestError, ResourceError
from restsource_dagster.engine.http.origins import has_foreign_origin
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.paging.totals import may_filter
from restsource_dagster.engine.plan.call_values import (
    RUN_START,
    SentTime,
    fill_path,
    fill_values,
    plain_value,
)
from restsource_dagster.engine.plan.dlt_adapter import (
    DltIncremental,
    make_incremental,
    make_resolved_params,
)

__all__ = [
    "EACH_FIELD",
    "ResourcePlan",
    "build_resource_plans",
    "dependent_call",
    "records_of_calls",
    "root_call",
    "values_from_parent",
]


@dataclass(frozen=True)
class ResourcePlan:
    """One resource, ready to be read: secrets filled in, the path bound, placeholders still in."""

    resource: Resource
    loaded: bool
    """False for a parent that is read only because its dependents need it."""
    endpoint: Endpoint
    is_foreign: bool
    """True if the URL is of another origin than `base_url`: the client's credentials stay here."""
    is_single_entity: bool
    """True if dlt takes the answer for one record, as the path ends in a placeholder."""
    incremental: DltIncremental[Any] | None
    """The cursor as dlt has it; a window puts its own ends in its place."""
    start_param: str | None
    """The query parameter that takes the cursor's start."""
    end_param: str | None
    """The query parameter that takes the cursor's end."""
    started: datetime
    """When the run started: the moment of `{now}`."""

    @cached_property
    def cursor(self) -> Incremental | None:
        """The cursor as the file has it."""
        return self.endpoint.cursor

    @cached_property
    def token(self) -> SyncToken | None:
        """The token in place of a cursor."""
        return self.endpoint.token

    @cached_property
    def parent_params(self) -> tuple[ResolvedParam, ...]:
        """What a call takes from each record of the parent, in the order of the file."""
        if self.resource.parent is None:
            return ()
        return make_resolved_params(self.endpoint.parent_fields)

    @cached_property
    def columns_of_a_parent(self) -> Mapping[str, str]:
        """The columns by which the rows of a parent are found, by the field of the parent's record.

        They are those of `include_from_parent` that hold what the call takes, or that of `replace_by`.
        """
        taken = [param.field for param in self.endpoint.parent_fields.values()]
        children, included = self.resource.children, self.resource.columns_from_parent
        if isinstance(children, ChildRows):
            return dict.fromkeys(taken, children.replace_by)
        return {name: included[name] for name in taken if name in included}

    @cached_property
    def each_names(self) -> tuple[str, ...]:
        """The placeholders of `for_each`."""
        return tuple(f"{EACH_PREFIX}{name}" for name in self.endpoint.for_each or ())

    @cached_property
    def list_param(self) -> str | None:
        """The param that takes each value of a list in the parent's record, or batches of them."""
        return next(iter(self.endpoint.list_params), None)

    @cached_property
    def batch_size(self) -> int | None:
        """How many parents' values one call takes; None for a call for each parent."""
        return self.endpoint.list_params[self.list_param].batch if self.list_param else None

    @cached_property
    def is_repeated(self) -> bool:
        """True for a root with a call for each value of `for_each`, in place of a single one."""
        return self.resource.parent is None and bool(self.endpoint.for_each)

    @cached_property
    def sends_start(self) -> bool:
        """True if the API is asked for the records from the cursor's start on: it decides what is new."""
        return self.endpoint.sends_start

    @cached_property
    def sends_end(self) -> bool:
        """True if the API is asked for the records up to the end of a window."""
        return self.endpoint.sends_end

    @property
    def data_selector(self) -> str | None:
        """The selector of the records: the file's, else dlt's choice for a single record."""
        given = self.endpoint.data_selector
        return "$" if given is None and self.is_single_entity else given

    def paginator(self, clients: Paginator | None) -> Paginator | None:
        """The endpoint's paginator, else `clients`, the client's; None: it is detected."""
        if self.endpoint.job is not None:
            return "single_page"
        default = "single_page" if self.is_single_entity else clients
        return self.endpoint.paginator or default

    @property
    def appends(self) -> bool:
        """True for `append`: a row read twice is stored twice."""
        return self.resource.disposition.value == "append"

    @property
    def identity(self) -> Any:
        """The fields that tell rows with the same cursor apart; None is all of them."""
        # an empty `primary_key` of the `incremental` overrides the resource's: all fields count
        given = self.incremental.primary_key if self.incremental else None
        return (self.resource.primary_key or None) if given is None else (given or None)


def build_resource_plans(
    family: Family, connector: Connector, loaded: Collection[str]
) -> Iterator[ResourcePlan]:
    """Yield the plans of the members that are loaded or needed by one that is, parents first.

    `connector` has its references resolved.
    """
    # a parent is read for its dependents even if the file deselects it
    needed = _needed_names(family, loaded)
    for name in family.names:
        if name in needed:
            yield _build_plan(connector.resource(name), connector, loaded=name in loaded)


def _needed_names(family: Family, loaded: Collection[str]) -> set[str]:
    needed: set[str] = set()
    parents = {member.name: member.parent for member in family.members}
    for name in loaded:
        current: str | None = name
        while current:
            needed.add(current)
            current = parents[current]
    return needed


def _build_plan(resource: Resource, connector: Connector, *, loaded: bool) -> ResourcePlan:
    # only now: the value of a reference may be a whole URL, or have braces of its own
    path = resource.bound_path
    is_foreign = has_foreign_origin(connector.client.base_url, path)
    endpoint = resource.endpoint
    if is_foreign and resource.foreign_endpoint:
        endpoint = resource.foreign_endpoint
    bound = Endpoint.of({**endpoint.given, "path": path})
    cursor = bound.cursor
    return ResourcePlan(
        resource=resource,
        loaded=loaded,
        endpoint=bound,
        is_foreign=is_foreign,
        # dlt decides before it binds the path: `{id}` at the end counts, whatever is put there
        is_single_entity=_is_single_entity(resource.endpoint.path),
        incremental=make_incremental(cursor),
        start_param=cursor.start_param if cursor else None,
        end_param=cursor.end_param if cursor else None,
        started=connector.started or datetime.now(UTC),
    )


def _is_single_entity(path: str) -> bool:
    """True if dlt takes the answer for one record: the last part of the path is a placeholder.

    A time is no id: `feed/{today}` is as likely a list.
    """
    names = placeholder_names(path)
    return bool(single_entity_path(path)) and not (names and is_relative_time(names[-1]))


_PARENT_SNIPPET_CHARS = 200

Record = dict[str, Any]


def values_from_parent(plan: ResourcePlan, parent: Any, redactor: Redactor) -> tuple[Any, ...]:
    """Return the values that a call takes from its parent, in the order of the parameters.

    Raises `IngestError` if the parent lacks one: a call with `None` in its path asks for something
    else.
    """
    each: Mapping[str, Any] = parent.get(EACH_FIELD, {}) if isinstance(parent, dict) else {}
    values: list[Any] = []
    # as dlt finds them, so that a call and the key of its parent never disagree
    for param in plan.parent_params:
        if param.param_name in each:
            values.append(each[param.param_name])
            continue
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
    return (*values, *(each[name] for name in plan.each_names))


EACH_FIELD = "{each}"
"""The field of a parent's record with the values of one call: those of `for_each`, and one of a list."""


def records_of_calls(plan: ResourcePlan, parent: Any, redactor: Redactor) -> list[Any]:
    """Return a parent's record once for each call below it, with the values of the call.

    Raises `IngestError` if the record does not have the list at all, or null in it.
    """
    if not (plan.each_names or plan.list_param) or not isinstance(parent, dict):
        return [parent]
    lists = [
        [(name, value) for value in values]
        for name, values in zip(
            plan.each_names, (plan.endpoint.for_each or {}).values(), strict=True
        )
    ]
    if plan.list_param:
        lists.append([(plan.list_param, value) for value in _listed_values(plan, parent, redactor)])
    made = []
    for values in product(*lists):
        record = copy(parent)  # not a dict of its own: a record may be marked
        record[EACH_FIELD] = dict(values)
        made.append(record)
    return made


def _listed_values(plan: ResourcePlan, parent: Any, redactor: Redactor) -> list[Any]:
    param = next(one for one in plan.parent_params if one.param_name == plan.list_param)
    field = str(param.resolve_config["field"])
    found = jsonpath.find_values(param.field_path, parent) if isinstance(parent, dict) else []
    top = re.split(r"[.\[]", field.removeprefix("$."))[0].strip("'\"")
    problem = None
    if not found and isinstance(parent, dict) and top and top not in parent:
        problem = f"no {top!r}"
    elif None in found:
        problem = "null in"
    if problem is None:
        return found
    error = IngestError(
        f"resource {plan.resource.name}: a record of {plan.resource.parent} has {problem} for the list "
        f"{field!r}, which {plan.list_param!r} needs: "
        f"{redactor.snippet(str(parent), _PARENT_SNIPPET_CHARS)}"
    )
    error.resource = plan.resource.name
    raise error


def root_call(
    plan: ResourcePlan, incremental: DltIncremental[Any] | None, token: Any = None
) -> Call:
    """Return the one call of a resource without a parent. Raises `CallValueError`.

    `token` is that of the last run, for a resource that has one in place of a cursor.
    """
    template, known = _call_template(plan, incremental), _known(plan, incremental)
    if plan.token is not None:
        known = {**known, "incremental": _SentToken(token)}
        if token is not None:
            template = _with_token(template, plan.token, token)
    if token is not None and plan.endpoint.follows_token:
        # the link is a whole request, and its braces are no placeholders
        filled = _filled(plan, replace(template, path=""), known)
        return replace(filled, path=str(token), params={})
    return _filled(plan, template, known)


@dataclass(frozen=True)
class _SentToken:
    """What the placeholder `{incremental.token}` reads."""

    token: Any


def _with_token(template: Call, model: SyncToken, token: Any) -> Call:
    """Return the call of a run that has a token."""
    params = dict(template.params or {})
    for name in model.first_run_params:
        params.pop(name, None)
    if model.token_param:
        # braces in a token are no placeholders
        params[model.token_param] = str(token).replace("{", "{{").replace("}", "}}")
    return replace(template, params=params, is_filtered=True)


def dependent_call(
    plan: ResourcePlan,
    incremental: DltIncremental[Any] | None,
    parent: Mapping[str, Any],
    values: Sequence[Any],
) -> tuple[Call, Record]:
    """Return the call for one record of the parent, and the parent's fields for its records.

    `values` are those of `values_from_parent`. Raises `CallValueError`, and `ResourceError` if the
    parent lacks a field that its records shall get.
    """
    resource = plan.resource
    for name in resource.include_from_parent:
        if name not in parent and not name.startswith(EACH_PREFIX):
            has = ", ".join(map(str, parent))
            raise ResourceError(
                resource.name,
                f"include_from_parent takes the field {name!r} of each record of {resource.parent}, and "
                f"one has none. It has {has}. Name a field that each record has, at its top level",
            )
    names = (*(param.param_name for param in plan.parent_params), *plan.each_names)
    known = {**dict(zip(names, values, strict=True)), **_known(plan, incremental)}
    fields = {
        column: known[name] if name.startswith(EACH_PREFIX) else parent[name]
        for name, column in resource.columns_from_parent.items()
    }
    return _filled(plan, _call_template(plan, incremental), known), fields


def _known(plan: ResourcePlan, incremental: DltIncremental[Any] | None) -> Mapping[str, Any]:
    known: dict[str, Any] = {RUN_START: plan.started}
    cursor = plan.cursor
    if incremental is not None and cursor is not None:
        known["incremental"] = _SentCursor(incremental, cursor)
    return known


_SENT_VALUES = ("start_value", "initial_value", "last_value", "end_value")


class _SentCursor:
    """The cursor as a request sends it: its values are written as the file says."""

    def __init__(self, incremental: DltIncremental[Any], cursor: Incremental) -> None:
        self._incremental = incremental
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._incremental, name)
        if value is None or name not in _SENT_VALUES:
            return value
        falls = self._cursor.last_value_func == "min"
        # rounded outwards: the API is asked for too much rather than too little
        rounds_up = (name == "end_value") != falls
        return SentTime(value, self._cursor.sent_format, self._cursor.zone, rounds_up=rounds_up)


def _filled(plan: ResourcePlan, template: Call, known: Mapping[str, Any]) -> Call:
    params = dict(template.params or {})
    listed = {plan.list_param: known[plan.list_param]} if plan.list_param in params else {}
    sent = {**fill_values({n: v for n, v in params.items() if n not in listed}, known), **listed}
    return Call(
        path=fill_path(template.path, known),
        method=template.method,
        headers=fill_values(template.headers, known),
        params=_styled(sent, plan.endpoint.params_style),
        json=fill_values(template.json, known, keeps_types=True),
        data=fill_values(template.data, known),
        is_filtered=template.is_filtered,
    )


def _styled(params: Mapping[str, Any], style: str) -> Mapping[str, Any]:
    """Return params whose lists are spelt as the API wants them; `repeat` is how requests sends lists."""
    if style == "repeat" or not any(isinstance(value, list) for value in params.values()):
        return params
    if style == "brackets":
        return {f"{n}[]" if isinstance(v, list) else n: v for n, v in params.items()}
    return {n: ",".join(map(str, v)) if isinstance(v, list) else v for n, v in params.items()}


def _call_template(plan: ResourcePlan, incremental: DltIncremental[Any] | None) -> Call:
    """The call with its placeholders still in, and the incremental parameters set."""
    endpoint = plan.endpoint
    # params of type `resolve` stand in the path
    bound = {param.param_name for param in plan.parent_params}
    if plan.list_param and not endpoint.mentions(f"{{{plan.list_param}}}"):
        bound.discard(plan.list_param)
    params = {name: value for name, value in endpoint.params.items() if name not in bound}
    if incremental is not None and incremental.end_value is None:
        # the live stream has no end: a param that only a window can fill is left out
        params = {
            name: value for name, value in params.items() if END_VALUE_PLACEHOLDER not in str(value)
        }
    sent = _known(plan, incremental).get("incremental")
    if sent is not None and plan.start_param:
        params[plan.start_param] = plain_value(sent.last_value)
    if sent is not None and plan.end_param:
        params[plan.end_param] = plain_value(sent.end_value)
    return Call(
        path=endpoint.path,
        method=plan.resource.method,
        headers=endpoint.headers,
        params=params,
        json=endpoint.json_ or None,
        data=endpoint.data,
        is_filtered=_is_filtered(plan, params, incremental),
    )


def _is_filtered(
    plan: ResourcePlan, params: Mapping[str, Any], incremental: DltIncremental[Any] | None
) -> bool:
    """True if the call may ask for some of the rows only, as far as the file tells.

    A cursor that is sent does not count in the first load, which asks for all rows from its initial
    value on.
    """
    endpoint = plan.endpoint
    if incremental is not None:
        is_first = incremental.end_value is None and (
            incremental.start_value == incremental.initial_value
        )
        has_param = bool(plan.start_param or plan.end_param)
        if not is_first and (has_param or endpoint.mentions("{incremental.")):
            return True
    names = [
        name
        for name, value in params.items()
        if name not in (plan.start_param, plan.end_param) and "{incremental." not in str(value)
    ]
    in_path = [name for name, _ in parse_qsl(urlsplit(endpoint.path).query)]
    # what a body asks for is known only to the API
    return bool(endpoint.json_ or endpoint.data) or any(map(may_filter, [*names, *in_path]))
