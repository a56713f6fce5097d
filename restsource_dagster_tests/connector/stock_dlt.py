"""What stock dlt says to a configuration, and mutations of configurations to ask it about."""

import json
import random
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from restsource_dagster.connector.env_references import find_references, resolve_references
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.models.auth import OWN_AUTH_TYPES
from restsource_dagster.connector.models.http_settings import ResourceHttp
from restsource_dagster.connector.models.oauth_logins import OWN_AUTH_FIELDS
from restsource_dagster.connector.models.response_action import ResponseAction
from restsource_dagster.connector.time_formats import is_relative_time
from restsource_dagster.connector.validation.connector_builder import parse_connector

CORPUS = Path(__file__).parents[1] / "connectors"
SECRETS = tuple(
    f"CREDENTIALS__{name}"
    for name in (
        "TOKEN",
        "API_KEY",
        "USERNAME",
        "PASSWORD",
        "CLIENT_ID",
        "CLIENT_SECRET",
        "ACCESS_TOKEN_URL",
    )
)
"""Set these in the environment, so that dlt finds every secret that a file leaves out."""
OWN_PAGING_FIELDS = (
    *("end_path", "stop_when_repeated", "first_page_params", "next_url_header", "total_header"),
    "max_rows",
)
ACTION_BODY = ResponseAction.model_fields["body"].annotation
OWN_CURSOR_FIELDS = ("convert", "cursor_format", "timezone", "window", "retention")
RELATIVE_TIME = re.compile(r"(?<!\{)\{([^{}:!]+)(?::[^{}]*)?\}")
OWN_RESOURCE_FIELDS = (
    *("mode", "nested", "children", "rename_from", "checks", "asset"),
    *("deleted_when", "deletes_from", "sweep", "on_delete"),
)
DLT_FIELDS = ("client", "resource_defaults", "resources")


