"""Obtain tokens by OAuth 2.0 or a login, renew them before they expire, and once when the API refuses one."""

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.auth import AuthBase

from restsource_dagster.connector.models.auth import LoginAuth
from restsource_dagster.connector.models.endpoint import as_url_text
from restsource_dagster.connector.models.oauth_logins import (
    OAuth2JwtBearerAuth,
    OAuth2PasswordAuth,
    OAuth2RefreshTokenAuth,
    OAuthLogin,
    SendAs,
    SigningKey,
)
from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import IngestError, MissingExtraError, TokenError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.session import proxy_variable

__all__ = [
    "LEEWAY_SECONDS",
    "IssueToken",
    "IssuedToken",
    "LoginRequest",
    "RenewingToken",
    "TokenEndpoint",
    "grant_token",
]

LEEWAY_SECONDS = 60.0
"""How long before its expiry a token is renewed, but not before four fifths of its lifetime."""
_ASSERTION_SECONDS = 300
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# fields of a token response; `token_type` and `..._hint` are no secrets
_SECRET_FIELD = re.compile(r"token|secret|assertion|password|key", re.IGNORECASE)
_NON_SECRET_FIELD = re.compile(r"type|hint", re.IGNORECASE)


@dataclass(frozen=True)
class IssuedToken:
    """A token, and how long it is used."""

    value: str = field(repr=False)
    seconds: float
    """How many seconds from now it is used, before it is renewed."""
    content: Mapping[str, Any] = field(repr=False)
    """The answer that it was in."""


IssueToken = Callable[[str | None], IssuedToken]
"""Returns a token. Takes the one that the API has refused; None for the first, or an expired one.

Raises `TokenError`.
"""


