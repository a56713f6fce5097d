"""Errors of a run. Each message says what failed, why, and what to do."""

from collections.abc import Callable
from typing import ClassVar, Self

import requests

__all__ = [
    "CallValueError",
    "ConnectorBusyError",
    "DatabaseBusyError",
    "ForeignOriginError",
    "IngestError",
    "JobLostError",
    "PagingError",
    "ParentGoneError",
    "PlaceRefusedError",
    "RateLimitedError",
    "RecordError",
    "RequestError",
    "ResourceError",
    "ResponseError",
    "ResponseTooLargeError",
    "SkippedResourceError",
    "SyncTokenRefusedError",
    "TokenError",
    "UnknownResourceError",
]

Redact = Callable[[str], str]
"""Returns a text with every secret replaced, as `engine.http.redaction.Redactor` does."""

_BODY_SNIPPET_CHARS = 500
# a credential that is refused, or too many requests
_WALL_STATUSES = frozenset({401, 403, 408, 429})
_FIRST_SERVER_ERROR = 500
# how much of a body is redacted before it is cut: a large error page would take seconds
_BODY_SNIPPET_READ_BYTES = 100_000


class IngestError(Exception):
    """Base class of all errors of a run."""

    resource: str | None = None
    """The resource that failed; None if the error belongs to no resource."""
    is_wall = False
    """True if the API refuses to go on for now: what it sent before is right, and a later run gets
    further."""

    def locate(self, resource: str, page: int, redact: Redact) -> None:
        """Redact the message, and put the resource and page in front unless it has a resource."""
        text = str(self)
        if self.resource is None:
            self.resource = resource
            text = f"resource {resource}, page {page}: {text}"
        self.args = (redact(text),)


class ResourceError(IngestError):
    """A resource can't be loaded as the file or the command asks.

    `problem` says why and the way out, without the last full stop.
    """

    def __init__(self, resource: str, problem: str) -> None:
        super().__init__(f"resource {resource}: {problem}.")
        self.resource = resource


class UnknownResourceError(IngestError):
    """A run was requested for a resource that the connector does not have."""


class ConnectorBusyError(IngestError):
    """Another run of the same connector is in progress and did not end in time."""


class DatabaseBusyError(IngestError):
    """Another process has the DuckDB file open and did not close it in time."""


class ForeignOriginError(IngestError):
    """A link or a redirect leads to another origin than the one the credentials belong to."""

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
            advice = "An https API is never called over plain http."
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
    """Paging does not end: a link, a cursor or a page is repeated, or there are too many pages."""


class PlaceRefusedError(IngestError):
    """A load can't go on at the place where it ended, and has to start anew.

    The link or cursor has expired, or the file asks for something else now.
    """

    def __init__(self, resource: str, reason: str) -> None:
        super().__init__(f"resource {resource}: the load can't go on where it ended: {reason}")
        self.resource = resource
        self.reason = reason


class SyncTokenRefusedError(IngestError):
    """The API refuses the token of the last run, and the file says that all rows are loaded then."""

    def __init__(self, resource: str, status: int) -> None:
        super().__init__(f"resource {resource}: the API refuses the stored token ({status})")
        self.resource = resource


class JobLostError(IngestError):
    """The API doesn't know a job of an export any more, or its file has expired."""

    def __init__(self, resource: str, reason: str) -> None:
        super().__init__(f"resource {resource}: {reason}. The next run creates a new job")
        self.resource = resource
        self.reason = reason


class RateLimitedError(IngestError):
    """The API asks to wait longer than `http.max_wait_seconds`."""

    is_wall = True

    def __init__(self, asked_seconds: float, waited_seconds: float, max_seconds: float) -> None:
        waited = f" after {waited_seconds:.0f} s of waiting" if waited_seconds else ""
        super().__init__(
            f"the API asks to wait {asked_seconds:.0f} s{waited}, more than http.max_wait_seconds "
            f"({max_seconds:.0f}) allows. The next run continues after the rows that are stored; to wait longer, "
            "raise http.max_wait_seconds."
        )


class LimitUsedUpError(IngestError):
    """A limit of `http.rate_limits` is used up, and the file says to fail then."""

    is_wall = True

    def __init__(self, most: int, period_seconds: float, free_seconds: float) -> None:
        super().__init__(
            f"the limit of {most:,} in {period_seconds:,.0f} s (http.rate_limits) leaves no room for this request "
            f"for another {free_seconds:,.0f} s. The next run continues after the rows that are stored. If the API "
            "allows more, raise the limit."
        )


class CallValueError(IngestError):
    """A value that a call takes from its parent or cursor can't stand where the file puts it."""


