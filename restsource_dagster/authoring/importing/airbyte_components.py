"""Read the components of an Airbyte manifest: references, inherited parameters, and expressions in texts.

https://docs.airbyte.com/connector-development/config-based/understanding-the-yaml-file/reference
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.authoring.importing.imported_api import EnvVariables, literal
from restsource_dagster.authoring.importing.source_pieces import Piece
from restsource_dagster.connector.validation.diagnostics import unescaped_step

__all__ = ["Component", "Expressions", "as_python", "condition_of", "field_steps", "jq_of"]

_MAX_CHAIN = 20
_MAX_EXPRESSION = 2_000
_MAX_NODES = 150


@dataclass(frozen=True)
class Component:
    """An object of a manifest with its references followed, and the parameters that it inherits.

    `pieces` has the object, and what it refers to; a field of the object counts more.
    """

    pieces: tuple[Piece, ...]
    root: Piece
    parameters: Mapping[str, Piece] = field(default_factory=dict)

    @classmethod
    def of(cls, piece: Piece, root: Piece, parameters: Mapping[str, Piece]) -> "Component":
        """Return the component at a piece."""
        pieces = tuple(_chain(piece, root))
        own: dict[str, Piece] = {}
        for each in reversed(pieces):
            own.update(each.get("$parameters").fields())
        return cls(pieces, root, {**parameters, **own})

    @property
    def type(self) -> str:
        """The component's type; its piece is noted as mapped by what the type becomes."""
        return self.get("type").text or ""

    @property
    def exists(self) -> bool:
        """False for a component that is not there."""
        return any(piece.exists for piece in self.pieces)

    @property
    def value(self) -> Any:
        """The value, if the component is a plain value behind a reference."""
        return self.pieces[-1].value

    def get(self, name: str) -> Piece:
        """Return a field: the object's own, else a parameter of this name."""
        for piece in self.pieces:
            if piece.get(name).exists:
                return _resolved(piece.get(name), self.root)
        if name in self.parameters and name != "type":
            return _resolved(self.parameters[name], self.root)
        return self.pieces[0].get(name)

    def part(self, name: str) -> "Component":
        """Return the component in a field."""
        piece = next((p.get(name) for p in self.pieces if p.get(name).exists), None)
        return Component.of(piece or self.pieces[0].get(name), self.root, self.parameters)

    def parts(self, name: str) -> Iterator["Component"]:
        """Yield the components of a list."""
        for piece in self.get(name).elements():
            yield Component.of(piece, self.root, self.parameters)

    def mapped(self, target: str) -> None:
        """Note that the component's type became `target`."""
        for piece in self.pieces:
            piece.get("type").mapped(target)

    def not_mapped(self, reason: str) -> None:
        """Note that the component has no counterpart."""
        for piece in self.pieces:
            piece.not_mapped(reason)


def _chain(piece: Piece, root: Piece) -> Iterator[Piece]:
    """Yield a piece and what it refers to, the piece first."""
    for _ in range(_MAX_CHAIN):
        target = _target_of(piece, root)
        if target is None or not isinstance(piece.value, dict) or len(piece.value) > 1:
            yield piece
        if target is None:
            return
        piece = target
    yield Piece(None, piece.path, piece.ledger)  # a circle


def _resolved(piece: Piece, root: Piece) -> Piece:
    """Return the value at the end of the references."""
    return list(_chain(piece, root))[-1]


_OLD_REFERENCE = re.compile(r"\*ref\(([\w.$ -]+)\)")


def _target_of(piece: Piece, root: Piece) -> Piece | None:
    text, sign = piece.get("$ref").text, piece.get("$ref")
    if text is None and piece.text and piece.text.startswith("*ref("):
        text, sign = piece.text, piece
    if text is None:
        return None
    old = _OLD_REFERENCE.fullmatch(text)
    steps = old[1].split(".") if old else text.removeprefix("#/").split("/")
    found = root
    for name in map(unescaped_step, steps):
        found = found.get(int(name) if isinstance(found.value, list) and name.isdigit() else name)
    if not found.exists:
        sign.not_mapped("leads nowhere")
        return None
    sign.mapped("what it refers to")
    return found


# ---- expressions

_EXPRESSION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


