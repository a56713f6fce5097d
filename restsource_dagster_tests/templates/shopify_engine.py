"""How Shopify answers GraphQL: validated queries, costs, a budget that refills, pages and search texts.

The queries are parsed, validated against the schema and executed, so a query that the schema refuses is
refused here. Rules: https://shopify.dev/docs/api/usage/limits, https://shopify.dev/docs/api/usage/search-syntax and
https://shopify.dev/docs/api/usage/pagination-graphql.
"""

import json
import re
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute,
    get_named_type,
    get_operation_ast,
    is_abstract_type,
    is_leaf_type,
    parse,
    validate,
)
from graphql.execution import ExecutionResult
from graphql.execution.values import get_argument_values

from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = ["GraphQLServer", "Record", "connection"]

Record = dict[str, Any]
SCHEMA = build_schema((Path(__file__).parent / "shopify_schema.graphql").read_text())
_MOST_ROWS, _MOST_COST, _MOST_CONNECTIONS = 250, 1000, 5
_TERM = re.compile(r"(\w+):(>=|<=|>|<)?'?([^'\s]+)'?")
_FIELDS = {"updated_at": "updatedAt", "created_at": "createdAt", "action": "action"}
_FIELDS |= {"subject_type": "subjectType"}


class GraphQLServer:
    """Answers the queries of one shop. `root` has the fields of the query root as functions."""

    def __init__(self, root: Mapping[str, Callable[..., Any]], rate: float) -> None:
        self._root, self._rate = root, rate
        self._size = self._available = 2000.0
        self._since = time.monotonic()
        self.refused: Counter[str] = Counter()
        """Refused queries, by the code of their error."""

    def answer(self, seen: Seen) -> Answer:
        """Return the answer to a request."""
        body = json.loads(seen.body)
        try:
            document = parse(body["query"])
            errors = validate(SCHEMA, document)
            if errors:
                raise errors[0]
            operation = get_operation_ast(document, body.get("operationName"))
            if operation is None:
                raise GraphQLError("No operation of this name, or several")
            cost = self._cost_of(operation, body.get("variables") or {})
        except GraphQLError as error:
            return self._refused("INVALID", error.message)
        if cost > _MOST_COST:
            return self._refused("MAX_COST_EXCEEDED", f"Query cost is {cost}")
        if cost > self._refilled():
            return self._refused("THROTTLED", "Throttled", self._costs(cost, None))
        result = cast(
            "ExecutionResult",
            execute(
                SCHEMA,
                document,
                self._root,
                variable_values=body.get("variables"),
                operation_name=body.get("operationName"),
                field_resolver=_resolve,
                type_resolver=_type_of,
            ),
        )
        if result.errors:
            return self._refused("INVALID", result.errors[0].message)
        actual = _objects_in(result.data)
        self._available -= actual
        return Answer({"data": result.data, "extensions": self._costs(cost, actual)})

    def lines(self, query: str) -> tuple[bytes, str]:
        """Return the file of a bulk operation, one object in a line, or what is wrong with its query.

        Children have a line of their own with the id of their parent, after it.
        """
        document = parse(query)
        errors = validate(SCHEMA, document)
        connections = query.count("edges")
        if errors or not 0 < connections <= _MOST_CONNECTIONS:
            return b"", errors[0].message if errors else "A bulk query has one to five connections"
        result = execute(
            SCHEMA, document, self._root, field_resolver=_resolve, type_resolver=_type_of
        )
        assert isinstance(result, ExecutionResult)
        assert not result.errors, result.errors
        flat = [json.dumps(one) for one in _flat(result.data or {}, None)]
        return "".join(f"{line}\n" for line in flat).encode(), ""

    def _refilled(self) -> float:
        now = time.monotonic()
        self._available = min(self._size, self._available + (now - self._since) * self._rate)
        self._since = now
        return self._available

    def _costs(self, requested: int, actual: int | None) -> Record:
        status = {
            "maximumAvailable": self._size,
            "currentlyAvailable": int(self._available),
            "restoreRate": self._rate,
        }
        costs = {"requestedQueryCost": requested, "actualQueryCost": actual}
        return {"cost": {**costs, "throttleStatus": status}}

    def _refused(self, code: str, message: str, extensions: Record | None = None) -> Answer:
        self.refused[code] += 1
        error = {"message": message, "extensions": {"code": code}}
        return Answer({"errors": [error], **({"extensions": extensions} if extensions else {})})

    def _cost_of(self, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> int:
        if operation.operation.value == "mutation":
            return 10
        assert SCHEMA.query_type is not None
        return _cost(operation.selection_set, SCHEMA.query_type, variables)


def _cost(selected: SelectionSetNode, parent: Any, variables: Mapping[str, Any]) -> int:
    """Return the most that a selection can cost: objects 1, connections as many as they may have."""
    plain, alternatives = 0, [0]
    for node in selected.selections:
        if isinstance(node, InlineFragmentNode):
            assert node.type_condition is not None
            kind = SCHEMA.type_map[node.type_condition.name.value]
            cost = _cost(node.selection_set, kind, variables)
            if is_abstract_type(parent):
                alternatives.append(cost)
            else:
                plain += cost
        elif isinstance(node, FieldNode) and not node.name.value.startswith("__"):
            plain += _field_cost(node, parent, variables)
    return plain + max(alternatives)


def _field_cost(node: FieldNode, parent: Any, variables: Mapping[str, Any]) -> int:
    definition = parent.fields[node.name.value]
    kind = get_named_type(definition.type)
    if is_leaf_type(kind) or kind.name == "PageInfo":
        return 0
    assert node.selection_set is not None
    if not kind.name.endswith("Connection"):
        # the rows of a connection are counted there
        own = 0 if node.name.value == "nodes" else 1
        return own + _cost(node.selection_set, kind, variables)
    first = get_argument_values(definition, node, dict(variables)).get("first")
    if not isinstance(first, int) or not 0 < first <= _MOST_ROWS:
        raise GraphQLError(f"`first` of {node.name.value} is from 1 to {_MOST_ROWS}")
    return first * (1 + _cost(node.selection_set, kind, variables))


def _objects_in(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_objects_in, value.values()))
    return sum(map(_objects_in, value)) if isinstance(value, list) else 0


