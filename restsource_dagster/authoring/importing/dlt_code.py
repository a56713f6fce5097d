"""Read dlt's `rest_api_source({...})` calls and `RESTAPIConfig` literals in Python code, without running it.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.authoring.importing.connector_draft import IMPORT_SCHEDULE, ConnectorDraft
from restsource_dagster.authoring.importing.imported_api import (
    EnvVariables,
    connector_name,
    looks_like_secret,
)
from restsource_dagster.authoring.importing.source_files import SourceError, SourceFile
from restsource_dagster.authoring.importing.source_pieces import Fate, Ledger, leaves_of
from restsource_dagster.connector.validation.diagnostics import FieldPath

__all__ = ["is_dlt_code", "read_dlt"]

_MAX_CODE = 5 * 1024 * 1024
_MAX_DEPTH = 60
_MAX_TEXT = 100_000
_CALLS = ("rest_api_source", "rest_api_resources")
_SIGN = re.compile(r"\b(rest_api_source|rest_api_resources|RESTAPIConfig)\b")
_PARTS = ("client", "resource_defaults", "resources")


def is_dlt_code(text: str) -> bool:
    """True if a text names what such a source is made by."""
    return _SIGN.search(text) is not None


def read_dlt(files: Sequence[SourceFile], name: str | None) -> ConnectorDraft:
    """Return the connector of the first configuration in Python code. Raises `SourceError`.

    Paths in the report are those of the configuration: `/resources/0/endpoint/params/since`.
    """
    tree = _parsed(files[0])
    found = list(_configurations(tree))
    if not found:
        raise SourceError("no call of rest_api_source, and no RESTAPIConfig")
    config, names = found[0], _assignments(tree)
    reader = _LiteralReader(names)
    document = reader.read(config.node, ())
    if not isinstance(document, dict) or not isinstance(document.get("client"), dict):
        raise SourceError("the configuration is no dictionary with `client` that can be read")
    given = name or config.name or files[0].name.partition(".")[0]
    variables = EnvVariables(connector_name(given, "api"))
    maker = _FileMaker(document, reader, variables, Ledger())
    # a call has its configuration in a name, perhaps, and that name has the annotation
    imported = _named_value(config.node, names)
    others = {id(node): node for each in found if (node := _named_value(each.node, names))}
    for node in others.values():
        if node is not imported:
            at = (f"configuration in line {node.lineno}",)
            maker.ledger.add(Fate(at, "not_mapped", reason="import one at a time"))
    return ConnectorDraft(variables.prefix, maker.value(), variables, maker.ledger)


def _parsed(file: SourceFile) -> ast.Module:
    if len(file.text) > _MAX_CODE:
        raise SourceError("more than 5 MB of Python code")
    try:
        return ast.parse(file.text)
    except SyntaxError as error:
        raise SourceError(f"line {error.lineno} is no Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise SourceError("the Python code can't be read: it is nested too deeply") from None


@dataclass(frozen=True)
class _Configuration:
    node: ast.expr
    name: str | None = None


def _configurations(tree: ast.Module) -> Iterator[_Configuration]:
    """Yield the configurations: those of calls first, then those with the annotation."""
    nodes = list(ast.walk(tree))
    functions = {
        id(inner): node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
    }
    for node in nodes:
        if isinstance(node, ast.Call) and _last_name(node.func) in _CALLS:
            keywords = {each.arg: each.value for each in node.keywords}
            config = node.args[0] if node.args else keywords.get("config")
            named = keywords.get("name")
            given = named.value if isinstance(named, ast.Constant) else functions.get(id(node))
            if config is not None:
                yield _Configuration(config, given if isinstance(given, str) else None)
    for node in nodes:
        if (
            isinstance(node, ast.AnnAssign)
            and node.value is not None
            and _last_name(node.annotation) == "RESTAPIConfig"
        ):
            yield _Configuration(node.value, functions.get(id(node)))


def _named_value(node: ast.expr, names: Mapping[str, ast.expr]) -> ast.expr:
    return names.get(node.id, node) if isinstance(node, ast.Name) else node


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _assignments(tree: ast.Module) -> dict[str, ast.expr]:
    """Return the values of names that are assigned once, and defaults of arguments."""
    seen: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    seen.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            seen.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.FunctionDef):
            given = node.args
            named = given.args[len(given.args) - len(given.defaults) :] if given.defaults else []
            for argument, default in (
                *zip(named, given.defaults, strict=True),
                *zip(given.kwonlyargs, given.kw_defaults, strict=True),
            ):
                if default is not None:
                    seen.setdefault(argument.arg, []).append(default)
    # which of several values holds, only running the code would tell
    return {name: values[0] for name, values in seen.items() if len(values) == 1}


# ---- literals


@dataclass(frozen=True)
class _Unread:
    """A part of the configuration that only running the code would tell."""

    reason: str


@dataclass(frozen=True)
class _Setting:
    """A secret or a setting that dlt fills in; `name` is the argument that has it."""

    name: str


_CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "JSONLinkPaginator": ("json_link", ("next_url_path",)),
    "JSONResponsePaginator": ("json_link", ("next_url_path",)),
    "HeaderLinkPaginator": ("header_link", ("links_next_key",)),
    "HeaderCursorPaginator": ("header_cursor", ("cursor_key", "cursor_param")),
    "JSONResponseCursorPaginator": ("cursor", ("cursor_path", "cursor_param")),
    "OffsetPaginator": ("offset", ("limit", "offset", "offset_param", "limit_param", "total_path")),
    "PageNumberPaginator": ("page_number", ("base_page", "page", "page_param", "total_path")),
    "SinglePagePaginator": ("single_page", ()),
    "BearerTokenAuth": ("bearer", ("token",)),
    "APIKeyAuth": ("api_key", ("name", "api_key", "location")),
    "HttpBasicAuth": ("http_basic", ("username", "password")),
    "OAuth2ClientCredentials": (
        "oauth2_client_credentials",
        ("access_token_url", "client_id", "client_secret", "access_token_request_data"),
    ),
}
"""dlt's classes with a type in the file, and the names of their arguments in order."""
_INCREMENTAL_ARGUMENTS = ("cursor_path", "initial_value", "last_value_func", "primary_key")