@dataclass
class Expressions:
    """Writes texts with Jinja expressions as the file has them.

    `names` has what the slices of a stream stand for, such as `{resources.parent.id}` by the name of the
    partition's field.
    """

    variables: EnvVariables
    config: Piece
    names: Mapping[str, str] = field(default_factory=dict)

    def with_names(self, names: Mapping[str, str]) -> "Expressions":
        """Return the same for a stream with these slices."""
        return Expressions(self.variables, self.config, names)

    def text(self, value: Any, parameters: Mapping[str, Piece], *, readings: int = 1) -> str | None:
        """Return a text as the file has it; None if an expression in it has no counterpart."""
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str):
            return None if value is None else str(value)
        if "{%" in value or "{#" in value or len(value) > 5 * _MAX_EXPRESSION:
            return None
        made, end = [], 0
        for found in _EXPRESSION.finditer(value):
            made.append(literal(value[end : found.start()], readings=readings))
            inner = self._expression(found[1], parameters)
            if inner is None:
                return None
            made.append(inner)
            end = found.end()
        return "".join([*made, literal(value[end:], readings=readings)])

    def _expression(self, text: str, parameters: Mapping[str, Piece]) -> str | None:
        node = as_python(text)
        return None if node is None else self._written(node, parameters)

    def _written(self, node: ast.expr, parameters: Mapping[str, Piece]) -> str | None:
        if isinstance(node, ast.Constant):
            return literal(str(node.value))
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            return self._with_default(node, parameters)
        known = field_steps(node)
        if known is None:
            return _relative(node)
        name, *rest = known
        if name == "config" and rest:
            return self._of_config(rest, _default_of(node))
        if name == "parameters" and len(rest) == 1:
            return self._of_parameter(parameters.get(str(rest[0])))
        is_slice = name in ("stream_slice", "stream_partition", "stream_interval", "partition")
        return self._of_slice([str(step) for step in rest]) if is_slice and rest else None

    def _of_parameter(self, piece: Piece | None) -> str | None:
        if piece is None or "parameters" in str(piece.value):  # one that inserts itself has no end
            return None
        piece.mapped("where it is inserted")
        return self.text(piece.value, {})

    def _with_default(self, node: ast.BoolOp, parameters: Mapping[str, Piece]) -> str | None:
        """Return `config['x'] or 'y'` as a reference with a default."""
        steps = field_steps(node.values[0])
        last = node.values[-1]
        if steps and steps[0] == "config" and len(node.values) == 2:
            if isinstance(last, ast.Constant):
                return self._of_config(steps[1:], str(last.value))
            if other := self._written(last, parameters):
                return self._of_config(steps[1:], other)
        return None

    def _of_slice(self, steps: list[str]) -> str | None:
        if steps[0] in ("parent_slice", "extra_fields"):
            return None
        return {
            "start_time": "{incremental.start_value}",
            "end_time": "{incremental.end_value}",
            **self.names,
        }.get(steps[-1])

    def _of_config(self, steps: list[str | int], default: str | None) -> str | None:
        names = [str(step) for step in steps]
        described = self._description(names)
        described.mapped("the variable of this name")
        suffix = "_".join(name for name in names if name != "credentials")
        reference = self.variables.reference(suffix)
        is_secret = described.get("airbyte_secret").value is True
        usual = described.get("default").value if default is None else default
        if isinstance(usual, bool):
            usual = str(usual).lower()
        if usual is None or is_secret or re.search(r"[{}\n]", str(usual)):
            return reference
        return f"{reference[:-1]}:-{usual}}}"

    def _description(self, names: list[str]) -> Piece:
        """Return what the manifest's specification says of a setting."""
        found = self.config
        for name in names:
            inner = found.get("properties", name)
            if not inner.exists:
                # of alternatives the first that has the setting
                choices = (each.get("properties", name) for each in found.get("oneOf").elements())
                inner = next((each for each in choices if each.exists), inner)
            found = inner
        return found


def as_python(text: str) -> ast.expr | None:
    """Return an expression of Jinja that is one of Python, too; None if it is none, or a long one."""
    if len(text) > _MAX_EXPRESSION:
        return None
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    # what follows reads it recursively
    return node if sum(1 for _ in ast.walk(node)) <= _MAX_NODES else None


