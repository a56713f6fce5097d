"""Make an API of requests that were sent: of cURL lines, of a Postman collection, of a HAR file."""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import unquote

from restsource_dagster.authoring.importing.imported_api import (
    EnvVariables,
    ImportedApi,
    ImportedAuth,
    ImportedEndpoint,
    ImportedPaginator,
    connector_name,
    is_stand_in,
    literal,
    looks_like_secret,
    name_of_host,
    resource_name,
    unique_name,
)
from restsource_dagster.authoring.importing.param_names import (
    CURSOR_PARAMS,
    LIMIT_PARAMS,
    OFFSET_PARAMS,
    PAGE_PARAMS,
    is_named,
)
from restsource_dagster.authoring.importing.source_files import SourceError
from restsource_dagster.authoring.importing.source_requests import (
    MARK_START,
    MARKED,
    AnsweredParts,
    SentField,
    SentLogin,
    SourceRequest,
)
from restsource_dagster.connector.models.auth import (
    ApiKeyAuth,
    BearerAuth,
    DigestAuth,
    HttpBasicAuth,
)
from restsource_dagster.connector.models.oauth_logins import OAuth2ClientCredentialsAuth
from restsource_dagster.connector.models.paginators import OffsetPaginator, PageNumberPaginator

__all__ = ["api_of_requests"]


_LOADING_METHODS = frozenset({"GET", "POST", "QUERY", "SEARCH", "REPORT"})
_BASE_SEGMENT = re.compile(
    r"api|apis|rest|services|public|v\d[\w.]*|\d{4}-\d\d(-\d\d)?|\d+\.\d+|latest", re.IGNORECASE
)
_SIGNATURES = frozenset({"digest", "oauth", "hawk", "ntlm", "negotiate", "aws4-hmac-sha256"})
_OWN_HEADERS = frozenset(
    {
        *("accept-encoding", "accept-language", "cache-control", "connection", "content-length"),
        *("dnt", "host", "if-modified-since", "if-none-match", "origin", "pragma", "priority"),
        *("referer", "te", "upgrade-insecure-requests", "user-agent", "postman-token", "range"),
    }
)


def api_of_requests(
    requests: Sequence[SourceRequest], name: str | None, variables_of: Mapping[str, str]
) -> ImportedApi:
    """Return the API that requests were sent to: that of the server with most of them.

    `variables_of` has values of marked variables. Raises `SourceError` if no request asks for records.
    """
    asking = [request for request in requests if _asks_for_records(request)]
    if not asking:
        raise SourceError("no request that reads records: GET, or POST with a body")
    # a HAR file of a browser has requests to many servers; the API is asked most
    origin = Counter(request.origin for request in asking).most_common(1)[0][0]
    chosen = [request for request in asking if _is_of(request, origin)]
    host = origin.rpartition("://")[2]
    name = connector_name(name, name_of_host(MARKED.sub("", host)))
    reader = _RequestReader(EnvVariables(name), variables_of, _common_base(chosen))
    endpoints = tuple(_in_order(reader.endpoint(request) for request in chosen))
    common = _most_common_login(endpoints)
    return ImportedApi(
        name=name,
        base_url=reader.file_text(origin + reader.base, readings=0),
        endpoints=tuple(
            replace(each, auth=None if each.auth == common else each.auth) for each in endpoints
        ),
        variables=reader.variables,
        ledger=chosen[0].piece.ledger,
        auth=common,
    )


def _most_common_login(endpoints: Sequence[ImportedEndpoint]) -> ImportedAuth | None:
    """Return the login of most endpoints that have one; of equally many the first."""
    logins = [each.auth for each in endpoints if each.auth is not None]
    return max(logins, key=logins.count, default=None)


def _asks_for_records(request: SourceRequest) -> bool:
    if request.method in _LOADING_METHODS:
        return True
    request.piece.not_mapped(f"{request.method} changes data, and a connector only reads")
    return False


def _is_of(request: SourceRequest, origin: str) -> bool:
    if request.origin == origin:
        return True
    request.piece.not_mapped("another server: it needs a connector of its own")
    return False


