"""Read OpenAPI 3.0 and 3.1 and Swagger 2 documents: each GET that answers with a list is a resource.

https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from restsource_dagster.authoring.importing.connector_draft import ConnectorDraft, assemble
from restsource_dagster.authoring.importing.imported_api import (
    EnvVariables,
    ImportedApi,
    ImportedEndpoint,
    connector_name,
    is_stand_in,
    literal,
    looks_like_secret,
    name_of_host,
    resource_name,
    unique_name,
)
from restsource_dagster.authoring.importing.openapi_cursors import guess_cursor
from restsource_dagster.authoring.importing.openapi_guesses import (
    DocumentedParam,
    guess_key,
    guess_paginator,
    singular,
)
from restsource_dagster.authoring.importing.openapi_logins import OpenApiLogins
from restsource_dagster.authoring.importing.openapi_schemas import (
    RecordList,
    References,
    find_record_list,
)
from restsource_dagster.authoring.importing.param_names import CURSOR_PARAMS, is_named, normal_name
from restsource_dagster.authoring.importing.source_files import (
    SourceError,
    SourceFile,
    parse_data,
)
from restsource_dagster.authoring.importing.source_pieces import Ledger, Piece, reasons_by_prefix

__all__ = ["read_openapi"]

_MAX_TITLE_WORDS = 3
_WRITES = ("post", "put", "patch", "delete", "head", "options", "trace")
_CHANGES = "changes data, or may; only GET is read"
_reason_of = reasons_by_prefix(
    {
        **{("paths", "*", method): _CHANGES for method in _WRITES},
        ("paths", "*", "get", "responses"): "an answer: what is loaded of it comes from the rows",
        ("paths", "*", "get", "parameters"): "an optional param: not sent",
        ("components", "schemas"): "columns and their types come from the rows",
        ("definitions",): "columns and their types come from the rows",
        ("components", "parameters"): "an optional param: not sent",
        ("parameters",): "an optional param: not sent",
        ("components", "responses"): "an answer: what is loaded of it comes from the rows",
        ("servers", "*", "variables"): "a part of the address; its usual value is taken",
        ("servers",): "another server; the first one is taken",
        ("webhooks",): "calls of the API to others: nothing that a run asks for",
    },
    "describes, and changes no request",
)


def read_openapi(files: Sequence[SourceFile], name: str | None) -> ConnectorDraft:
    """Return the connector of a document. Other files are those that it refers to. Raises `SourceError`."""
    values = {f"file {file.name}": parse_data(file) for file in files[1:]}
    document = parse_data(files[0])
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise SourceError("no OpenAPI document: it has an object `paths`")
    root = Piece({**document, **values}, (), Ledger())
    reader = _DocumentReader(
        root, References(root, frozenset(file.name for file in files[1:])), name
    )
    draft = assemble(reader.api())
    draft.ledger.add_unread(root.value, _reason_of)
    return draft


@dataclass(frozen=True)
class _Operation:
    """A GET that answers with a list."""

    path: str
    piece: Piece
    params: tuple[DocumentedParam, ...]
    found: RecordList
    headers: Piece

    @property
    def segments(self) -> list[str]:
        return [segment for segment in self.path.split("/") if segment]

    @property
    def words(self) -> list[str]:
        """The words of the path without its params."""
        return _words_of(self.path)


def _words_of(path: str) -> list[str]:
    words = [resource_name(each) for each in path.split("/") if each and "{" not in each]
    return [re.sub(r"^(list|get)_|_(list|all)$", "", word) or word for word in words]


@dataclass
class _DocumentReader:
    root: Piece
    references: References
    wanted_name: str | None
    _needed_fields: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        title = self.root.get("info", "title")
        host = urlsplit(_first_server(self.root)).netloc
        # a long title is a sentence, and the name is in each variable
        short = title.text if len((title.text or "").split()) <= _MAX_TITLE_WORDS else None
        self.name = connector_name(self.wanted_name, short, name_of_host(host), title.text)
        title.mapped("name")
        self.variables = EnvVariables(self.name)
        self.logins = OpenApiLogins(self.root, self.references, self.variables)

    def api(self) -> ImportedApi:
        # they were read from the shortest path on, and stand in the file as in the document
        order = {path: place for place, (path, _) in enumerate(self.root.get("paths").fields())}
        operations = sorted(self._operations(), key=lambda each: order[each.path])
        if not operations:
            raise SourceError("no GET in the document answers with a list of records")
        auth = self.logins.of_document([each.piece for each in operations])
        base_url = self._base_url(operations)
        names = _names_of(operations)
        by_path = {_plain_path(each.path): each for each in operations}
        endpoints = []
        for operation in operations:
            made = self._endpoint(operation, names, by_path, has_login=auth is not None)
            own = self.logins.of_operation(operation.piece)
            endpoints.append(replace(made, auth=own if own and own != auth else None))
        complete = [
            replace(each, include_from_parent=tuple(self._needed_fields.get(each.name, ())))
            for each in endpoints
        ]
        return ImportedApi(
            name=self.name,
            base_url=base_url,
            endpoints=tuple(complete),
            variables=self.variables,
            ledger=self.root.ledger,
            description=self._description(),
            auth=auth,
        )

    def _description(self) -> str | None:
        title = self.root.get("info", "title").text
        return literal(title[:200], readings=0) if title else None

    # ---- servers

    def _base_url(self, operations: Sequence[_Operation]) -> str:
        holders = [self.root]
        if not self.root.get("servers", 0).exists:
            # some documents name the server at each path
            holders = [self.root.get("paths", operations[0].piece.path[1]), operations[0].piece]
        for holder in holders:
            server = holder.get("servers", 0)
            if server.exists:
                return self._of_server(server)
        return self._of_host()

    def _of_server(self, server: Piece) -> str:
        server.get("url").mapped("client.base_url")
        url = server.get("url").text or ""
        for name, variable in server.get("variables").fields():
            default = variable.get("default")
            given = "" if default.value is None else str(default.value)
            default.mapped("client.base_url")
            # a default with braces would end the reference
            fits = given and not re.search("[{}]", given)
            reference = self.variables.reference(name)
            url = url.replace(f"{{{name}}}", f"{reference[:-1]}:-{given}}}" if fits else reference)
        # a variable that the document does not describe
        url = re.sub(
            r"(?<!\$)\{([^{}]*)\}", lambda m: self.variables.reference(m[1] or "server"), url
        )
        if not re.match(r"https?://|\$\{", url):
            host = self.variables.reference("host")
            server.get("url").guessed(
                "client.base_url", "an address without a host: write it into .env"
            )
            url = f"https://{host}/{url.removeprefix('//').lstrip('/')}"
        return url.rstrip("/")

    def _of_host(self) -> str:
        """Return the address of Swagger 2; a variable if there is no host at all."""
        host, base = self.root.get("host"), self.root.get("basePath")
        schemes = [piece.text for piece in self.root.get("schemes").elements()]
        scheme = "http" if schemes and "https" not in schemes else "https"
        self.root.get("schemes").mapped("client.base_url")
        host.mapped("client.base_url")
        base.mapped("client.base_url")
        shown = literal(host.text, readings=0) if host.text else self.variables.reference("host")
        path = (base.text or "").strip("/")
        return f"{scheme}://{shown}/{path}".rstrip("/")

    # ---- operations

    def _operations(self) -> Iterator[_Operation]:
        lists = set()
        # the list above a path is known before the path
        for path, given in sorted(self.root.get("paths").fields(), key=_depth):
            item = self.references.follow(given)
            operation = item.get("get")
            if not operation.is_object:
                continue
            if path.rstrip("/").endswith("}") and _plain_path(path).rpartition("/")[0] in lists:
                operation.not_mapped("one record of the list above it in the path")
                continue
            found, headers = self._answer(path, operation)
            if found is not None:
                lists.add(_plain_path(path))
                params = tuple(self._params(item, operation))
                yield _Operation(path, operation, params, found, headers)

    def _answer(self, path: str, operation: Piece) -> tuple[RecordList | None, Piece]:
        """Return the list in the answer of an operation, and the headers; note why there is none."""
        responses = operation.get("responses")
        answer = self.references.follow(responses.first("200", "201", "2XX", "2xx", "default"))
        schema = answer.get("schema")
        content = answer.get("content")
        if content.exists:
            media = next((m for m, _ in content.fields() if "json" in m), None) or next(
                (m for m, _ in content.fields() if m in ("*/*", "application/*")), None
            )
            schema = content.get(media, "schema") if media else Piece(None, content.path)
        last = path.rstrip("/").rsplit("/", 1)[-1]
        words = [*reversed(_words_of(path))][:1]
        words = [*words, *(singular(word) for word in words)]
        found = find_record_list(schema, self.references, words) if schema.exists else None
        if (
            found is not None
            and last.startswith("{")
            and found.selector != "$"
            and not found.is_sure
        ):
            found = None
        if found is None:
            operation.not_mapped(
                "answers with no JSON that the document describes"
                if not schema.exists
                else "answers with one record, or with no list of records"
            )
        return found, answer.get("headers")

    def _params(self, item: Piece, operation: Piece) -> Iterator[DocumentedParam]:
        """Yield the params of an operation; its own in place of those of its path."""
        seen: set[tuple[str, str]] = set()
        for given in (*operation.get("parameters").elements(), *item.get("parameters").elements()):
            piece = self.references.follow(given)
            name, place = piece.get("name").text, piece.get("in").text
            if name is None or place is None or (name, place) in seen:
                continue
            seen.add((name, place))
            schema = self.references.follow(piece.get("schema"))
            required = piece.get("required").value is True
            yield DocumentedParam(name, place, required, piece, schema if schema.exists else piece)

    # ---- one endpoint

    def _endpoint(
        self,
        operation: _Operation,
        names: Mapping[str, str],
        by_path: Mapping[str, _Operation],
        *,
        has_login: bool,
    ) -> ImportedEndpoint:
        name = names[operation.path]
        resource = f"resources.{name}"
        target = f"{resource}.endpoint"
        found = operation.found
        sign = found.piece.first("type", "$ref", "items")
        if found.is_sure:
            sign.mapped(f"{target}.data_selector")
        else:
            sign.guessed(f"{target}.data_selector", found.evidence)
        params: dict[str, Any] = {}
        paginator, claimed = guess_paginator(
            operation.params, found, self.references, operation.headers, target, params
        )
        key = self._key(operation, resource, by_path)
        free = [each for each in operation.params if each.name not in claimed]
        guess = guess_cursor(free, found, self.references, target, key)
        sent_by = guess.param if guess else None
        rest = [each for each in free if each is not sent_by and literal(each.name) not in params]
        headers = self._needed(rest, "header", target, has_login=has_login)
        cursor = guess.cursor if guess and guess.doubt is None else None
        if cursor and sent_by and sent_by.place == "header":
            headers[sent_by.name] = "{incremental.start_value}"
        params.update(self._needed(rest, "query", target, has_login=has_login))
        operation.piece.get("operationId").mapped(resource)
        return ImportedEndpoint(
            name=name,
            path=self._path(operation, names, by_path),
            params=params,
            headers=headers,
            paginator=paginator,
            data_selector=found.selector,
            incremental=cursor,
            primary_key=key,
        )

    def _key(
        self, operation: _Operation, resource: str, by_path: Mapping[str, _Operation]
    ) -> str | None:
        is_below = self._parent_of(operation, by_path) is not None
        record, words = operation.found.record, operation.words[-1:]
        return guess_key(record, self.references, words, resource, is_below=is_below)

    def _needed(
        self, params: Sequence[DocumentedParam], place: str, target: str, *, has_login: bool
    ) -> dict[str, Any]:
        """Return the values of the params that the API requires."""
        needed: dict[str, Any] = {}
        for param in params:
            if param.place != place:
                continue
            if param.name.lower() in ("accept", "content-type", "authorization"):
                param.piece.not_mapped("sent anyway")
            elif is_named(param.name, CURSOR_PARAMS):
                param.piece.not_mapped(
                    "the place of one page in a list: a run starts at the first page"
                )
            elif looks_like_secret(param.name, "x") and has_login:
                param.piece.not_mapped("the login stands for it")
            elif param.is_required:
                where = f"{target}.{'params' if place == 'query' else 'headers'}.{param.name}"
                needed[literal(param.name)] = self._value_of(param, where)
            else:
                param.piece.not_mapped("an optional param: not sent")
        return needed

    def _value_of(self, param: DocumentedParam, target: str) -> Any:
        """Return a value for a required param: its usual one, an example, or a variable."""
        # an example is the id of a record of theirs, or a search for nothing of ours
        for where in ("default", "const"):
            given = param.schema.get(where)
            if _can_be_sent(param.name, given.value):
                given.guessed(target, f"the document's {where}")
                return _as_sent(given.value)
        first = param.schema.get("enum", 0)
        if _can_be_sent(param.name, first.value):
            first.guessed(target, "the first of the values that the document lists")
            return _as_sent(first.value)
        param.piece.guessed(target, "required, and the document has no value: write it into .env")
        return self.variables.reference(param.name)

    # ---- paths

    def _path(
        self, operation: _Operation, names: Mapping[str, str], by_path: Mapping[str, _Operation]
    ) -> str:
        """Return the path with fields of the parent, or variables, in place of its params."""
        made = [
            self._segment(operation, place, names, by_path)
            for place in range(len(operation.segments))
        ]
        return "/".join(made) + ("/" if operation.path.endswith("/") and made else "")

    def _segment(
        self,
        operation: _Operation,
        place: int,
        names: Mapping[str, str],
        by_path: Mapping[str, _Operation],
    ) -> str:
        parts = re.split(r"\{([^{}]*)\}", operation.segments[place])
        made = [literal(parts[0], readings=2)]
        for index in range(1, len(parts), 2):
            made.append(self._path_value(operation, place, parts[index], names, by_path))
            made.append(literal(parts[index + 1], readings=2))
        return "".join(made)

    def _path_value(
        self,
        operation: _Operation,
        place: int,
        param: str,
        names: Mapping[str, str],
        by_path: Mapping[str, _Operation],
    ) -> str:
        piece = next(
            (
                each.piece
                for each in operation.params
                if each.name == param and each.place == "path"
            ),
            operation.piece.get("parameters"),
        )
        target = f"resources.{names[operation.path]}.endpoint.path"
        field_name = self._parent_field(operation, place, param, names, by_path)
        if field_name is not None:
            piece.guessed(target, "the list above it in the path has such a field")
            return f"{{resources.{field_name}}}"
        piece.guessed(target, "no list in the document has its values: write one into .env")
        before = operation.segments[place - 1] if place else ""
        # a variable named ID says nothing: SHOP_ORDER_ID does
        generic = normal_name(param) in ("id", "key", "uuid", "slug", "name")
        prefix = f"{singular(resource_name(before))}_" if generic and "{" not in before else ""
        return self.variables.reference(f"{prefix}{param}")

    def _parent_of(
        self, operation: _Operation, by_path: Mapping[str, _Operation]
    ) -> tuple[int, _Operation] | None:
        """Return the nearest list above an operation that has a field for the param below it."""
        for place in range(len(operation.segments) - 1, 0, -1):
            segment = operation.segments[place]
            parent = by_path.get(_plain_path("/".join(operation.segments[:place])))
            if (
                parent is None
                or parent is operation
                or not re.fullmatch(r"\{[^{}]*\}(\.\w+)?", segment)
            ):
                continue
            if _matching_field(parent, segment[1:].split("}")[0]) is not None:
                return place, parent
        return None

    def _parent_field(
        self,
        operation: _Operation,
        place: int,
        param: str,
        names: Mapping[str, str],
        by_path: Mapping[str, _Operation],
    ) -> str | None:
        """Return `parent.field` for a param of a path; fields of a parent's parent are handed on."""
        found = self._parent_of(operation, by_path)
        if found is None or place > found[0]:
            return None
        parent_place, parent = found
        if place == parent_place:
            return f"{names[parent.path]}.{_matching_field(parent, param)}"
        # the parent's record has it by `include_from_parent`, under the name that this gives
        above = self._parent_field(parent, place, param, names, by_path)
        if above is None:
            return None
        grandparent, _, column = above.partition(".")
        needed = self._needed_fields.setdefault(names[parent.path], [])
        if column not in needed:
            needed.append(column)
        return f"{names[parent.path]}._{grandparent}_{column}"