def corpus(kind: str) -> list[Path]:
    """The files of the corpus: `valid` or `invalid`."""
    return sorted((CORPUS / kind).glob("*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def for_dlt(value: Any) -> dict[str, Any]:
    """The file's part for dlt, without what dlt doesn't know."""
    config = {key: deepcopy(value[key]) for key in DLT_FIELDS if key in value}
    _drop_own_fields(config)
    resources = config.get("resources")
    resources = resources if isinstance(resources, list) else []
    for resource in resources:
        if isinstance(resource, dict):
            resource.pop("backfill", None)
            if is_valid_http(resource.get("http")):
                resource.pop("http", None)
    for resource in (config.get("resource_defaults"), *resources):
        if isinstance(resource, dict):
            for name in OWN_RESOURCE_FIELDS:
                resource.pop(name, None)
            included = resource.get("include_from_parent")
            if isinstance(included, list) and any("each." in str(one) for one in included):
                resource.pop("include_from_parent")
            if isinstance(resource.get("endpoint"), dict):
                for name in (
                    "partial_errors",
                    "params_style",
                    "graphql",
                    "response",
                    "for_each",
                    "job",
                ):
                    resource["endpoint"].pop(name, None)
    filled: dict[str, Any] = _without_relative_times(config)
    return filled


def is_valid_http(value: Any) -> bool:
    """Whether a resource's `http` is right: dlt refuses it as we refuse a wrong one."""
    return _is_valid(value, ResourceHttp | None)


def _is_valid(value: Any, kind: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def _drop_own_fields(config: dict[str, Any]) -> None:
    """Drop from the parts of endpoints what dlt doesn't know."""
    _replace_logins(config)
    _replace_tokens(config)
    for cursor in (*_objects_at(config, "incremental"), *_incremental_params_in(config)):
        for name in OWN_CURSOR_FIELDS:
            cursor.pop(name, None)
        paths = cursor.get("cursor_path")
        if isinstance(paths, list) and paths:
            cursor["cursor_path"] = paths[0]
    for endpoint in _objects_at(config, "endpoint"):
        actions = endpoint.get("response_actions")
        for action in actions if isinstance(actions, list) else ():
            # a wrong one stays: dlt refuses it, too
            if isinstance(action, dict) and _is_valid(action.get("body"), ACTION_BODY):
                action.pop("body", None)
        _drop_lists_of_parents(endpoint)
        if isinstance(endpoint.get("method"), str) and re.fullmatch("[A-Z-]+", endpoint["method"]):
            endpoint["method"] = "GET"
    for paginator in _objects_at(config, "paginator"):
        ends = [paginator.pop(name, None) for name in OWN_PAGING_FIELDS]
        stops = paginator.get("stop_after_empty_page")
        if stops in (None, False) and any(end not in (None, False) for end in ends):
            # dlt must know an end, and has none of these
            paginator.pop("stop_after_empty_page", None)
        if paginator.get("type") not in ("cursor", "offset", "page_number"):
            paginator.pop("has_more_path", None)


def _replace_logins(config: dict[str, Any]) -> None:
    """Put a token in the place of each login that dlt doesn't have, and drop certificates."""
    if isinstance(config.get("client"), dict):
        config["client"].pop("tls", None)
    for auth in _objects_at(config, "auth"):
        if auth.get("type") in OWN_AUTH_TYPES:
            auth.clear()
            auth["token"] = "x"
        for name in OWN_AUTH_FIELDS:
            auth.pop(name, None)


def _drop_lists_of_parents(endpoint: dict[str, Any]) -> None:
    """Leave one value of each list of a parent's record."""
    params = endpoint.get("params")
    params = params if isinstance(params, dict) else {}
    for name, param in list(params.items()):
        if not isinstance(param, dict):
            continue
        field = param.get("field")
        if not (isinstance(field, str) and ("[*]" in field or "batch" in param)):
            continue
        one = field.replace("[*]", "[0]")
        if f"{{{name}}}" not in str(endpoint.get("path")):
            params[name] = f"{{resources.{param.get('resource')}.{one}}}"
            continue
        param["field"] = one
        for own in ("batch", "separator"):
            param.pop(own, None)


def _replace_tokens(config: dict[str, Any]) -> None:
    """Put a cursor in the place of each token, which dlt doesn't know: with any it takes the placeholder."""
    for token in _objects_at(config, "incremental"):
        if "token_path" in token:
            token.clear()
            token["cursor_path"] = "id"


def _without_relative_times(value: Any) -> Any:
    """The value with a text in place of each `{now}` and the like."""
    if isinstance(value, str):
        return RELATIVE_TIME.sub(
            lambda found: (
                "x" if is_relative_time(found[1]) or found[1].startswith("each.") else found[0]
            ),
            value,
        )
    if isinstance(value, dict):
        return {key: _without_relative_times(item) for key, item in value.items()}
    return [_without_relative_times(item) for item in value] if isinstance(value, list) else value


def _incremental_params_in(value: Any) -> Iterator[dict[str, Any]]:
    for params in _objects_at(value, "params"):
        yield from (one for one in params.values() if isinstance(one, dict))


def _objects_at(value: Any, name: str) -> Iterator[dict[str, Any]]:
    """Every object of this name in a configuration."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if isinstance(item.get(name), dict):
                yield item[name]
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def rest_api_config(connector: Connector) -> dict[str, Any]:
    """The connector as stock dlt takes it: defaults merged in, references not resolved."""
    return {
        "client": connector.client.as_json(),
        "resources": [_resource_config(resource) for resource in connector.resources],
    }


def _resource_config(resource: Resource) -> dict[str, Any]:
    endpoint = resource.endpoint.as_json()
    if resource.path_params:
        endpoint["params"] = {**endpoint.get("params", {}), **resource.path_params}
    config = {"name": resource.name, "endpoint": endpoint, **resource.hints.as_json()}
    if resource.include_from_parent:
        config["include_from_parent"] = list(resource.include_from_parent)
    return config


def resolve_for_dlt(config: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The configuration with its references resolved, and braces doubled where dlt reads them."""
    resources = config["resources"]
    resources = [{"name": r, "endpoint": r} if isinstance(r, str) else r for r in resources]
    holders = [config.get("resource_defaults") or {}, *resources]
    doubled = [
        {
            key: _resolve_endpoint(value, environment)
            if key == "endpoint"
            else resolve_references(value, environment)
            for key, value in holder.items()
        }
        for holder in holders
    ]
    client = resolve_references(config["client"], environment) if "client" in config else {}
    return {"client": client, "resource_defaults": doubled[0], "resources": doubled[1:]}


def _resolve_endpoint(endpoint: Any, environment: Mapping[str, str]) -> Any:
    if not isinstance(endpoint, dict):
        return resolve_references(endpoint, environment, brace_doublings=2)
    doublings = {"path": 2, "params": 1, "json": 1, "data": 1, "headers": 1}
    return {
        key: resolve_references(value, environment, brace_doublings=doublings.get(key, 0))
        for key, value in endpoint.items()
    }


def stock_refusal(value: Any) -> str | None:
    """Why stock dlt refuses the file's part for dlt, or None if it takes it.

    A crash is a refusal; a secret that isn't there is none, for the structure was fine.
    """
    from dlt.common.configuration.exceptions import ConfigFieldMissingException
    from dlt.sources.rest_api import rest_api_source

    config = for_dlt(value)
    try:
        environment = dict.fromkeys(find_references(config), "v")
        source: Any = resolve_references(config, environment)
        rest_api_source(source, name="stock")
    except ConfigFieldMissingException:
        return None
    except Exception as refusal:  # noqa: BLE001 - any exception is dlt's way of refusing
        return f"{type(refusal).__name__}: {str(refusal)[:400]}"
    return None


def disagreement(value: Any) -> str | None:
    """Where we and stock dlt differ about a file, except for refusals that are deliberate."""
    _, findings = parse_connector(value, Path("mutant.json"))
    errors = [finding for finding in findings if finding.severity == "error"]
    ours = [finding for finding in errors if not (finding.code or "").startswith("deliberate:")]
    about_dlt = [f for f in ours if f.pointer.split("/")[1:2] in ([name] for name in DLT_FIELDS)]
    empty = any(finding.code == "deliberate:no-resources" for finding in errors)
    if errors and (empty or not about_dlt):
        return None
    refusal = stock_refusal(value)
    if errors and refusal is None:
        return f"only we refuse: {about_dlt[:3]}"
    if not errors and refusal is not None:
        return f"only dlt refuses: {refusal}"
    return None


_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    10**30,
    "",
    "id",
    "a.b",
    "$.a[*].b",
    "a[",
    "{",
    "{}",
    "{{x}}",
    "{id}",
    "a/{id}/b",
    "x/{resources.items.id}",
    "{resources.items}",
    "{resources.nobody.id}",
    "{incremental.start_value}",
    [],
    ["id"],
    ["id", 1],
    [None],
    [{}],
    {},
    {"a": 1},
    {"id": {"type": "resolve", "resource": "items", "field": "id"}},
    {"since": {"type": "incremental", "cursor_path": "ts", "initial_value": 0}},
    {"type": "resolve"},
    {"type": "offset", "limit": 1},
    {"type": "cursor", "cursor_param": "", "cursor_body_path": "x"},
    {"cursor_path": "ts"},
    {"name": "extra", "endpoint": {"path": "extra/{resources.items.id}"}},
]


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key (or index) in it."""
    stack = [value]
    while stack:
        item = stack.pop()
        keys = list(item) if isinstance(item, dict) else list(range(len(item)))
        for key in keys:
            yield item, key
            if isinstance(item[key], dict | list):
                stack.append(item[key])


@dataclass(frozen=True)
class Pool:
    """What mutations are made of: keys and values that occur in files, and values by key."""

    keys: list[str]
    values: list[Any]
    by_key: dict[str, list[Any]]


def harvest(paths: list[Path]) -> Pool:
    """The keys and the values that occur in files."""
    values: dict[str, Any] = {}
    by_key: dict[str, list[Any]] = {}
    for path in paths:
        for container, key in nodes({k: v for k, v in read(path).items() if k in DLT_FIELDS}):
            value = container[key]
            if isinstance(key, str):
                by_key.setdefault(key, []).append(value)
            values[json.dumps(value, sort_keys=True)] = value
    return Pool(list(by_key), list(values.values()), by_key)


def mutated(value: Any, rng: random.Random, pool: Pool) -> Any:
    """A copy with one to three random changes in the part that is dlt's."""
    mutant = deepcopy(value)
    part = {key: mutant.pop(key) for key in DLT_FIELDS if key in mutant}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(nodes(part))
        if not places:
            break
        _change(*rng.choice(places), rng, pool)
    return {**mutant, **part}


_KINDS = ("replace", "harvest", "kin", "kin", "kin", "delete", "rename", "add", "add kin", "twice")


def _change(container: Any, key: Any, rng: random.Random, pool: Pool) -> None:
    kind = rng.choice(_KINDS)
    new_key = rng.choice(pool.keys)
    if kind == "delete":
        del container[key]
    elif kind == "twice" and isinstance(container, list):
        container.append(deepcopy(container[key]))
    elif kind == "rename" and isinstance(container, dict):
        container[new_key] = container.pop(key)
    elif kind == "add kin" and isinstance(container, dict):
        container[new_key] = deepcopy(rng.choice(pool.by_key[new_key]))
    elif kind == "add" and isinstance(container, dict):
        container[new_key] = deepcopy(rng.choice(_VALUES))
    elif kind == "kin" and key in pool.by_key:
        container[key] = deepcopy(rng.choice(pool.by_key[key]))
    else:
        container[key] = deepcopy(rng.choice(_VALUES if kind == "replace" else pool.values))