def field_steps(node: ast.expr) -> list[str | int] | None:
    """Return the name and the fields that an expression reads: `a['b'].c.get('d')` is a, b, c, d."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        above = field_steps(node.value)
        return None if above is None else [*above, node.attr]
    if isinstance(node, ast.Subscript):
        above, index = field_steps(node.value), _index_of(node.slice)
        return None if above is None or index is None else [*above, index]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
    ):
        above = field_steps(node.func.value)
        key = node.args[0] if node.args else None
        if above is None or not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        return [*above, key.value]
    return None


def _index_of(node: ast.expr) -> str | int | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = node.operand
        if isinstance(inner, ast.Constant) and isinstance(inner.value, int):
            return -inner.value
    return None


def _default_of(node: ast.expr) -> str | None:
    """Return the default of `config.get('x', 'y')`."""
    if (
        isinstance(node, ast.Call)
        and len(node.args) == 2
        and isinstance(node.args[1], ast.Constant)
    ):
        given = node.args[1].value
        return None if given is None else str(given)
    return None


def _relative(node: ast.expr) -> str | None:
    """Return a time relative to now: `now_utc()`, `day_delta(-30, format='%Y')`, with `strftime`."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute) and node.func.attr == "strftime" and node.args:
        inner, pattern = node.func.value, node.args[0]
        name = _moment(inner)
        if name and isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
            return f"{{{name}:{pattern.value}}}"
        return None
    if isinstance(node.func, ast.Name) and node.func.id == "day_delta" and node.args:
        days = _index_of(node.args[0])
        formats = [str(k.value.value) for k in node.keywords if isinstance(k.value, ast.Constant)]
        if isinstance(days, int):
            sign = "-" if days < 0 else "+"
            return (
                f"{{now{sign}{abs(days)}d:{formats[0] if formats else '%Y-%m-%dT%H:%M:%S.%f%z'}}}"
            )
    name = _moment(node)
    return f"{{{name}}}" if name else None


def _moment(node: ast.expr) -> str | None:
    """Return `now`, `today` or `now-30d`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return {"now_utc": "now", "today_utc": "today"}.get(node.func.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Add):
        base, by = _moment(node.left), node.right
        if base and isinstance(by, ast.Call) and by.args and isinstance(by.args[0], ast.Constant):
            length = re.fullmatch(r"P(?:T?)(\d+)([YMWDHS])", str(by.args[0].value))
            if length:
                unit = {"M": "m" if "T" in str(by.args[0].value) else "mo"}.get(
                    length[2], length[2].lower()
                )
                return f"{base}{'-' if isinstance(node.op, ast.Sub) else '+'}{length[1]}{unit}"
    return None


# ---- jq

_COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


def jq_of(node: ast.expr, name: str = "record") -> str | None:
    """Return a jq program that computes an expression of a record; None if it has no counterpart."""
    maker: Callable[[Any, str], str | None] | None = _JQ.get(type(node))
    return maker(node, name) if maker else None


def _jq_field(node: ast.expr, name: str) -> str | None:
    steps = field_steps(node)
    if steps is None or steps[0] != name:
        return None
    return "." + "".join(f"[{json.dumps(step)}]" for step in steps[1:])


def _jq_constant(node: ast.Constant, _: str) -> str | None:
    is_plain = node.value is None or isinstance(node.value, str | int | float | bool)
    return json.dumps(node.value) if is_plain else None


def _jq_condition(node: ast.expr, name: str) -> str | None:
    """Return a condition as true or false. Jinja takes an empty text, a zero and nothing for false."""
    made = jq_of(node, name)
    if made is None or isinstance(node, ast.Compare | ast.BoolOp) or _is_not(node):
        return made
    return f'({made} | IN(null, false, "", 0) | not)'


def _is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _jq_bool(node: ast.BoolOp, name: str) -> str | None:
    parts = [_jq_condition(each, name) for each in node.values]
    if any(part is None for part in parts):
        return None
    word = " and " if isinstance(node.op, ast.And) else " or "
    return f"({word.join(str(part) for part in parts)})"


def _jq_not(node: ast.UnaryOp, name: str) -> str | None:
    inner = _jq_condition(node.operand, name) if isinstance(node.op, ast.Not) else None
    return f"({inner} | not)" if inner else None


def _jq_compare(node: ast.Compare, name: str) -> str | None:
    if len(node.ops) != 1:
        return None
    left, right, how = jq_of(node.left, name), node.comparators[0], node.ops[0]
    if left is None:
        return None
    if isinstance(how, ast.In | ast.NotIn):
        items = right.elts if isinstance(right, ast.List | ast.Tuple) else None
        made = [jq_of(each, name) for each in items or ()]
        if not made or any(each is None for each in made):
            return None
        found = f"({left} | IN({', '.join(str(each) for each in made)}))"
        return found if isinstance(how, ast.In) else f"({found} | not)"
    other, sign = jq_of(right, name), _COMPARISONS.get(type(how))
    return f"({left} {sign} {other})" if other and sign else None


_JQ: Mapping[type[ast.expr], Callable[[Any, str], str | None]] = {
    ast.Name: _jq_field,
    ast.Attribute: _jq_field,
    ast.Subscript: _jq_field,
    ast.Call: _jq_field,
    ast.Constant: _jq_constant,
    ast.BoolOp: _jq_bool,
    ast.UnaryOp: _jq_not,
    ast.Compare: _jq_compare,
}


def condition_of(node: ast.expr, name: str = "record") -> str | None:
    """Return a jq program that is true where an expression is true for Jinja."""
    return _jq_condition(node, name)