def _first_server(root: Piece) -> str:
    return root.get("servers", 0, "url").text or f"https://{root.get('host').text or ''}"


def _depth(field: tuple[str, Piece]) -> int:
    return field[0].count("/")


def _plain_path(path: str) -> str:
    """Return a path to compare: without slashes at its ends, an ending such as `.json`, names of params."""
    plain = re.sub(r"\{[^{}]*\}", "{}", path.strip("/").lower())
    return re.sub(r"\.(json|xml)$", "", plain)


def _names_of(operations: Sequence[_Operation]) -> dict[str, str]:
    """Return a resource's name for each path: its last word, with the one before it if that is taken."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    # the shorter path has the shorter name
    for operation in sorted(operations, key=lambda each: len(each.segments)):
        words = operation.words or ["records"]
        name = words[-1]
        if name in taken and len(words) > 1:
            name = resource_name(f"{singular(words[-2])}_{words[-1]}")
        names[operation.path] = unique_name(name, taken)
    return names


def _matching_field(parent: _Operation, param: str) -> str | None:
    """Return the field of a parent's record that a param of the path below it means."""
    # reversed, so that of two names that are alike the first one counts
    by_name = {normal_name(name): name for name in reversed(list(parent.found.record.fields))}
    wanted = normal_name(param)
    word = singular(parent.words[-1]) if parent.words else ""
    without_word = wanted.removeprefix(f"{word}_")
    last = wanted.rsplit("_", 1)[-1]
    names = [wanted, without_word, last]
    if last in ("id", "uuid", "guid", "sid", "key"):
        names += [f"{word}_{last}", "id", "uuid", "sid", "guid", "key"]
    # `/repos/{repo}` takes the repository's id or name
    if wanted == word or wanted.removesuffix("s") == word:
        names += ["id", "name", "slug", "key"]
    found = next((by_name[name] for name in names if name in by_name), None)
    # a placeholder can't name a field with other characters
    return found if found is None or found.isidentifier() else None


def _can_be_sent(name: str, value: Any) -> bool:
    """True for a value that the document means to be sent, and that is no secret and no stand-in."""
    if isinstance(value, str):
        return bool(value) and not is_stand_in(value) and not looks_like_secret(name, value)
    return isinstance(value, int | float)


def _as_sent(value: Any) -> Any:
    """Return a value of a param as the file has it; true and false as the words that are sent."""
    if isinstance(value, str):
        return literal(value)
    return str(value).lower() if isinstance(value, bool) else value
