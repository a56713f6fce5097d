"""OAuth 2.0 tokens that are renewed in time, and once more when the API refuses one."""

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

__all__ = ["LEEWAY_SECONDS", "RenewingToken"]

LEEWAY_SECONDS = 60.0
"""How long before its end a token is renewed, but not before four fifths of its life."""
_SECRET_FIELD = re.compile(r"token|secret|assertion|password|key", re.IGNORECASE)
_NON_SECRET_FIELD = re.compile(r"type|hint", re.IGNORECASE)


class RenewingToken(AuthBase):
    """dlt's client credentials with a lock, a leeway, errors that say what is wrong, and renewal.

    One token serves all resources and threads of a run. Threads that wait while one asks for a
    token share what it gets, be it a token or an error.
    """

    def __init__(
        self,
        credentials: OAuth2ClientCredentials,
        redactor: Redactor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._redactor = redactor
        self._clock = clock
        self._lock = threading.Lock()
        self._renew_at = 0.0
        self._tries = 0
        self._failure = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize a request, with a new token if the old one is about to end.

        Raises `TokenError`.
        """
        seen = self._tries
        with self._lock:
            if self._credentials.access_token is None or self._clock() >= self._renew_at:
                self._obtain(seen)
            request.headers["Authorization"] = self._authorization
        return request

    def renew(self, refused: requests.PreparedRequest) -> None:
        """Get another token, unless another thread has done so since this request.

        Raises `TokenError`.
        """
        seen = self._tries
        with self._lock:
            if refused.headers.get("Authorization") == self._authorization:
                self._obtain(seen)

    @property
    def _authorization(self) -> str:
        return f"Bearer {self._credentials.access_token}"

    def _obtain(self, seen: int) -> None:
        if self._tries != seen and self._failure:  # another thread has just tried, for us, too
            raise TokenError(self._failure)
        self._failure = ""
        try:
            self._take(self._answer(self._ask()))
        except TokenError as error:
            self._failure = str(error)
            raise
        finally:
            self._tries += 1

    def _ask(self) -> requests.Response:
        credentials = self._credentials
        try:
            response: requests.Response = credentials.session.post(
                credentials.access_token_url, **credentials.build_access_token_request()
            )
        except (requests.RequestException, IngestError) as error:
            name = "" if isinstance(error, IngestError) else f"{type(error).__name__}: "
            problem = f"{name}{error}"
        else:
            return response
        raise self._error(problem)  # here, so that the error does not hang on to the request

    def _take(self, answer: Mapping[str, Any]) -> None:
        self._redactor.learn(
            *(
                value
                for name, value in answer.items()
                if isinstance(value, str)
                and _SECRET_FIELD.search(name)
                and not _NON_SECRET_FIELD.search(name)
            )
        )
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise self._error(
                f"the answer has no `access_token`, only {', '.join(sorted(answer)) or 'nothing'}"
            )
        lifetime = self._lifetime_seconds(answer)
        self._credentials.access_token = token
        self._renew_at = self._clock() + max(lifetime - LEEWAY_SECONDS, lifetime * 0.8)

    def _answer(self, response: requests.Response) -> Mapping[str, Any]:
        if response.status_code >= requests.codes.bad_request:
            raise self._error(f"it was refused ({response.reason})", response)
        try:
            answer = response.json()
        except (requests.exceptions.JSONDecodeError, UnicodeDecodeError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._error(f"the answer ({response.status_code}) is no JSON object")
        return answer

    def _lifetime_seconds(self, answer: Mapping[str, Any]) -> float:
        """Seconds; what the file (or dlt) says where the answer does not."""
        given = answer.get("expires_in")
        try:
            seconds = float(given) if given is not None else 0.0
        except (ValueError, TypeError):
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise self._error("`expires_in` is no number of seconds")
        return seconds or float(self._credentials.default_token_expiration or 3600)

    def _error(self, reason: str, refusal: requests.Response | None = None) -> TokenError:
        return TokenError.of(
            self._redactor(reason),
            url=str(self._credentials.access_token_url),
            redactor=self._redactor,
            refusal=refusal,
        )
