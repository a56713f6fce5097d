"""Read Postman collections (v2.0 and v2.1): each request that reads records is a resource.

https://schema.postman.com/collection/json/v2.1.0/draft-07/docs/index.html
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from restsource_dagster.authoring.importing.connector_draft import ConnectorDraft, assemble
from restsource_dagster.authoring.importing.imported_api import looks_like_secret
from restsource_dagster.authoring.importing.sent_requests import api_of_requests
from restsource_dagster.authoring.importing.source_files import (
    SourceError,
    SourceFile,
    parse_data,
)
from restsource_dagster.authoring.importing.source_pieces import Ledger, Piece
from restsource_dagster.authoring.importing.source_requests import (
    SentAnswer,
    SentField,
    SentLogin,
    SourceRequest,
    variable_mark,
)

__all__ = ["read_postman"]

_MAX_ITEMS = 5_000
_MAX_SUBSTITUTIONS = 5
_VARIABLE = re.compile(r"\{\{([^{}]+)\}\}")


def read_postman(files: Sequence[SourceFile], name: str | None) -> ConnectorDraft:
    """Return the connector of a collection. Raises `SourceError` if none of its requests reads records."""
    document = parse_data(files[0])
    if not isinstance(document, dict) or not isinstance(document.get("item"), list):
        raise SourceError("no Postman collection: it has a list `item`")
    root = Piece(document, (), Ledger())
    reader = _CollectionReader(_Variables(root))
    requests = list(reader.requests(root))
    wanted = name or root.get("info", "name").text
    root.get("info", "name").mapped("name")
    draft = assemble(api_of_requests(requests, wanted, reader.variables.secrets))
    draft.ledger.add_unread(document, _reason_of)
    return draft


def _reason_of(path: tuple[str | int, ...]) -> str:
    for step, reason in (
        ("event", "a script: what it does has to be written as settings"),
        ("response", "an answer: what is loaded of it comes from the rows"),
        ("variable", "a variable that no imported request uses"),
        ("auth", "a login that no imported request uses"),
    ):
        if step in path:
            return reason
    return "describes, and changes no request"


@dataclass
class _Variables:
    """The variables of a collection. A secret, and one without a value, becomes a variable of `.env`."""

    root: Piece
    secrets: dict[str, str] = field(default_factory=dict)
    _known: dict[str, Piece] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for piece in self.root.get("variable").elements():
            name = piece.get("key").text or piece.get("id").text
            if name:
                self._known[name] = piece

    def filled(self, text: str, local: Mapping[str, str] | None = None) -> str:
        """Return a text with its variables filled in, or marked."""
        # the value of a variable may have variables itself
        for _ in range(_MAX_SUBSTITUTIONS):
            made = _VARIABLE.sub(lambda found: self._value(found[1].strip(), local or {}), text)
            if made == text:
                return text
            text = made
        # a circle of variables, or what is left of a long chain
        return _VARIABLE.sub(lambda found: self._marked(found[1].strip(), ""), text)

    def _value(self, name: str, local: Mapping[str, str]) -> str:
        if name in local:
            return local[name]
        if name.startswith("$"):  # Postman makes a value up: `$guid`, `$timestamp`
            return self._marked(name.removeprefix("$"), "")
        piece = self._known.get(name)
        given = piece.get("value").value if piece else None
        value = "" if given is None else str(given)
        if piece is not None:
            piece.mapped("where it is used")
        # the file refers to them, and a person fills them in
        if not value or looks_like_secret(name, value):
            return self._marked(name, value)
        return value

    def _marked(self, name: str, value: str) -> str:
        variable = re.sub("[^A-Z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper())
        variable = variable.strip("_") or "VALUE"
        variable = variable if variable[0].isalpha() else f"V_{variable}"
        self.secrets.setdefault(variable, "" if "{{" in value else value)
        return variable_mark(variable)


@dataclass
class _CollectionReader:
    variables: _Variables

    def requests(self, root: Piece) -> Iterator[SourceRequest]:
        """Yield the requests of all folders, in their order. Without recursion: folders are hostile."""
        login = self._login(root.get("auth"))
        stack = [(piece, login) for piece in reversed(list(root.get("item").elements()))]
        count = 0
        while stack:
            item, inherited = stack.pop()
            count += 1
            if count > _MAX_ITEMS:
                raise SourceError(f"more than {_MAX_ITEMS:,} items in the collection")
            if item.get("item").exists:
                own = self._login(item.get("auth")) if item.get("auth").exists else inherited
                inner = list(item.get("item").elements())
                stack.extend((piece, own) for piece in reversed(inner))
            elif item.get("request").exists:
                request = self._request(item, inherited)
                if request is not None:
                    yield request

    def _request(self, item: Piece, inherited: SentLogin | None) -> SourceRequest | None:
        given = item.get("request")
        if given.text is not None:  # only an address
            given = Piece({"url": given.text}, given.path[:-1], given.ledger)
        url_piece = item.get("request") if item.get("request").text else given.get("url")
        url, query = self._address(url_piece)
        if url is None:
            item.not_mapped("its address can't be read")
            return None
        method = given.get("method")
        method.mapped("the method of the request")
        login = self._login(given.get("auth")) if given.get("auth").exists else inherited
        body_given = given.get("body")
        # the body of another method stays in the file when a person changes it to GET
        if (method.text or "GET").upper() == "GET" and body_given.get("mode").exists:
            body_given.not_mapped("Postman sends no body with a GET")
            body_given = Piece(None, body_given.path, body_given.ledger)
        body, body_piece, form, is_multipart = self._body(body_given)
        name = item.get("name")
        name.mapped("the name of the resource")
        return SourceRequest(
            piece=item,
            name=name.text,
            method=(method.text or "GET").upper(),
            url=url,
            url_piece=url_piece if url_piece.text else url_piece.first("raw", "path", "host"),
            query=tuple(query),
            headers=tuple(self._headers(given.get("header"))),
            form=tuple(form),
            is_multipart=is_multipart,
            body=body,
            body_piece=body_piece,
            login=login,
            answers=tuple(self._answers(item)),
        )

    # ---- the address

    def _address(self, piece: Piece) -> tuple[str | None, list[SentField]]:
        """Return the address without its query, and the params."""
        local = self._path_variables(piece.get("variable"))
        raw = piece.text or piece.get("raw").text or self._joined(piece)
        if not raw:
            return None, []
        for part in ("protocol", "host", "path", "port"):
            piece.get(part).mapped("the address of the request")
        address, _, text = raw.partition("#")[0].partition("?")
        url = self.variables.filled(address.strip())
        url = re.sub(
            r"(?<=/):([A-Za-z_][\w-]*)(?=/|$)", lambda m: self._path_value(m[1], local), url
        )
        # a variable may hold the scheme, too
        if "://" not in url and not url.startswith("\ue000"):
            url = f"https://{url}"
        if not re.match(r"https?://.|\ue000", url):
            return None, []
        # the list says which params are switched off, and the text has all of them
        listed = list(piece.get("query").elements())
        if listed:
            return url, list(self._listed(listed))
        pairs = parse_qsl(text, keep_blank_values=True)
        holder = piece if piece.text else piece.get("raw")
        fields = [SentField(name, self.variables.filled(value), holder) for name, value in pairs]
        return url, fields

    def _listed(self, pieces: Sequence[Piece]) -> Iterator[SentField]:
        for piece in pieces:
            if piece.get("disabled").value is True:
                piece.not_mapped("disabled in the collection")
                continue
            value = piece.get("value").value
            yield SentField(
                self.variables.filled(piece.get("key").text or ""),
                self.variables.filled("" if value is None else str(value)),
                piece,
            )

    @staticmethod
    def _joined(piece: Piece) -> str:
        """Return the address of its parts, if the whole is missing."""
        host, path = piece.get("host").value, piece.get("path").value
        start = ".".join(map(str, host)) if isinstance(host, list) else str(host or "")
        end = "/".join(map(str, path)) if isinstance(path, list) else str(path or "").lstrip("/")
        protocol = f"{piece.get('protocol').text}://" if piece.get("protocol").text else ""
        return f"{protocol}{start}/{end}" if start else ""

    def _path_variables(self, piece: Piece) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in piece.elements():
            name, value = each.get("key").text or each.get("id").text, each.get("value").value
            if name:
                each.mapped("the address of the request")
                found[name] = "" if value is None else self.variables.filled(str(value))
        return found

    def _path_value(self, name: str, local: Mapping[str, str]) -> str:
        return local.get(name) or self.variables.filled(f"{{{{{name}}}}}")

    # ---- headers, body, answers

    def _headers(self, piece: Piece) -> Iterator[SentField]:
        yield from self._listed([each for each in piece.elements() if each.is_object])
        for line in (piece.text or "").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                yield SentField(name.strip(), self.variables.filled(value.strip()), piece)

    def _body(self, piece: Piece) -> tuple[str | None, Piece | None, list[SentField], bool]:
        """Return the body as a text or a form, and whether the form is sent in parts."""
        mode = piece.get("mode").text
        if mode in ("urlencoded", "formdata"):
            piece.get("mode").mapped("a form")
            fields = [
                each for each in piece.get(mode).elements() if each.get("type").text != "file"
            ]
            return None, None, list(self._listed(fields)), mode == "formdata"
        if mode == "raw" and piece.get("raw").text:
            piece.get("mode").mapped("the body of the request")
            piece.get("options").mapped("the body of the request")
            return self.variables.filled(piece.get("raw").text or ""), piece.get("raw"), [], False
        if mode == "graphql":
            graphql = piece.get("graphql")
            body: dict[str, Any] = {"query": self.variables.filled(graphql.get("query").text or "")}
            variables = graphql.get("variables").value
            try:
                body["variables"] = json.loads(variables) if isinstance(variables, str) else {}
            except (ValueError, RecursionError):
                graphql.get("variables").not_mapped("no JSON")
            piece.get("mode").mapped("the body of the request")
            return json.dumps(body), graphql, [], False
        if mode is not None:
            piece.get(mode).not_mapped("this kind of body is not supported")
        return None, None, [], False

    def _answers(self, item: Piece) -> Iterator[SentAnswer]:
        """Yield the saved answers that are JSON and no errors."""
        for piece in item.get("response").elements():
            status = piece.get("code").number or 200
            try:
                body = json.loads(piece.get("body").text or "")
            except (ValueError, RecursionError):
                continue
            headers = {
                each.get("key").text or "": str(each.get("value").value)
                for each in piece.get("header").elements()
            }
            if 200 <= status < 300:
                url = piece.get("originalRequest", "url")
                raw = url.text or url.get("raw").text or ""
                yield SentAnswer(
                    body, piece.get("body"), status, headers, self.variables.filled(raw)
                )

    # ---- logins

    def _login(self, piece: Piece) -> SentLogin | None:
        """Return the login of a collection, a folder or a request; what has no counterpart is noted."""
        kind = piece.get("type").text
        if kind in (None, "noauth"):
            return None
        values = self._attributes(piece.get(kind))
        if kind == "bearer":
            return SentLogin("bearer", values, piece)
        if kind in ("basic", "digest"):
            return SentLogin("digest" if kind == "digest" else "basic", values, piece)
        if kind == "apikey":
            named = {"name": values.get("key", "Authorization"), "value": values.get("value", "")}
            location = "query" if values.get("in") == "query" else "header"
            return SentLogin("key", named, piece, location)  # type: ignore[arg-type]
        if kind == "oauth2":
            return self._oauth(piece, values)
        piece.not_mapped("this kind of login is not supported")
        return None

    @staticmethod
    def _oauth(piece: Piece, values: Mapping[str, str]) -> SentLogin:
        url = values.get("accessTokenUrl", "")
        # other grants need a person in a browser: their token is all there is
        if values.get("grant_type") == "client_credentials" and url.startswith("http"):
            named = {
                "access_token_url": url,
                "client_id": values.get("clientId", ""),
                "client_secret": values.get("clientSecret", ""),
            }
            return SentLogin("client_credentials", named, piece)
        return SentLogin("bearer", {"token": values.get("accessToken", "")}, piece)

    def _attributes(self, piece: Piece) -> dict[str, str]:
        """Return the attributes of a login: a list of pairs in v2.1, an object in v2.0."""
        pairs = [(each.get("key").text or "", each.get("value").value) for each in piece.elements()]
        # of v2.0
        pairs += [(name, each.value) for name, each in piece.fields()]
        return {name: self.variables.filled(str(v)) for name, v in pairs if v is not None}
