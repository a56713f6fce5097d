"""Obtain OAuth 2.0 tokens, renew them before they expire, and once when the API refuses one."""

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

from restsource_dagster.connector.models.auth import (
    OAuth2JwtBearerAuth,
    OAuth2PasswordAuth,
    OAuth2RefreshTokenAuth,
    OAuthLogin,
    SendAs,
    SigningKey,
)
from restsource_dagster.connector.models.endpoint import as_url_text
from restsource_dagster.engine.dlt_compat import jsonpath
from restsource_dagster.engine.errors import IngestError, MissingExtraError, TokenError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.session import proxy_variable

__all__ = [
    "LEEWAY_SECONDS",
    "IssueToken",
    "IssuedToken",
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
        attempts_before = self._attempts
        with self._lock:
            if self._token is None or self._clock() >= self._renew_at:
                self._obtain(attempts_before)
            self._add_to(request, str(self._token))
        return request

    def renew(self, refused: requests.PreparedRequest) -> None:
        """Replace the token of a refused request, unless another thread has already replaced it.

        Raises `TokenError`.
        """
        attempts_before = self._attempts
        with self._lock:
            if self._token is not None and self._has(refused, self._token):
                self._obtain(attempts_before)

    def _add_to(self, request: requests.PreparedRequest, token: str) -> None:
        send_as = self._send_as
        if send_as.location == "query":
            request.prepare_url(str(request.url), {str(send_as.name): token})
        elif send_as.location == "cookie":
            others = request.headers.get("Cookie")  # those that the API has set
            own = f"{send_as.name}={token}"
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
            sent = request.headers.get("Cookie", "").split("; ")
            return f"{send_as.name}={token}" in sent
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
class TokenEndpoint:
    """Requests tokens as a client of OAuth 2.0, through the connector's own session."""

    login: OAuthLogin = field(repr=False)
    """References are resolved, and what dlt looks up is filled in."""
    session: requests.Session
    redactor: Redactor

    def request(self, grant: Mapping[str, Any], remedy: str = "") -> IssuedToken:
        """Return the token of a grant: the fields of the request without those of the client.

        `remedy` says what to do if the grant is refused. Raises `TokenError`, and `MissingExtraError` without the package that signs.
        """
        login = self.login
        more = login.access_token_request_data or {}
        data = {**grant, **{name: as_url_text(value) for name, value in more.items()}}
        options = self._add_client(data)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            **(login.access_token_request_headers or {}),
        }
        try:
            response = self.session.post(
                login.access_token_url, data=data, headers=headers, **options
            )
        except (requests.RequestException, IngestError) as error:
            problem = self._describe_failure(error)
        else:
            return self._read(response, remedy)
        # outside the `except`: the error must not keep the request and its secrets in its context
        raise self._error(problem)

    def _add_client(self, data: dict[str, Any]) -> dict[str, Any]:
        """Add what proves the client to the fields; return the options of the request for the rest."""
        login = self.login
        given = {"client_id": login.client_id, "client_secret": login.client_secret}
        client = {name: value for name, value in given.items() if value is not None}
        if login.client_authentication == "basic":
            pair = (login.client_id or "", login.client_secret or "")
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

    def _describe_failure(self, error: Exception) -> str:
        name = "" if isinstance(error, IngestError) else f"{type(error).__name__}: "
        problem = f"{name}{error}"
        if variable := proxy_variable(str(self.login.access_token_url)):
            problem += f" (by the proxy of the environment variable {variable})"
        return problem

    def _read(self, response: requests.Response, remedy: str) -> IssuedToken:
        if response.status_code >= requests.codes.bad_request:
            raise self._error(f"it was refused ({response.reason})", response, remedy)
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
        token = self.find(self.login.token_path, content)
        if not isinstance(token, str) or not token:
            raise self._error(
                f"the answer has no `{self.login.token_path}`, only "
                f"{', '.join(sorted(content)) or 'nothing'}"
            )
        self.redactor.add_secrets(token)
        lifetime = self._lifetime_seconds(content)
        return IssuedToken(token, max(lifetime - LEEWAY_SECONDS, lifetime * 0.8), content)

    def find(self, path: str, content: Mapping[str, Any]) -> Any:
        """Return what a path finds in an answer; None for nothing."""
        found = jsonpath.find_values(path, dict(content))
        return found[0] if found else None

    def _lifetime_seconds(self, content: Mapping[str, Any]) -> float:
        """Return the lifetime that the answer says; without one the file's default, or an hour."""
        given = self.find(self.login.expires_in_path, content)
        try:
            seconds = float(given) if given is not None else 0.0
        except (ValueError, TypeError):
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise self._error(f"`{self.login.expires_in_path}` is no number of seconds")
        # some servers send 0 for a lifetime that they don't know
        return seconds or float(self.login.default_token_expiration or 3600)

    def _error(
        self, reason: str, refusal: requests.Response | None = None, remedy: str = ""
    ) -> TokenError:
        advice = (
            "Check client_id, client_secret and access_token_url of the auth in the connector file."
        )
        if refusal is not None:
            advice = f"{advice} {_refusal_advice(self.login, refusal, remedy)}".rstrip()
        return TokenError.of(
            self.redactor(reason),
            url=str(self.login.access_token_url),
            redact=self.redactor,
            advice=advice,
            refusal=refusal,
        )


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