@dataclass
class _LiteralReader:
    """Reads values of code: literals, names that are assigned once, and dlt's own calls."""

    names: Mapping[str, ast.expr]
    _open: list[str] = field(default_factory=list)
    _count: int = 0

    def read(self, node: ast.expr, at: FieldPath) -> Any:
        """Return the value of an expression, with `_Unread` where the code would have to run."""
        self._count += 1
        if len(at) + len(self._open) > _MAX_DEPTH or self._count > _MAX_TEXT:
            return _Unread("nested too deeply")
        method = getattr(self, f"_read_{type(node).__name__.lower()}", None)
        return method(node, at) if method else _Unread(_word_for(node))

    def _read_constant(self, node: ast.Constant, _: FieldPath) -> Any:
        if isinstance(node.value, str):
            # in a file it would be a reference
            return node.value.replace("${", "$${")
        is_plain = node.value is None or isinstance(node.value, int | float)
        return node.value if is_plain else _Unread("a value that JSON does not have")

    def _read_list(self, node: ast.List | ast.Tuple, at: FieldPath) -> Any:
        return [self.read(each, (*at, number)) for number, each in enumerate(node.elts)]

    _read_tuple = _read_list

    def _read_dict(self, node: ast.Dict, at: FieldPath) -> Any:
        made: dict[str, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self._merge(made, self.read(value, at), at)
                continue
            name = self.read(key, at)
            if isinstance(name, str):
                made[name] = self.read(value, (*at, name))
            else:
                made[f"a key in line {key.lineno}"] = _Unread("a key that is no text")
        return made

    @staticmethod
    def _merge(made: dict[str, Any], other: Any, _: FieldPath) -> None:
        if isinstance(other, dict):
            made.update(other)
        else:
            reason = other.reason if isinstance(other, _Unread) else "no dictionary"
            made[f"** {len(made)}"] = _Unread(reason)

    def _read_name(self, node: ast.Name, at: FieldPath) -> Any:
        # dlt's `last_value_func` takes Python's own functions, and a file their names
        if node.id in ("max", "min") and node.id not in self.names:
            return node.id
        # a name that is its own value leads in a circle
        if node.id not in self.names or node.id in self._open:
            return _Unread(f"the name `{node.id}`, which has no value of its own")
        value = self.names[node.id]
        if _dotted(value) in ("dlt.secrets.value", "dlt.config.value"):
            return _Setting(node.id)
        self._open.append(node.id)
        try:
            return self.read(value, at)
        finally:
            self._open.pop()

    def _read_joinedstr(self, node: ast.JoinedStr, at: FieldPath) -> Any:
        made: list[str] = []
        for part in node.values:
            has_format = isinstance(part, ast.FormattedValue) and part.format_spec is not None
            value = self.read(part.value if isinstance(part, ast.FormattedValue) else part, at)
            if isinstance(value, _Setting):
                value = f"${{{value.name}}}"
            if not isinstance(value, str | int | float) or has_format:
                return _Unread("a text that is put together when the code runs")
            made.append(str(value))
        return "".join(made)

    def _read_binop(self, node: ast.BinOp, at: FieldPath) -> Any:
        left, right = self.read(node.left, at), self.read(node.right, at)
        if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return left + right if len(left) + len(right) < _MAX_TEXT else _Unread("a long text")
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return [*left, *right] if len(left) + len(right) < 10_000 else _Unread("a long list")
        if isinstance(node.op, ast.BitOr) and isinstance(left, dict) and isinstance(right, dict):
            return {**left, **right}
        return _Unread("a value that is computed when the code runs")

    def _read_unaryop(self, node: ast.UnaryOp, at: FieldPath) -> Any:
        value = self.read(node.operand, at)
        is_number = isinstance(value, int | float) and isinstance(node.op, ast.USub)
        return -value if is_number else _Unread("a value that is computed when the code runs")

    def _read_attribute(self, node: ast.Attribute, _: FieldPath) -> Any:
        if _dotted(node) in ("dlt.secrets.value", "dlt.config.value"):
            return _Setting("")
        return _Unread(f"`{_dotted(node)}`, which is known when the code runs")

    def _read_subscript(self, node: ast.Subscript, at: FieldPath) -> Any:
        holder, key = _dotted(node.value), self.read(node.slice, at)
        return _looked_up(holder, key, None) or _Unread(f"a value of `{holder or 'an object'}`")

    def _read_call(self, node: ast.Call, at: FieldPath) -> Any:
        name = _dotted(node.func)
        given = [self.read(each, at) for each in node.args]
        keywords = {
            each.arg: self.read(each.value, (*at, each.arg)) for each in node.keywords if each.arg
        }
        holder, _, method = name.rpartition(".")
        if method == "get" or name in ("os.getenv", "getenv"):
            default = given[1] if len(given) > 1 else None
            found = _looked_up(holder if method == "get" else "os.environ", given[:1], default)
            if found:
                return found
        if method in _CLASSES:
            kind, names = _CLASSES[method]
            return {"type": kind, **dict(zip(names, given, strict=False)), **keywords}
        if method == "incremental" and holder in ("dlt.sources", "sources", ""):
            made = {**dict(zip(_INCREMENTAL_ARGUMENTS, given, strict=False)), **keywords}
            return {"type": "incremental", **made} if "params" in at[-2:-1] else made
        if name == "dict" and not given:
            return keywords
        return _Unread(f"a call of `{name or 'a function'}`, which is not executed")


def _looked_up(holder: str, key: Any, default: Any) -> str | None:
    """Return the reference for a value of dlt's settings or of the environment."""
    if isinstance(key, list):
        key = key[0] if key else None
    if not isinstance(key, str) or not re.fullmatch(r"[\w.-]+", key):
        return None
    if holder in ("dlt.secrets", "dlt.config", "secrets", "config"):
        return f"${{dlt:{key}}}"
    if holder in ("os.environ", "environ") and key.isidentifier():
        usual = isinstance(default, str) and not re.search("[{}]", default)
        return f"${{{key}:-{default}}}" if usual else f"${{{key}}}"
    return None


def _dotted(node: ast.expr) -> str:
    """Return `a.b.c` of an expression of names; "" of any other."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _word_for(node: ast.expr) -> str:
    if isinstance(node, ast.Lambda):
        return "a Python function: write a jq program in `processing_steps`"
    return "an expression that is known when the code runs"


# ---- the file


def _unreadable(resource: Any, taken: set[str]) -> str | None:
    """Return why a resource can't be imported; None if it can."""
    if not isinstance(resource, dict) or not isinstance(resource.get("name"), str):
        return "no resource with a name that can be read"
    if resource["name"] in taken:
        return "a second resource of this name"
    endpoint = resource.get("endpoint")
    path = endpoint.get("path") if isinstance(endpoint, dict) else endpoint
    if isinstance(path, _Unread):
        return f"its path is not known: {path.reason}"
    return None


@dataclass
class _FileMaker:
    """Makes the file of a configuration, which has the file's own form."""

    document: Mapping[str, Any]
    reader: _LiteralReader
    variables: EnvVariables
    ledger: Ledger

    def value(self) -> dict[str, Any]:
        """Return the file, and note what became of each part of the configuration."""
        made: dict[str, Any] = {
            "$schema": "../schema/connector.schema.json",
            "name": self.variables.prefix,
            "schedule": dict(IMPORT_SCHEDULE),
        }
        for name, part in self.document.items():
            if name in _PARTS:
                made[name] = {} if name == "resources" else self._clean(part, (name,))
            else:
                self._note_all(part, (name,), "has no counterpart in a connector file")
        given = self.document.get("resources")
        if not isinstance(given, list):
            raise SourceError("the configuration has no list of resources that can be read")
        made["resources"] = list(self._resources(given))
        if not made["resources"]:
            raise SourceError("no resource of the configuration can be read")
        return made

    def _resources(self, given: list[Any]) -> Iterator[dict[str, Any]]:
        """Yield the resources that can be read: those with a name, and with the path that the code gives."""
        taken: set[str] = set()
        for number, resource in enumerate(given):
            at = ("resources", number)
            named = {"name": resource} if isinstance(resource, str) else resource
            if isinstance(named, _Unread):
                self._note_all(resource, at, named.reason)
                continue
            reason = _unreadable(named, taken)
            if reason is not None:
                self._note_all(resource, at, reason)
                continue
            taken.add(named["name"])
            if isinstance(resource, str):
                self.ledger.add(Fate(at, "mapped", f"resources.{resource}"))
            yield named if isinstance(resource, str) else self._clean(resource, at)

    def _clean(self, value: Any, at: FieldPath) -> Any:
        """Return a value without what was not read, and with its secrets as references."""
        if isinstance(value, _Unread):
            self.ledger.add(Fate(at, "not_mapped", reason=value.reason))
            return None
        if isinstance(value, dict):
            cleaned = {key: self._clean(item, (*at, key)) for key, item in value.items()}
            # a list of which nothing is left is left out
            return {
                key: item
                for key, item in cleaned.items()
                if not isinstance(value[key], _Unread) and (item != [] or value[key] == [])
            }
        if isinstance(value, list):
            cleaned_items = [self._clean(item, (*at, n)) for n, item in enumerate(value)]
            kept = zip(cleaned_items, value, strict=True)
            # a step whose function is left out would do nothing
            return [
                item
                for item, old in kept
                if not isinstance(old, _Unread) and (item != {} or old == {})
            ]
        self.ledger.add(Fate(at, "mapped", self._target(at)))
        if isinstance(value, _Setting):
            return self.variables.reference(value.name or str(at[-1]))
        return self._without_secret(value, at)

    def _without_secret(self, value: Any, at: FieldPath) -> Any:
        if not isinstance(value, str) or "${" in value:
            self._note_references(value)
            return value
        names = [str(step) for step in at if isinstance(step, str)]
        in_auth = "auth" in names[:-1] and names[-1] not in ("type", "name", "location")
        is_url = value.startswith(("http://", "https://"))
        if (in_auth and not is_url) or ("headers" in names and looks_like_secret(names[-1], value)):
            return self.variables.reference(names[-1], value)
        return value

    def _note_references(self, value: Any) -> None:
        for name in re.findall(r"\$\{([A-Za-z_]\w*)", value if isinstance(value, str) else ""):
            self.variables.note(name)

    def _target(self, at: FieldPath) -> str:
        """Return the place in the file: resources by their names."""
        steps = list(at)
        if steps[0] == "resources" and len(steps) > 1 and isinstance(steps[1], int):
            resource = self.document["resources"][steps[1]]
            name = resource.get("name") if isinstance(resource, dict) else resource
            steps[1] = name if isinstance(name, str) else str(steps[1])
        return ".".join(map(str, steps))

    def _note_all(self, value: Any, at: FieldPath, reason: str) -> None:
        count = sum(1 for _ in leaves_of(value))
        self.ledger.add(Fate(at, "not_mapped", reason=reason, leaves=max(count, 1)))
