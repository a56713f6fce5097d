"""OAuth 2.0 tokens that are renewed in time, and once more when the API refuses one."""

import threading
import time
from typing import Any

import requests
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from requests.auth import AuthBase

from restsource_dagster.engine.errors import TokenError
from restsource_dagster.engine.redaction import Redactor

__all__ = ["RenewingToken"]

LEEWAY_SECONDS = 60.0
"""How long before its end a token is renewed, but not before four fifths of its life."""


class RenewingToken(AuthBase):
    """dlt's client credentials with a lock, a leeway, errors that say what is wrong, and renewal.

    One token serves all resources and threads of a run.
    """

    def __init__(self, credentials: OAuth2ClientCredentials, redactor: Redactor) -> None:
        self._credentials = credentials
        self._redactor = redactor
        self._lock = threading.Lock()
        self._renew_at = 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize a request, with a new token if the old one is about to end."""
        with self._lock:
            if self._credentials.access_token is None or time.monotonic() >= self._renew_at:
                self._obtain()
            request.headers["Authorization"] = f"Bearer {self._credentials.access_token}"
        return request

    def renew(self, refused: requests.PreparedRequest) -> None:
        """Get another token, unless another thread has done so since this request."""
        with self._lock:
            token = f"Bearer {self._credentials.access_token}"
            if refused.headers.get("Authorization") == token:
                self._obtain()

    def _obtain(self) -> None:
        credentials = self._credentials
        url = credentials.access_token_url
        response = credentials.session.post(url, **credentials.build_access_token_request())
        answer = self._answer(response)
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise TokenError("the answer has no `access_token`", response, self._redactor)
        self._redactor.learn(token)
        lifetime = self._lifetime(answer, response)
        credentials.access_token = token
        self._renew_at = time.monotonic() + max(lifetime - LEEWAY_SECONDS, lifetime * 0.8)

    def _answer(self, response: requests.Response) -> dict[str, Any]:
        if response.status_code >= requests.codes.bad_request:
            raise TokenError(f"it was refused ({response.reason})", response, self._redactor)
        try:
            answer = response.json()
        except requests.exceptions.JSONDecodeError:
            raise TokenError("the answer is not JSON", response, self._redactor) from None
        if not isinstance(answer, dict):
            raise TokenError("the answer is not an object", response, self._redactor)
        return answer

    def _lifetime(self, answer: dict[str, Any], response: requests.Response) -> int:
        try:
            return self._credentials.parse_expiration_in_seconds(answer)
        except (ValueError, TypeError):
            raise TokenError("`expires_in` is no number", response, self._redactor) from None