class RenewingToken(AuthBase):
    """Authorizes requests with a token that `issue` returns. Thread-safe.

    One token serves all resources and threads of a run. While one thread requests a token the others
    wait, and share its token or its error. dlt's own class has no lock, renews a token only after it
    has expired, and reports a refusal without the API's reason.
    """

    def __init__(
        self,
        issue: IssueToken,
        send_as: SendAs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issue = issue
        self._send_as = send_as or SendAs()
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0
        self._attempts = 0
        self._failure = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize a request, with a new token if the old one is about to expire.

        Raises `TokenError`.
        """
        # before the lock: a thread that waits for it learns that another one has tried meanwhile
        attempts_before = self._attempts
        with self._lock:
            if self._token is None or self._clock() >= self._renew_at:
                self._obtain(attempts_before)
            self._add_to(request, str(self._token))
        return request

    def obtain(self) -> None:
        """Request a token now. Raises `TokenError`."""
        with self._lock:
            self._obtain(self._attempts)

    def renew(self, refused: requests.PreparedRequest) -> None:
        """Replace the token of a refused request, unless another thread has already replaced it.

        Raises `TokenError`.
        """
        attempts_before = self._attempts
        with self._lock:
            # a request with an older token was refused for that one, and the newer one may be good
            if self._token is not None and self._has(refused, self._token):
                self._obtain(attempts_before)

    def _add_to(self, request: requests.PreparedRequest, token: str) -> None:
        send_as = self._send_as
        if send_as.location == "query":
            request.prepare_url(str(request.url), {str(send_as.name): token})
        elif send_as.location == "cookie":
            others = request.headers.get("Cookie")  # those that the API has set
            own = f"{send_as.name}={token}" if send_as.name else token
            request.headers["Cookie"] = f"{others}; {own}" if others else own
        else:
            name = send_as.name or "Authorization"
            request.headers[name] = f"{send_as.header_prefix}{token}"

    def _has(self, request: requests.PreparedRequest, token: str) -> bool:
        send_as = self._send_as
        if send_as.location == "query":
            query = parse_qs(urlsplit(str(request.url)).query)
            return token in query.get(str(send_as.name), ())
        if send_as.location == "cookie":
            return token in request.headers.get("Cookie", "")
        name = send_as.name or "Authorization"
        return request.headers.get(name) == f"{send_as.header_prefix}{token}"

    def _obtain(self, attempts_before: int) -> None:
        if self._attempts != attempts_before and self._failure:
            # another thread failed while this one waited: trying again would multiply the requests
            raise TokenError(self._failure)
        self._failure = ""
        try:
            issued = self._issue(self._token)
        except IngestError as error:
            self._failure = str(error)
            raise
        finally:
            self._attempts += 1
        self._token, self._renew_at = issued.value, self._clock() + issued.seconds


@dataclass(frozen=True)
class _TokenRequests:
    """Sends the requests of a login through the connector's own session, and reads the answers."""

    session: requests.Session
    redactor: Redactor

    @property
    def url(self) -> str:
        """Where the requests go."""
        raise NotImplementedError

    def _advice(self, refusal: requests.Response | None, remedy: str) -> str:
        """Return what to check, after an answer that refuses or, with None, another failure."""
        raise NotImplementedError

    def _send(self, method: str, remedy: str, **options: Any) -> requests.Response:
        """Return the answer to a request. Raises `TokenError` without one, and for a refusal."""
        try:
            response = self.session.request(method, self.url, **options)
        except (requests.RequestException, IngestError) as error:
            problem = self._describe_failure(error)
        else:
            if response.status_code >= requests.codes.bad_request:
                raise self._error(f"it was refused ({response.reason})", response, remedy)
            return response
        # outside the `except`: the error must not keep the request and its secrets in its context
        raise self._error(problem)

    def _describe_failure(self, error: Exception) -> str:
        name = "" if isinstance(error, IngestError) else f"{type(error).__name__}: "
        problem = f"{name}{error}"
        if variable := proxy_variable(self.url):
            problem += f" (by the proxy of the environment variable {variable})"
        return problem

    def _content(self, response: requests.Response) -> Mapping[str, Any]:
        """Return the JSON of an answer, whose tokens are redacted from now on."""
        try:
            content = response.json()
        except (requests.exceptions.JSONDecodeError, UnicodeDecodeError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self._error(f"the answer ({response.status_code}) is no JSON object")
        # first of all: no message about what fails below may show them
        self.redactor.add_secrets(
            *(
                value
                for name, value in content.items()
                if isinstance(value, str)
                and _SECRET_FIELD.search(name)
                and not _NON_SECRET_FIELD.search(name)
            )
        )
        return content

    def find(self, path: str, content: Mapping[str, Any]) -> Any:
        """Return what a path finds in an answer; None for nothing."""
        found = jsonpath.find_values(path, dict(content))
        return found[0] if found else None

    def _token(self, path: str, content: Mapping[str, Any]) -> str:
        token = self.find(path, content)
        if not isinstance(token, str) or not token:
            names = ", ".join(sorted(content)) or "nothing"
            raise self._error(f"the answer has no `{path}`, only {names}")
        self.redactor.add_secrets(token)
        return token

    def _lifetime_seconds(
        self, path: str | None, content: Mapping[str, Any], default: float | None
    ) -> float:
        """Return the lifetime that an answer says; without one the file's default, or an hour."""
        given = self.find(path, content) if path else None
        try:
            seconds = float(given) if given is not None else 0.0
        except (ValueError, TypeError):
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise self._error(f"`{path}` is no number of seconds")
        # some servers send 0 for a lifetime that they don't know
        return seconds or float(default or 3600)

    def _error(
        self, reason: str, refusal: requests.Response | None = None, remedy: str = ""
    ) -> TokenError:
        return TokenError.of(
            self.redactor(reason),
            url=self.url,
            redact=self.redactor,
            advice=self._advice(refusal, remedy),
            refusal=refusal,
        )


def _issued(token: str, lifetime: float, content: Mapping[str, Any]) -> IssuedToken:
    # a share for short lifetimes, which the leeway would use up
    return IssuedToken(token, max(lifetime - LEEWAY_SECONDS, lifetime * 0.8), content)


@dataclass(frozen=True)
class LoginRequest(_TokenRequests):
    """Issues what the answer to a request of the file has: a token, or cookies."""

    auth: LoginAuth = field(repr=False)
    """References are resolved."""
    login_url: str

    @property
    def url(self) -> str:
        """Where the request goes."""
        return self.login_url

    def __call__(self, refused: str | None) -> IssuedToken:  # noqa: ARG002 - it is never kept
        """Send the request, and return its token; of cookies the text of the header.

        Raises `TokenError`.
        """
        auth = self.auth
        # those of the last login: an answer that sets none must not go unnoticed
        self.session.cookies.clear()
        response = self._send(
            auth.method,
            "",
            headers=auth.headers,
            params={name: as_url_text(value) for name, value in (auth.params or {}).items()},
            json=auth.json_,
            data=auth.data,
        )
        default = float(auth.default_token_expiration)
        if auth.token_path is None:
            return _issued(self._cookies(), default, {})
        content = self._content(response)
        lifetime = self._lifetime_seconds(auth.expires_in_path, content, default)
        return _issued(self._token(auth.token_path, content), lifetime, content)

    def _cookies(self) -> str:
        # of a redirect, too: an API may send the user on to another page
        cookies = {cookie.name: str(cookie.value) for cookie in self.session.cookies}
        if not cookies:
            raise self._error("the answer sets no cookie, and `token_path` is not given")
        self.redactor.add_secrets(*cookies.values())
        return "; ".join(f"{name}={value}" for name, value in cookies.items())

    def _advice(self, refusal: requests.Response | None, remedy: str) -> str:  # noqa: ARG002
        return "Check the request of the login in the connector file, and its user and password."


@dataclass(frozen=True)
class TokenEndpoint(_TokenRequests):
    """Requests tokens as a client of OAuth 2.0."""

    login: OAuthLogin = field(repr=False)
    """References are resolved, and what dlt looks up is filled in."""

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return self.login.access_token_url

    def request(self, grant: Mapping[str, Any], remedy: str = "") -> IssuedToken:
        """Return the token of a grant: the fields of the request without those of the client.

        `remedy` says what to do if the grant is refused. Raises `TokenError`, and `MissingExtraError`
        without the package that signs.
        """
        login = self.login
        more = login.access_token_request_data or {}
        data = {**grant, **{name: as_url_text(value) for name, value in more.items()}}
        options = self._add_client(data)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            **(login.access_token_request_headers or {}),
        }
        content = self._content(self._send("POST", remedy, data=data, headers=headers, **options))
        token = self._token(login.token_path, content)
        lifetime = self._lifetime_seconds(
            login.expires_in_path, content, login.default_token_expiration
        )
        return _issued(token, lifetime, content)

    def _add_client(self, data: dict[str, Any]) -> dict[str, Any]:
        """Add what proves the client to the fields; return the options of the request for the rest."""
        login = self.login
        given = {"client_id": login.client_id, "client_secret": login.client_secret}
        client = {name: value for name, value in given.items() if value is not None}
        if login.client_authentication == "basic":
            pair = (login.client_id or "", login.client_secret or "")
            # as bytes: requests would encode texts as Latin-1, and RFC 6749 asks for UTF-8
            return {"auth": tuple(text.encode() for text in pair)}
        if login.client_authentication == "private_key_jwt" and login.client_key is not None:
            who = str(login.client_id)
            audience = login.client_assertion_audience or login.access_token_url
            claims = {"iss": who, "sub": who, "aud": audience}
            client = {
                "client_id": who,
                "client_assertion_type": _CLIENT_ASSERTION,
                "client_assertion": self.sign(login.client_key, claims),
            }
        # the fields of the file come last, as in dlt
        data |= {name: value for name, value in client.items() if name not in data}
        return {}

    def sign(
        self, key: SigningKey, claims: Mapping[str, Any], seconds: int = _ASSERTION_SECONDS
    ) -> str:
        """Return a JSON web token with these claims, an id and times, and redact it from now on.

        Raises `MissingExtraError`, and `TokenError` for a key that can't sign.
        """
        now = int(time.time())
        # an id of its own: servers refuse an assertion that was used before
        times = {"iat": now, "exp": now + seconds, "jti": str(uuid.uuid4())}
        try:
            token = _sign_jwt(key, {**times, **claims})
        except ImportError:
            raise MissingExtraError("a signed token", "joserfc", "logins") from None
        except Exception as error:  # noqa: BLE001 - the libraries raise anything for a wrong key
            problem = f"the private key can't sign with {key.algorithm} ({type(error).__name__})"
        else:
            self.redactor.add_secrets(token)
            return token
        # outside the `except`: the context could show the key
        raise self._error(problem)

    def _advice(self, refusal: requests.Response | None, remedy: str) -> str:
        check = (
            "Check client_id, client_secret and access_token_url of the auth in the connector file."
        )
        more = _refusal_advice(self.login, refusal, remedy) if refusal is not None else ""
        return f"{check} {more}".rstrip()


def grant_token(endpoint: TokenEndpoint) -> IssueToken:
    """Return what requests the tokens of a login without a refresh token."""
    login = endpoint.login

    def grant() -> Mapping[str, Any]:
        if isinstance(login, OAuth2PasswordAuth):
            user = {"username": login.username, "password": login.password}
            return {"grant_type": "password", **user}
        if isinstance(login, OAuth2JwtBearerAuth):
            return {"grant_type": _JWT_BEARER, "assertion": _assertion(endpoint, login)}
        return {"grant_type": "client_credentials"}

    return lambda _: endpoint.request(grant())


def _assertion(endpoint: TokenEndpoint, login: OAuth2JwtBearerAuth) -> str:
    issuer = login.issuer or _service_account(login.signing_key).get("client_email")
    issuer = issuer or login.client_id
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": login.subject or issuer,
        "aud": login.audience or login.access_token_url,
    }
    if login.scopes:
        claims["scope"] = " ".join(login.scopes)
    claims |= login.claims or {}
    return endpoint.sign(login.signing_key, claims, login.assertion_seconds)


