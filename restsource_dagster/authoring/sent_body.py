"""The JSON body that a list is asked with by POST: a search, or a GraphQL query."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from restsource_dagster.authoring.importing.imported_api import (
    EnvVariables,
    literal,
    looks_like_secret,
)
from restsource_dagster.authoring.importing.source_files import (
    SourceError,
    SourceFile,
    parse_data,
)

__all__ = ["SentBody"]

_REFERENCE = "${"
_MAX_DEPTH = 20
_BODY_PATHS = {
    "page_param": "page_body_path",
    "offset_param": "offset_body_path",
    "limit_param": "limit_body_path",
    "cursor_param": "cursor_body_path",
}
"""The fields of paginators that name a param, and those that name its place in the body."""
_QUERY_TEXT = re.compile(r"\s*(?:(?:query|fragment)\b\s*\w*\s*[({@]|\{\s*[A-Za-z_]\w*\s*[({])")
"""A GraphQL query that is typed as it is, without the JSON around it."""
_VARIABLE = re.compile(r"\$(\w+)\s*:")


@dataclass(frozen=True)
class SentBody:
    """The object of a request's body as a file has it: with references, and with doubled braces in texts."""

    value: Mapping[str, Any]
    query: str | None = None
    """The query if it is GraphQL; `value` has its variables then."""

    @classmethod
    def parse(cls, text: str, variables: EnvVariables) -> "SentBody":
        """Read a body as it is sent, or a GraphQL query; secrets become references.

        Raises `ValueError` if it is no JSON object.
        """
        if _QUERY_TEXT.match(text):
            return cls(dict.fromkeys(_declared(text)), text)
        try:
            given = parse_data(SourceFile("body", text))
        except SourceError as error:
            raise ValueError(str(error)) from None
        if not isinstance(given, dict):
            raise ValueError("the body is an object")
        query = given.get("query")
        is_graphql = isinstance(query, str) and re.match(r"\s*(query\b|\{|#|fragment\b)", query)
        if not is_graphql:
            return cls(_as_in_file("", given, variables))
        sent = {} if given.get("variables") is None else given["variables"]
        if not isinstance(sent, dict):
            raise ValueError("`variables` of a GraphQL query is an object")
        # a variable that is declared and left out can be the next page's
        declared = dict.fromkeys(_declared(str(query)))
        return cls(_as_in_file("", {**declared, **sent}, variables), str(query))

    @cached_property
    def places(self) -> Mapping[str, tuple[str, ...]]:
        """The single values of the body: where each name stands, the nearest to the root."""
        found: dict[str, tuple[str, ...]] = {}
        for path, _ in sorted(_leaves(self.value), key=lambda leaf: len(leaf[0])):
            found.setdefault(path[-1], path)
        return found

    @cached_property
    def params(self) -> Mapping[str, str]:
        """The single values of the body by name, as the params of a URL would have them."""
        texts = dict(_leaves(self.value))
        return {
            name: "" if texts[path] is None else str(texts[path])
            for name, path in self.places.items()
        }

    def endpoint(self) -> dict[str, Any]:
        """Return the fields of an endpoint that send the body."""
        if self.query is None:
            return {"method": "POST", "json": dict(self.value)}
        sent = {"variables": dict(self.value)} if self.value else {}
        return {"graphql": {"query": self.query, **sent}}

    def paginator(self, value: Any) -> Any:
        """Return a paginator that sends its values in the body; None if the query has no variable for them."""
        if not isinstance(value, Mapping):
            return value
        made = {}
        for name, item in value.items():
            if name not in _BODY_PATHS or item is None:
                made[name] = item
                continue
            place = self._place_of(str(item))
            if place is None:
                return None
            made[_BODY_PATHS[name]] = place
        return made

    def _place_of(self, name: str) -> str | None:
        if self.query is None:
            return ".".join(self.places.get(name, (name,)))
        # a variable that the query does not declare is an error of the API
        return ".".join(("variables", *self.places[name])) if name in self.places else None

    def without(self, names: Collection[str]) -> "SentBody":
        """Return the body without the values that a paginator sends; variables of a query stay."""
        if self.query is not None:
            return self
        value = self.value
        for name in names:
            value = _set(value, self.places.get(name, ()), None, is_removed=True)
        return SentBody(value)

    def with_value(self, name: str, text: str) -> "SentBody":
        """Return the body with another text, such as the incremental cursor, in place of this value."""
        return SentBody(_set(self.value, self.places[name], text), self.query)


def _declared(query: str) -> Iterator[str]:
    """Yield the variables that a query declares: in the parentheses before its first brace."""
    head = query.partition("{")[0]
    yield from _VARIABLE.findall(head)


def _as_in_file(name: str, value: Any, variables: EnvVariables, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(f"the body has more than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {
            literal(key): _as_in_file(key, item, variables, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_as_in_file(name, item, variables, depth + 1) for item in value]
    if not isinstance(value, str) or _REFERENCE in value:
        return value
    return variables.reference(name, value) if looks_like_secret(name, value) else literal(value)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values of objects within objects; those in lists have no path that a paginator can name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif path and not isinstance(value, list):
        yield path, value


def _set(
    value: Mapping[str, Any], path: tuple[str, ...], item: Any, *, is_removed: bool = False
) -> Mapping[str, Any]:
    """Return a copy with another value at a path, or without it."""
    if not path:
        return value
    inner = item if len(path) == 1 else _set(value[path[0]], path[1:], item, is_removed=is_removed)
    changed = {**value, path[0]: inner}
    if is_removed and len(path) == 1:
        del changed[path[0]]
    return changed
