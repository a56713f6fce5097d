"""Obtain OAuth 2.0 tokens, renew them before they expire, and once when the API refuses one."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from requests.auth import AuthBase

from restsource_dagster.engine.errors import IngestError, TokenError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.session import proxy_variable

__all__ = ["LEEWAY_SECONDS", "RenewingToken"]

LEEWAY_SECONDS = 60.0
"""How long before its expiry a token is renewed, but not before four fifths of its lifetime."""

# fields of a token response; `token_type` and `..._hint` are no secrets
_SECRET_FIELD = re.compile(r"token|secret|assertion|password|key", re.IGNORECASE)
_NON_SECRET_FIELD = re.compile(r"type|hint", re.IGNORECASE)


class RenewingToken(AuthBase):
    """Authorizes requests with dlt's client credentials. Thread-safe.

    With `sends_basic` the client's id and secret are sent as user name and password, not in the body.

    One token serves all resources and threads of a run. While one thread requests a token the others
    wait, and share its token or its error. dlt's own class has no lock, renews a token only after it
    has expired, and reports a refusal without the API's reason.
    """

    def __init__(
        self,
        credentials: OAuth2ClientCredentials,
        redactor: Redactor,
        clock: Callable[[], float] = time.monotonic,
        *,
        sends_basic: bool = False,
    ) -> None:
        self._credentials = credentials
        self._redactor = redactor
        self._clock = clock
        self._sends_basic = sends_basic
        self._lock = threading.Lock()
        self._renew_at = 0.0
        self._attempts = 0
        self._failure = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize a request, with a new token if the old one is about to expire.

        Raises `TokenError`.
        """
        attempts_before = self._attempts
        with self._lock:
            if self._credentials.access_token is None or self._clock() >= self._renew_at:
                self._obtain(attempts_before)
            request.headers["Authorization"] = self._authorization
        return request

    def renew(self, refused: requests.PreparedRequest) -> None:
        """Replace the token of a refused request, unless another thread has already replaced it.

        Raises `TokenError`.
        """
        attempts_before = self._attempts
        with self._lock:
            if refused.headers.get("Authorization") == self._authorization:
                self._obtain(attempts_before)

    @property
    def _authorization(self) -> str:
        return f"Bearer {self._credentials.access_token}"

    def _obtain(self, attempts_before: int) -> None:
        if self._attempts != attempts_before and self._failure:
            # another thread failed while this one waited: trying again would multiply the requests
            raise TokenError(self._failure)
        self._failure = ""
        try:
            self._store_token(self._parse_token_response(self._request_token()))
        except TokenError as error:
            self._failure = str(error)
            raise
        finally:
            self._attempts += 1

    def _request_token(self) -> requests.Response:
        credentials = self._credentials
        try:
            response: requests.Response = credentials.session.post(
                credentials.access_token_url, **self._build_request()
            )
        except (requests.RequestException, IngestError) as error:
            name = "" if isinstance(error, IngestError) else f"{type(error).__name__}: "
            problem = f"{name}{error}"
            if variable := proxy_variable(str(credentials.access_token_url)):
                problem += f" (by the proxy of the environment variable {variable})"
        else:
            return response
        # outside the `except`: the error must not keep the request and its secrets in its context
        raise self._error(problem)

    def _build_request(self) -> dict[str, Any]:
        """Return dlt's token request, its client moved from the body into HTTP Basic if asked to."""
        request: dict[str, Any] = self._credentials.build_access_token_request()
        if self._sends_basic:
            data = dict(request["data"])
            client = (str(data.pop(name)).encode() for name in ("client_id", "client_secret"))
            request = {**request, "data": data, "auth": tuple(client)}
        return request

    def _store_token(self, content: Mapping[str, Any]) -> None:
        # first of all: no message about what fails below may show them
        self._redactor.add_secrets(
            *(
                value
                for name, value in content.items()
                if isinstance(value, str)
                and _SECRET_FIELD.search(name)
                and not _NON_SECRET_FIELD.search(name)
            )
        )
        token = content.get("access_token")
        if not isinstance(token, str) or not token:
            raise self._error(
                f"the answer has no `access_token`, only {', '.join(sorted(content)) or 'nothing'}"
            )
        lifetime = self._lifetime_seconds(content)
        self._credentials.access_token = token
        self._renew_at = self._clock() + max(lifetime - LEEWAY_SECONDS, lifetime * 0.8)

    def _parse_token_response(self, response: requests.Response) -> Mapping[str, Any]:
        if response.status_code >= requests.codes.bad_request:
            raise self._error(f"it was refused ({response.reason})", response)
        try:
            content = response.json()
        except (requests.exceptions.JSONDecodeError, UnicodeDecodeError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self._error(f"the answer ({response.status_code}) is no JSON object")
        return content

    def _lifetime_seconds(self, content: Mapping[str, Any]) -> float:
        """Return `expires_in`; without one the file's default, or an hour."""
        given = content.get("expires_in")
        try:
            seconds = float(given) if given is not None else 0.0
        except (ValueError, TypeError):
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise self._error("`expires_in` is no number of seconds")
        # some servers send 0 for a lifetime that they don't know
        return seconds or float(self._credentials.default_token_expiration or 3600)

    def _error(self, reason: str, refusal: requests.Response | None = None) -> TokenError:
        return TokenError.of(
            self._redactor(reason),
            url=str(self._credentials.access_token_url),
            redact=self._redactor,
            refusal=refusal,
            sends_basic=self._sends_basic,
        )