def _service_account(key: SigningKey) -> Mapping[str, Any]:
    """Return the fields of a Google service account that stands in place of a key; else none."""
    try:
        parsed = json.loads(key.key)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) and "private_key" in parsed else {}


def _sign_jwt(key: SigningKey, claims: Mapping[str, Any]) -> str:
    # only files that sign need the package, and it takes long to import
    from joserfc import jwt
    from joserfc.jwk import JWKRegistry

    account = _service_account(key)
    text = str(account.get("private_key", key.key)).strip()
    key_id = key.key_id or account.get("private_key_id")
    header = {"alg": key.algorithm, "typ": "JWT", **({"kid": key_id} if key_id else {})}
    if text.startswith("{"):
        made: Any = JWKRegistry.import_key(json.loads(text))
    else:
        kinds = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
        # a variable in .env may have its line breaks written out
        made = JWKRegistry.import_key(text.replace("\\n", "\n"), kinds[key.algorithm[:2]])
    return jwt.encode(header, dict(claims), made, algorithms=[key.algorithm])


_GRANT_ADVICE: Mapping[type[OAuthLogin], str] = {
    OAuth2RefreshTokenAuth: "The refresh token has expired, was revoked or was used before",
    OAuth2PasswordAuth: "The user name or the password is wrong, or the account needs a second factor",
    OAuth2JwtBearerAuth: "The assertion is not accepted: check `issuer`, `subject`, `audience`, `scopes`, the "
    "key, its `key_id` and `algorithm`, and the clock of this machine",
}
_CODE_ADVICE = {
    "unauthorized_client": "The client may not use this type of auth: allow it where the client is registered.",
    "unsupported_grant_type": "The endpoint doesn't know this type of auth.",
    "invalid_scope": "Check the scopes of the auth.",
}


