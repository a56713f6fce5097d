"""What can go wrong in a run, each with a message that says what failed, why, and what to do."""

from typing import ClassVar

import requests

from restsource_dagster.engine.redaction import Redactor

__all__ = [
    "ConnectorBusyError",
    "DatabaseBusyError",
    "ForeignOriginError",
    "IngestError",
    "RateLimitedError",
    "RequestError",
    "ResponseError",
    "TokenError",
    "UnknownResourceError",
]

_SNIPPET = 500


class IngestError(Exception):
    """The base of all errors of a run."""

    resource: str | None = None
    """The resource at fault, where it is known."""


class UnknownResourceError(IngestError):
    """A run was asked for a resource that the connector does not have."""


class ConnectorBusyError(IngestError):
    """Another run of the same connector is going on and did not end in time."""


class DatabaseBusyError(IngestError):
    """Another process holds the DuckDB file and did not let go in time."""


class ForeignOriginError(IngestError):
    """A link or a redirect leads to another origin than the one that the credentials belong to."""

    def __init__(self, own: str, foreign: str, foreign_host: str) -> None:
        super().__init__(
            f"the API at {own} leads to {foreign}, another origin; nothing was sent there. If that "
            f'host belongs to the API, list it: "http": {{"allowed_hosts": ["{foreign_host}"]}}'
        )


class RateLimitedError(IngestError):
    """The API asks to wait longer than the connector file allows."""

    def __init__(self, asked_seconds: float, max_wait_seconds: float) -> None:
        super().__init__(
            f"the API asks to wait {asked_seconds:.0f} s, more than http.max_wait_seconds "
            f"({max_wait_seconds:.0f}). The next run goes on from the cursor; for a longer wait "
            "raise http.max_wait_seconds."
        )


class RequestError(IngestError):
    """The API could not be reached, or broke off, for a resource's page."""

    def __init__(self, *, resource: str, page: int, url: str, cause: str) -> None:
        super().__init__(
            f"resource {resource}, page {page}: no answer from {url}: {cause}. "
            "Is the API up, and is client.base_url right?"
        )
        self.resource = resource


class ResponseError(IngestError):
    """An answer that is not what the connector file says it is."""

    advice: ClassVar[dict[int, str]] = {
        401: "The API does not know this credential: check client.auth and the variable it names.",
        403: "The credential may not read this: check its scopes.",
        404: "There is no such path: check endpoint.path and client.base_url.",
        429: "The API asks for fewer requests: lengthen the schedule or ask for a higher limit.",
    }

    def __init__(
        self,
        reason: str,
        *,
        resource: str,
        page: int,
        response: requests.Response,
        redactor: Redactor,
    ) -> None:
        self.resource = resource
        self.status = response.status_code
        content_type = response.headers.get("Content-Type", "no content type")
        body = redactor(response.text)[:_SNIPPET].strip() or "(empty)"
        advice = self.advice.get(self.status, "")
        super().__init__(
            f"resource {resource}, page {page}: {redactor(reason)}. "
            f"{response.request.method} {redactor(response.url)} "
            f"answered {self.status} ({content_type}). {advice}".rstrip()
            + f"\nBody: {body}"
        )


class TokenError(IngestError):
    """The token endpoint of an OAuth 2.0 login did not give a token."""

    def __init__(self, reason: str, response: requests.Response, redactor: Redactor) -> None:
        body = redactor(response.text)[:_SNIPPET].strip() or "(empty)"
        super().__init__(
            f"no access token from {redactor(response.url)}: {reason}. It answered "
            f"{response.status_code}. Check client_id, client_secret and access_token_url of "
            f"client.auth.\nBody: {body}"
        )