def _common_base(requests: Iterable[SourceRequest]) -> str:
    """Return the beginning of all paths that names the API and its version, such as `/api/v1`."""
    paths = [_segments(request) for request in requests]
    base = []
    for place, segment in enumerate(paths[0]):
        # each path keeps one segment at least, which names its resource
        shared = all(len(path) > place + 1 and path[place] == segment for path in paths)
        if not shared or not _BASE_SEGMENT.fullmatch(segment):
            break
        base.append(segment)
    return "".join(f"/{segment}" for segment in base)


def _segments(request: SourceRequest) -> list[str]:
    return [segment for segment in request.path.split("/") if segment]


def _in_order(endpoints: Iterable[ImportedEndpoint]) -> list[ImportedEndpoint]:
    """Return the endpoints with names of their own."""
    taken: set[str] = set()
    return [replace(each, name=unique_name(each.name, taken)) for each in endpoints]


@dataclass
class _RequestReader:
    """Reads the requests to one server, and collects what they share."""

    variables: EnvVariables
    values: Mapping[str, str]
    base: str
    _names: set[str] = field(default_factory=set)

    def file_text(self, text: str, *, readings: int = 1) -> str:
        """Return a text of a request as the file has it."""
        for name in MARKED.findall(text):
            self.variables.note(name, self.values.get(name, ""))
        return MARKED.sub(r"${\1}", literal(text, readings=readings))

    def secret(self, suffix: str, value: str) -> str:
        """Return the reference for a secret; a value that documentation made up is none."""
        if MARKED.search(value):
            return self.file_text(value)
        return self.variables.reference(suffix, "" if is_stand_in(value) else value)

    def endpoint(self, request: SourceRequest) -> ImportedEndpoint:
        """Return the endpoint of a request, and note what became of its pieces."""
        segments = _segments(request)
        rest = segments[len([each for each in self.base.split("/") if each]) :]
        short = resource_name(_name_of(rest))
        # a path's last word is the better name; that of a Postman request tells two of them apart
        long = resource_name(request.name) if request.name and short in self._names else short
        name = unique_name(long, self._names)
        target = f"resources.{name}.endpoint"
        request.url_piece.mapped(f"{target}.path")
        path = "/".join(self._segment(unquote(each)) for each in rest)
        if request.url.endswith("/") and path:
            path += "/"  # some servers answer the other spelling with a redirect
        login = self._login(request)
        answered = self._answered(request, name)
        paginator, claimed = answered.paginator, answered.claimed(request.query)
        # an answer proves more than the names of params
        if paginator is None:
            paginator, claimed = _guess_paging(request.query, target)
        params = self._params(request, target, (login.sent, *claimed))
        body, data = self._body(request, target)
        headers = self._headers(request, target, has_json=bool(body), login=login)
        return ImportedEndpoint(
            name=name,
            path=path or "/",
            method=request.method,
            params=params,
            headers=headers,
            json=body,
            data=data,
            auth=login.auth,
            paginator=paginator,
            data_selector=answered.data_selector,
            primary_key=answered.primary_key,
            incremental=answered.incremental,
            processing_steps=answered.processing_steps,
        )

    @staticmethod
    def _answered(request: SourceRequest, name: str) -> AnsweredParts:
        """Return what the answers of a request say."""
        if not request.answers:
            return AnsweredParts()
        # the detection needs dlt, which takes a second to import
        from restsource_dagster.authoring.importing.answer_guesses import guess_of_answers

        return guess_of_answers(request, name)

    def _segment(self, text: str) -> str:
        if looks_like_secret("", text):
            return self.secret("path_key", text)
        return self.file_text(text, readings=2)

    def _login(self, request: SourceRequest) -> "_Login":
        """Return what the request logs in with: of the source's own login, else a header, else a param."""
        place = "client.auth"
        if request.login is not None:
            request.login.piece.mapped(place)
            return _Login(self._named_login(request.login), None)
        user, at, _ = request.url.partition("://")[2].partition("/")[0].rpartition("@")
        if at:
            name, _, password = user.partition(":")
            return _Login(self.basic(unquote(name), unquote(password)), None)
        for each in request.headers:
            if each.name.lower() == "authorization":
                auth = self.authorization(each.value)
                if auth is None:
                    each.piece.not_mapped("a signature of one request: this login is not supported")
                else:
                    each.piece.mapped(place)
                return _Login(auth, each)
        fields = [*request.headers, *request.query]
        for each in fields:
            # a cookie is a session of a browser, and no login that lasts
            if each.name.lower() != "cookie" and self._is_secret(each):
                location: Literal["header", "query"] = (
                    "header" if each in request.headers else "query"
                )
                each.piece.mapped(place)
                key = self.secret(each.name, each.value)
                auth = ApiKeyAuth(
                    type="api_key",
                    name=each.name,
                    api_key=key,
                    location=location,
                )
                return _Login(auth, each)
        return _Login(None, None)

    def _named_login(self, login: SentLogin) -> ImportedAuth:
        values = login.values
        if login.kind == "basic":
            return self.basic(values.get("username", ""), values.get("password", ""))
        if login.kind == "digest":
            return DigestAuth(
                type="digest",
                username=self.secret("username", values.get("username", "")),
                password=self.secret("password", values.get("password", "")),
            )
        if login.kind == "bearer":
            return BearerAuth(type="bearer", token=self.secret("token", values.get("token", "")))
        if login.kind == "key":
            name = values.get("name", "Authorization")
            key = self.secret(name, values.get("value", ""))
            return ApiKeyAuth(
                type="api_key", name=self.file_text(name), api_key=key, location=login.location
            )
        return OAuth2ClientCredentialsAuth(
            type="oauth2_client_credentials",
            access_token_url=self.file_text(values.get("access_token_url", "")),
            client_id=self.secret("client_id", values.get("client_id", "")),
            client_secret=self.secret("client_secret", values.get("client_secret", "")),
        )

    @staticmethod
    def _is_secret(sent: SentField) -> bool:
        # a variable is one if its name says so; any other value by its look, too
        return looks_like_secret(sent.name, MARKED.sub("x", sent.value)) and not is_named(
            sent.name, CURSOR_PARAMS
        )

    def basic(self, user: str, password: str) -> HttpBasicAuth:
        """Return HTTP Basic with references for both."""
        return HttpBasicAuth(
            type="http_basic",
            username=self.secret("username", user) if user else "",
            password=self.secret("password", password) if password else "",
        )

    def authorization(self, value: str) -> ImportedAuth | None:
        """Return the login of a header `Authorization`; None if each request has another value."""
        scheme, _, rest = value.strip().partition(" ")
        rest = rest.strip()
        if scheme.lower() in _SIGNATURES and rest:
            return None
        if scheme.lower() == "bearer" and rest:
            return BearerAuth(type="bearer", token=self.secret("token", rest))
        if scheme.lower() == "basic" and (pair := _decoded_pair(rest)):
            return self.basic(*pair)
        key = f"{scheme} {self.secret('token', rest)}" if rest else self.secret("token", scheme)
        return ApiKeyAuth(type="api_key", name="Authorization", api_key=key, location="header")

    def _params(
        self, request: SourceRequest, target: str, claimed: Collection[SentField | None]
    ) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for sent in request.query:
            if any(sent is each for each in claimed):
                continue
            if is_named(sent.name, CURSOR_PARAMS) and sent.value:
                sent.piece.not_mapped(
                    "the place of one page in a list: a run starts at the first page"
                )
                continue
            key = self.file_text(sent.name)
            sent.piece.mapped(f"{target}.params.{key}")
            value: Any = (
                self.secret(sent.name, sent.value)
                if self._is_secret(sent)
                else _as_number(self.file_text(sent.value))
            )
            earlier = params.get(key)
            if earlier is not None:
                # a param that is sent twice is a list
                value = [*(earlier if isinstance(earlier, list) else [earlier]), value]
            params[key] = value
        return params

    def _headers(
        self, request: SourceRequest, target: str, *, has_json: bool, login: "_Login"
    ) -> dict[str, str]:
        headers: dict[str, str] = {}
        for sent in request.headers:
            lower = sent.name.lower()
            if sent is login.sent:
                continue
            if lower == "authorization" and login.auth is not None:
                sent.piece.not_mapped("the login stands for it")
            elif lower in _OWN_HEADERS or lower.startswith(("sec-", ":", "x-postman")):
                sent.piece.not_mapped("a header of the program that sent it")
            elif lower == "accept" and sent.value.strip().startswith("*/*"):
                sent.piece.not_mapped("says that any answer is fine")
            elif lower == "content-type" and (has_json or request.form):
                sent.piece.mapped(f"{target}.{'json' if has_json else 'data'}")
            elif lower in ("authorization", "cookie") or self._is_secret(sent):
                sent.piece.mapped(f"{target}.headers.{sent.name}")
                headers[sent.name] = self.secret(sent.name, sent.value)
            else:
                sent.piece.mapped(f"{target}.headers.{sent.name}")
                headers[sent.name] = self.file_text(sent.value)
        return headers

    def _body(
        self, request: SourceRequest, target: str
    ) -> tuple[dict[str, Any], dict[str, Any] | str | None]:
        """Return the body as JSON, and as a form or a text."""
        if request.form:
            form: dict[str, Any] = {}
            for sent in request.form:
                place = f"{target}.data.{sent.name}"
                if request.is_multipart:
                    sent.piece.guessed(
                        place, "sent as a URL-encoded form; multipart is not supported"
                    )
                else:
                    sent.piece.mapped(place)
                is_secret = self._is_secret(sent)
                made = self.secret if is_secret else lambda _, value: self.file_text(value)
                form[self.file_text(sent.name)] = made(sent.name, sent.value)
            return {}, form
        if request.body is None or request.body_piece is None:
            return {}, None
        try:
            value = json.loads(request.body)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            request.body_piece.mapped(f"{target}.json")
            return {self.file_text(key): self._json(key, item) for key, item in value.items()}, None
        request.body_piece.mapped(f"{target}.data")
        return {}, self.file_text(request.body)

    def _json(self, name: str, value: Any, depth: int = 0) -> Any:
        """Return a value of a body with its secrets as references. A body is nested 50 levels at most."""
        if depth > 50:
            raise SourceError("a body is nested too deeply")
        if isinstance(value, dict):
            return {self.file_text(k): self._json(k, item, depth + 1) for k, item in value.items()}
        if isinstance(value, list):
            return [self._json(name, item, depth + 1) for item in value]
        if isinstance(value, str):
            return (
                self.secret(name, value)
                if looks_like_secret(name, value)
                else self.file_text(value)
            )
        return value