def _flat(value: Record, parent: str | None) -> Iterator[Record]:
    """Yield the object of a row without its connections, then the rows of these."""
    own = {k: v for k, v in value.items() if not (isinstance(v, dict) and "edges" in v)}
    if own:
        yield {**own, **({"__parentId": parent} if parent else {})}
    for name in value.keys() - own.keys():
        for edge in value[name]["edges"]:
            yield from _flat(edge["node"], own.get("id"))


def _type_of(value: Record, *_: Any) -> str:
    return str(value["__typename"])


def _resolve(source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
    value = source.get(info.field_name)
    if callable(value):
        return value(**arguments)
    if value is None and info.field_name not in source:
        return _placeholder(info)
    return value


def _placeholder(info: GraphQLResolveInfo) -> Any:
    """Return a value for a field that no test looks at; null where it may be."""
    kind = str(info.return_type)
    if not kind.endswith("!"):
        return None
    named = get_named_type(info.return_type)
    if kind.startswith("["):
        return []
    if isinstance(named, GraphQLObjectType):
        return {}
    if info.field_name == "legacyResourceId":
        return "1"
    return {"Boolean": False, "Int": 0, "DateTime": "2026-01-01T00:00:00Z", "Decimal": "0.0"}.get(
        named.name, "x"
    )


def connection(records: Callable[[], Iterable[Record]], page: int) -> Callable[..., Record]:
    """Return a field that answers with pages of at most `page` records, sorted by a field and the id."""

    def answer(
        *, first: int | None = None, after: str | None = None, query: str | None = None, **more: Any
    ) -> Record:
        field = _FIELDS.get(str(more.get("sortKey")).lower(), "id")
        found = sorted(_matching(records(), query), key=lambda one: _place(one, field))
        if after is not None:
            last = json.loads(b64decode(after))
            found = [one for one in found if _place(one, field) > last]
        # without `first` it is a bulk operation, which the API pages itself
        shown = found if first is None else found[: min(first, page)]
        end = b64encode(json.dumps(_place(shown[-1], field)).encode()).decode() if shown else None
        info = {"endCursor": end, "hasNextPage": len(shown) < len(found), "hasPreviousPage": False}
        return {"nodes": shown, "edges": [{"node": one} for one in shown], "pageInfo": info}

    return answer


def _place(record: Record, field: str) -> list[Any]:
    # a cursor is a place in the order, as Shopify's are: rows before it may come and go
    return [str(record[field]), str(record["id"])]


def _matching(records: Iterable[Record], query: str | None) -> Sequence[Record]:
    terms = [
        (_FIELDS[name], sign or "=", value)
        for name, sign, value in _TERM.findall(query or "")
        # as Shopify: an unknown name filters nothing
        if name in _FIELDS
    ]
    return [one for one in records if all(_holds(str(one.get(f)), sign, v) for f, sign, v in terms)]


def _holds(found: str, sign: str, value: str) -> bool:
    tests = {">=": found >= value, ">": found > value, "<=": found <= value, "<": found < value}
    return tests.get(sign, found.lower() == value.lower())
