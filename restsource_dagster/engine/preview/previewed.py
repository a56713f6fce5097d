"""The result of a preview: frozen values, and their form as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from restsource_dagster.engine.destination.tables import LoadedColumn

__all__ = [
    "PagingVerdict",
    "Preview",
    "PreviewedCursor",
    "PreviewedKey",
    "PreviewedPaging",
    "PreviewedRequest",
    "PreviewedResource",
    "PreviewedTable",
]

PagingVerdict = Literal["proved", "single page", "not proved", "failed"]
"""`proved`: a second page was asked for and its rows differ, or it was empty and so the end.
`single page`: the first answer is the last one, and nothing in it says otherwise.
`not proved`: no second page was asked for, or there were no rows. `failed`: the pages contradict the file."""


@dataclass(frozen=True)
class PreviewedRequest:
    """A request that was sent, with secrets redacted. Token requests are among them."""

    method: str
    url: str
    status: int | None
    """None if no complete answer came."""
    milliseconds: int
    """Of the last try, from sending it to the last byte."""
    bytes: int
    retries: int
    request_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    answer_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    answer: str = field(default="", repr=False)
    """The body as text; cut off after a number of characters (`PreviewLimits.answer_chars`)."""

    def as_dict(self) -> Mapping[str, Any]:
        """Return the request without headers and body."""
        left_out = ("request_headers", "answer_headers", "answer")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


@dataclass(frozen=True)
class PreviewedTable:
    """A table that a load would make, without dlt's own columns."""

    name: str
    columns: tuple[LoadedColumn, ...]
    rows_read: int
    rows: tuple[Mapping[str, Any], ...] = ()
    """The first rows, by column."""


@dataclass(frozen=True)
class PreviewedKey:
    """The primary key over all rows that were read."""

    columns: tuple[str, ...]
    is_unique: bool
    duplicates: tuple[str, ...] = ()
    """The first keys that different rows have. A row that comes twice unchanged doesn't count."""


@dataclass(frozen=True)
class PreviewedCursor:
    """The incremental cursor: where the preview started, and the range of the rows that were read."""

    path: str
    start: Any
    lowest: Any = None
    highest: Any = None


@dataclass(frozen=True)
class PreviewedPaging:
    """What the pages of the first call with rows show."""

    verdict: PagingVerdict
    evidence: str
    pages: int = 0
    rows: tuple[int, ...] = ()
    """The rows of each page."""
    total: int | None = None
    """The rows of the whole call, if the answer says how many."""
    has_ended: bool = False
    """True if the paging ended by itself, so that the call has no more pages."""


@dataclass(frozen=True)
class PreviewedResource:
    """What was read of one resource. `table` is None if its rows could not be normalized."""

    name: str
    parent: str | None
    write_disposition: str
    requests: tuple[PreviewedRequest, ...]
    received: int
    """The rows that the API sent, before steps and the cursor's filter."""
    paging: PreviewedPaging
    table: PreviewedTable | None = None
    nested: tuple[PreviewedTable, ...] = ()
    key: PreviewedKey | None = None
    cursor: PreviewedCursor | None = None
    calls: int = 0
    """The calls that were made."""
    calls_left: int = 0
    """The calls for further parents, values or windows that were not made."""
    records: tuple[Any, ...] = ()
    """The first rows as the API sent them."""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows_read(self) -> int:
        """The rows that a load would bring to the table."""
        return self.table.rows_read if self.table else 0

    def as_dict(self) -> Mapping[str, Any]:
        """Return the resource as JSON values."""
        return {
            **asdict(self),
            "requests": [request.as_dict() for request in self.requests],
            "rows_read": self.rows_read,
        }


@dataclass(frozen=True)
class Preview:
    """The result of a preview."""

    connector: str
    resources: tuple[PreviewedResource, ...] = ()
    problems: tuple[str, ...] = ()
    """What concerns no single resource: a broken file, a variable without a value."""
    ended: str | None = None
    """Why it ended early: a limit, or the person; None if it did not."""
    seconds: float = 0.0

    @property
    def is_fine(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems and not any(one.problems for one in self.resources)

    def as_dict(self) -> Mapping[str, Any]:
        """Return the preview as JSON values; docs/preview.md describes them."""
        return {
            "connector": self.connector,
            "fine": self.is_fine,
            "ended": self.ended,
            "seconds": round(self.seconds, 3),
            "problems": list(self.problems),
            "resources": [one.as_dict() for one in self.resources],
        }