class RequestError(IngestError):
    """No complete response arrived for a page of a resource."""

    is_wall = True

    def __init__(
        self, *, resource: str, page: int, url: str, cause: str, advice: str | None = None
    ) -> None:
        advice = advice or "Is the API up, and is client.base_url right?"
        super().__init__(
            f"resource {resource}, page {page}: no answer from {url}: {cause}. {advice}"
        )
        self.resource = resource


class ResponseError(IngestError):
    """A response that is not what the connector file says it is."""

    advice: ClassVar[dict[int, str]] = {
        401: "The API rejects this credential: check client.auth and the variable it names.",
        403: "The credential may not read this: check its scopes.",
        404: "There is no such path: check endpoint.path and client.base_url.",
        429: "The API wants fewer requests: lengthen the schedule or ask for a higher limit.",
    }

    def __init__(
        self,
        reason: str,
        *,
        resource: str,
        page: int,
        response: requests.Response,
        redact: Redact,
    ) -> None:
        self.resource = resource
        self.status = response.status_code
        self.is_wall = self.status in _WALL_STATUSES or self.status >= _FIRST_SERVER_ERROR
        content_type = response.headers.get("Content-Type", "no content type")
        advice = self.advice.get(self.status, "")
        text = (
            f"resource {resource}, page {page}: {reason}. "
            f"{response.request.method} {response.url} "
            f"answered {self.status} ({content_type}). {advice}"
        )
        super().__init__(f"{redact(text).rstrip()}\nBody: {_body_snippet(response, redact)}")


class SkippedResourceError(IngestError):
    """The file says that a resource is left as it is after the answer of the API (`skip`).

    It ends the attempt to load the family. Another attempt loads the rest of the family without it.
    """

    def __init__(self, resource: str, answer: str) -> None:
        super().__init__(f"resource {resource}: {answer}, and response_actions say `skip`")
        self.resource: str = resource


class ParentGoneError(IngestError):
    """The file says that the record which a call is made for no longer exists (`gone`)."""


class ResponseTooLargeError(IngestError):
    """A response is larger than `option` of the file allows."""

    def __init__(self, max_mb: int, option: str = "http.max_response_mb") -> None:
        super().__init__(
            f"the answer is larger than {max_mb} MB unpacked ({option}), so it was not "
            f"read to its end. Ask for smaller pages, or raise {option}."
        )


class RecordError(IngestError):
    """A record that can't be loaded unchanged. `page` and `row` count from 1."""

    def __init__(self, resource: str, page: int | None, row: int, field: str, problem: str) -> None:
        self._place = (page, row, field, problem)
        super().__init__(self._text(resource, row))
        self.resource = resource

    def _text(self, resource: str, row: int) -> str:
        page, _, field, problem = self._place
        where = f", page {page}" if page else ""
        field = f", field {field}" if field else ""
        return f"resource {resource}{where}, row {row}{field}: {problem}"

    def move_rows(self, before: int) -> None:
        """Count the row from the start of its page, `before` rows ahead of where it was counted from."""
        self.args = (self._text(str(self.resource), self._place[1] + before),)


class TokenError(IngestError):
    """A login got no token."""

    is_wall = True
    is_refusal = False
    """True if the endpoint has answered, and issued nothing."""

    @classmethod
    def of(
        cls,
        reason: str,
        *,
        url: str,
        redact: Redact,
        advice: str,
        refusal: requests.Response | None = None,
    ) -> Self:
        """Return the error of a request to `url`.

        It quotes the body of a refusal only: any other body may hold a token in an unknown place.
        """
        text = f"no access token from {redact(url)}: {reason}. {advice}"
        if refusal is None:
            return cls(text)
        error = cls(f"{text} It answered {refusal.status_code}: {_body_snippet(refusal, redact)}")
        error.is_refusal = refusal.status_code in range(400, 500)
        return error


class MissingExtraError(IngestError):
    """A package is missing that only some files need."""

    is_wall = True

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed. Run "
            f'pip install "restsource-dagster[{extra}]"'
        )


def _body_snippet(response: requests.Response, redact: Redact) -> str:
    """Return the redacted beginning of a body, without control characters."""
    raw = response.content[:_BODY_SNIPPET_READ_BYTES]
    try:
        text = raw.decode(response.encoding or "utf-8", "replace")
    except LookupError:  # the header names a charset that does not exist
        text = raw.decode("utf-8", "replace")
    # redacted before it is cut: half a secret is not found any more
    text = "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in redact(text).replace("\r\n", "\n")[:_BODY_SNIPPET_CHARS]
    )
    return text.strip() or "(empty)"
