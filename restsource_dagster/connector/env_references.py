"""`${NAME}`: a value that the environment holds, so that no secret needs to stand in a file."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "MissingReferencesError",
    "find_references",
    "resolve_references",
    "resolve_rest_api_config",
    "without_references",
]

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_DOUBLINGS_IN_PATH = 2
_BRACE_DOUBLINGS = {"path": _DOUBLINGS_IN_PATH, "params": 1, "json": 1, "data": 1, "headers": 1}
"""The endpoint's fields in which dlt itself replaces `{...}`, and how often it reads them."""


class MissingReferencesError(LookupError):
    """Names that a file refers to and the environment doesn't have; `names` is sorted."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = tuple(sorted(names))
        listed = ", ".join(self.names)
        super().__init__(
            f"Not set in the environment: {listed}. Set each before the run, for instance in .env."
        )


def find_references(value: Any) -> frozenset[str]:
    """The names of all `${NAME}` in the strings of a JSON value, keys of objects included."""
    return frozenset(
        match[1] for text in _all_strings(value) for match in _REFERENCE.finditer(text) if match[1]
    )


def resolve_references(value: Any, environment: Mapping[str, str]) -> Any:
    """A copy of a JSON value with each `${NAME}` replaced and each `$${` as a literal `${`.

    Raises `MissingReferences` with all names that are missing, before anything is replaced.
    """
    _require_environment(value, environment)
    return _resolve_value(value, environment, doublings=0)


def resolve_rest_api_config(config: dict[str, Any], environment: Mapping[str, str]) -> Any:
    """Like `resolve_references`, for a whole `rest_api` configuration as dlt takes it.

    dlt replaces `{...}` in an endpoint's path, params, json, data and headers. A brace that comes
    from the environment is data and is doubled there, so that dlt leaves it as it is; in a path
    twice over, because dlt reads a path twice.
    """
    _require_environment(config, environment)
    resolved = {
        key: _resolve_value(value, environment, doublings=0)
        for key, value in config.items()
        if key not in ("resources", "resource_defaults")
    }
    if "resource_defaults" in config:
        resolved["resource_defaults"] = _resolve_resource(config["resource_defaults"], environment)
    if "resources" in config:
        resolved["resources"] = [
            _resolve_resource(item, environment) for item in config["resources"]
        ]
    return resolved


def without_references(text: str) -> str:
    """The text as dlt will see it, every reference replaced by a plain letter."""
    if "${" not in text:
        return text
    return _REFERENCE.sub(lambda match: "x" if match[1] else "${", text)


def _require_environment(value: Any, environment: Mapping[str, str]) -> None:
    missing = frozenset(name for name in find_references(value) if name not in environment)
    if missing:
        raise MissingReferencesError(missing)


def _resolve_resource(resource: Any, environment: Mapping[str, str]) -> Any:
    if not isinstance(resource, dict):
        return _resolve_value(
            resource, environment, doublings=_DOUBLINGS_IN_PATH if isinstance(resource, str) else 0
        )
    return {
        key: _resolve_endpoint(value, environment)
        if key == "endpoint"
        else _resolve_value(value, environment, doublings=0)
        for key, value in resource.items()
    }


def _resolve_endpoint(endpoint: Any, environment: Mapping[str, str]) -> Any:
    if not isinstance(endpoint, dict):
        return _resolve_value(endpoint, environment, doublings=_DOUBLINGS_IN_PATH)
    return {
        key: _resolve_value(value, environment, doublings=_BRACE_DOUBLINGS.get(key, 0))
        for key, value in endpoint.items()
    }


def _resolve_value(value: Any, environment: Mapping[str, str], *, doublings: int) -> Any:
    if isinstance(value, str):
        return _resolve_text(value, environment, doublings=doublings) if "${" in value else value
    if isinstance(value, dict):
        return {
            _resolve_value(key, environment, doublings=doublings): _resolve_value(
                item, environment, doublings=doublings
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_resolve_value(item, environment, doublings=doublings) for item in value]
    return value


def _resolve_text(text: str, environment: Mapping[str, str], *, doublings: int) -> str:
    def replacement(match: re.Match[str]) -> str:
        if not match[1]:
            return "${"
        found = environment[match[1]]
        times = 2**doublings
        return found.replace("{", "{" * times).replace("}", "}" * times)

    return _REFERENCE.sub(replacement, text)


def _all_strings(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