def _refusal_advice(login: OAuthLogin, refusal: requests.Response, remedy: str) -> str:
    """Return what can be wrong with a refused request: by its error code (RFC 6749, 5.2) if it has one."""
    try:
        content = refusal.json()
    except (requests.exceptions.JSONDecodeError, UnicodeDecodeError, RecursionError):
        content = None
    code = content.get("error") if isinstance(content, dict) else None
    parts = [_CODE_ADVICE[code]] if code in _CODE_ADVICE else []
    is_unclear = code not in (*_CODE_ADVICE, "invalid_grant", "invalid_client")
    if refusal.status_code in (400, 401):
        # an endpoint that doesn't find the client where it looks for it says any of these
        if code != "invalid_grant" and not parts:
            parts.append(_client_advice(login))
        if type(login) in _GRANT_ADVICE and (code == "invalid_grant" or is_unclear):
            parts.append(f"{_GRANT_ADVICE[type(login)]}. {remedy}".rstrip())
    return " ".join(parts)


def _client_advice(login: OAuthLogin) -> str:
    if login.client_authentication == "private_key_jwt":
        return (
            "If they are right, the endpoint may not have the public key of `client_key`, know it by another "
            "`key_id` or `algorithm`, expect another `client_assertion_audience`, or take the client in "
            'another way: set "client_authentication": "basic" or "body".'
        )
    other = (
        ("body", "in the body")
        if login.client_authentication == "basic"
        else ("basic", "by HTTP Basic")
    )
    return (
        f"If they are right, the endpoint may take them {other[1]} only: set "
        f'"client_authentication": "{other[0]}". If it wants a signed token, set "private_key_jwt".'
    )
