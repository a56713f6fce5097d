"""The requests and answers that a source has: a cURL command, a Postman collection, a HAR file.

A variable in a text of a request is a mark, which becomes a reference in the file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

from restsource_dagster.authoring.importing.imported_api import (
    ImportedPaginator,
    ImportedStep,
)
from restsource_dagster.authoring.importing.source_pieces import Piece
from restsource_dagster.connector.models.incremental_cursor import Incremental

__all__ = [
    "MARKED",
    "MARK_START",
    "AnsweredParts",
    "SentAnswer",
    "SentField",
    "SentLogin",
    "SourceRequest",
    "variable_mark",
]

# of Unicode's private use: no text that a person writes has them
MARK_START, _MARK_END = "\ue000", "\ue001"
MARKED = re.compile(f"{MARK_START}([A-Za-z_][A-Za-z0-9_]*){_MARK_END}")


def variable_mark(name: str) -> str:
    """Return what stands for a variable in a text of a request: it becomes `${name}` in the file."""
    return f"{MARK_START}{name}{_MARK_END}"


@dataclass(frozen=True, eq=False)
class SentField:
    """A header, a param or a field of a form, and the piece of the source that it is."""

    name: str
    value: str
    piece: Piece


@dataclass(frozen=True)
class SentLogin:
    """A login that a source names apart from the headers. `values` has its parts by the names in `auth`."""

    kind: Literal["bearer", "basic", "digest", "key", "client_credentials"]
    values: Mapping[str, str]
    piece: Piece
    location: Literal["header", "query"] = "header"


@dataclass(frozen=True)
class SentAnswer:
    """An answer that a source has: its decoded JSON, and the piece of the source that it is."""

    body: Any
    piece: Piece
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


@dataclass(frozen=True)
class SourceRequest:
    """One request of a source. `url` has no query; texts may hold marks of variables."""

    piece: Piece
    method: str
    url: str
    url_piece: Piece
    name: str | None = None
    query: tuple[SentField, ...] = ()
    headers: tuple[SentField, ...] = ()
    form: tuple[SentField, ...] = ()
    is_multipart: bool = False
    body: str | None = None
    body_piece: Piece | None = None
    login: SentLogin | None = None
    answers: tuple[SentAnswer, ...] = ()

    @property
    def origin(self) -> str:
        """Scheme, host and port; a variable, if the address begins with one."""
        start, slashes, rest = (
            self.url.rpartition("://") if "://" in self.url else ("", "", self.url)
        )
        return f"{start}{slashes}{rest.partition('/')[0].rpartition('@')[2]}"

    @property
    def path(self) -> str:
        """The path of the address."""
        return self.url.partition("://")[2 if "://" in self.url else 0].partition("/")[2]

    @property
    def shown_url(self) -> str:
        """The address with its query."""
        pairs = [(each.name, each.value) for each in self.query]
        return f"{self.url}?{urlencode(pairs)}" if pairs else self.url


@dataclass(frozen=True)
class AnsweredParts:
    """What the answers of a request say: where the records are, the paging, the key and the cursor."""

    data_selector: str | None = None
    paginator: ImportedPaginator | None = None
    primary_key: str | None = None
    incremental: Incremental | None = None
    processing_steps: tuple[ImportedStep, ...] = ()

    def claimed(self, query: Sequence[SentField]) -> tuple[SentField, ...]:
        """Return the params that the paginator and the cursor send themselves."""
        names = {
            getattr(part, name, None)
            for part in (self.paginator, self.incremental)
            for name in ("page_param", "offset_param", "limit_param", "cursor_param", "start_param")
        }
        return tuple(sent for sent in query if sent.name in names)