@dataclass(frozen=True)
class _Login:
    auth: ImportedAuth | None
    sent: SentField | None


def _name_of(segments: Sequence[str]) -> str:
    """Return the last segment that is a word: neither an id nor a variable."""
    # an id in a path names no resource
    words = [
        s for s in segments if re.search("[A-Za-z]", s) and not re.search(f"[{MARK_START}:]", s)
    ]
    named = [word for word in words if not re.fullmatch("[0-9a-fA-F-]{16,}", word)]
    return unquote((named or words or ["records"])[-1])


def _decoded_pair(text: str) -> tuple[str, str] | None:
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _as_number(text: str) -> int | str:
    """Return a text that is a small whole number as one, which is sent alike."""
    return int(text) if re.fullmatch("0|[1-9][0-9]{0,8}", text) else text


def _guess_paging(
    query: Sequence[SentField], target: str
) -> tuple[ImportedPaginator | None, tuple[SentField, ...]]:
    """Return the paginator that the names of params point to, and the params that it sends."""
    numbers = {sent: value for sent in query if isinstance(value := _as_number(sent.value), int)}
    limit = next((s for s in numbers if is_named(s.name, LIMIT_PARAMS) and numbers[s]), None)
    for sent, value in numbers.items():
        evidence = f"the name of the param `{sent.name}`; a run starts at the first page"
        if is_named(sent.name, PAGE_PARAMS):
            sent.piece.guessed(f"{target}.paginator", evidence)
            made = PageNumberPaginator(
                # a request for page 7 says nothing of the first one, but 0 does
                type="page_number",
                base_page=min(value, 1),
                page_param=sent.name,
                total_path=None,
            )
            return made, (sent,)
        if is_named(sent.name, OFFSET_PARAMS) and limit:
            sent.piece.guessed(f"{target}.paginator", evidence)
            limit.piece.guessed(f"{target}.paginator.limit", f"sent beside `{sent.name}`")
            offset = OffsetPaginator(
                type="offset",
                limit=numbers[limit],
                offset_param=sent.name,
                limit_param=limit.name,
                total_path=None,
            )
            return offset, (sent, limit)
    return None, ()
