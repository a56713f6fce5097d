"""What can go wrong in a run, each with a message that says what failed, why, and what to do."""

from typing import ClassVar, Self

import requests

from restsource_dagster.engine.http.redaction import Redactor

__all__ = [
    "ConnectorBusyError",
    "DatabaseBusyError",
    "ForeignOriginError",
    "IngestError",
    "PagingError",
    "RateLimitedError",
    "RecordError",
    "RequestError",
    "ResponseError",
    "TokenError",
    "UnknownResourceError",
]

_BODY_SNIPPET_CHARS = 500
_BODY_SNIPPET_READ_BYTES = 100_000


class IngestError(Exception):
    """The base of all errors of a run."""

    resource: str | None = None
    """The resource at fault, where it is known."""

    def at(self, resource: str, page: int, redactor: Redactor) -> None:
        """Say where it happened, unless it is known, and hide every secret."""
        text = str(self)
        if self.resource is None:
            self.resource = resource
            text = f"resource {resource}, page {page}: {text}"
        self.args = (redactor(text),)


class UnknownResourceError(IngestError):
    """A run was asked for a resource that the connector does not have."""


class ConnectorBusyError(IngestError):
    """Another run of the same connector is going on and did not end in time."""


class DatabaseBusyError(IngestError):
    """Another process holds the DuckDB file and did not let go in time."""


class ForeignOriginError(IngestError):
    """A link or a redirect leads to another origin than the one that the credentials belong to."""

    def __init__(
        self,
        own: str,
        foreign: str,
        foreign_host: str,
        *,
        same_host: bool = False,
        downgrade: bool = False,
    ) -> None:
        if downgrade:
            advice = "Plain http is never asked in place of https."
        elif same_host:
            advice = f"If that is the API's right address, use {foreign} in client.base_url."
        else:
            advice = (
                "If that host belongs to the API, list it: "
                f'"http": {{"allowed_hosts": ["{foreign_host}"]}}'
            )
        super().__init__(
            f"the API at {own} leads to {foreign}, another origin; nothing was sent there. {advice}"
        )


class PagingError(IngestError):
    """Paging does not end: a link, a cursor or a page comes again, or there are too many."""


class RateLimitedError(IngestError):
    """The API asks to wait longer than the connector file allows."""

    def __init__(self, asked_seconds: float, waited_seconds: float, most_seconds: float) -> None:
        waited = f" after {waited_seconds:.0f} s of waiting" if waited_seconds else ""
        super().__init__(
            f"the API asks to wait {asked_seconds:.0f} s{waited}, more than http.max_wait_seconds "
            f"({most_seconds:.0f}) allows. The next run goes on from the cursor; for a longer wait "
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
        advice = self.advice.get(self.status, "")
        text = (
            f"resource {resource}, page {page}: {reason}. "
            f"{response.request.method} {response.url} "
            f"answered {self.status} ({content_type}). {advice}"
        )
        super().__init__(f"{redactor(text).rstrip()}\nBody: {_body_snippet(response, redactor)}")


class RecordError(IngestError):
    """A record that can't be loaded as it is. `page` and `row` count from 1."""

    def __init__(self, resource: str, page: int | None, row: int, field: str, problem: str) -> None:
        where = f", page {page}" if page else ""
        field = f", field {field}" if field else ""
        super().__init__(f"resource {resource}{where}, row {row}{field}: {problem}")
        self.resource = resource


class TokenError(IngestError):
    """The token endpoint of an OAuth 2.0 login did not give a token."""

    @classmethod
    def of(
        cls,
        reason: str,
        *,
        url: str,
        redactor: Redactor,
        refusal: requests.Response | None = None,
    ) -> Self:
        """An error for a request to `url`.

        The body is shown of a refusal only: any other may hold a token in an unknown place.
        """
        text = (
            f"no access token from {redactor(url)}: {reason}. Check client_id, client_secret and "
            "access_token_url of the auth in the connector file."
        )
        if refusal is None:
            return cls(text)
        return cls(f"{text} It answered {refusal.status_code}: {_body_snippet(refusal, redactor)}")


def _body_snippet(response: requests.Response, redactor: Redactor) -> str:
    """The start of a body, secrets hidden before it is cut, so that no half of one is left."""
    raw = response.content[:_BODY_SNIPPET_READ_BYTES]
    try:
        text = raw.decode(response.encoding or "utf-8", "replace")
    except LookupError:  # a charset nobody knows
        text = raw.decode("utf-8", "replace")
    text = "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in redactor(text).replace("\r\n", "\n")[:_BODY_SNIPPET_CHARS]
    )
    return text.strip() or "(empty)"
