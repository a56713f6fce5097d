"""The format of an endpoint's responses: which files of rows an API may send, and how each is read."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, WithJsonSchema

from restsource_dagster.connector.models.fields import (
    FileModel,
    Flag,
    Text,
    count_from_one,
    refuse_type,
    refuse_value,
)

__all__ = ["FORMATS", "BodyFormat", "FormatName", "record_path"]

FormatName = Literal["json", "jsonl", "csv", "xml"]
FORMATS: tuple[FormatName, ...] = ("json", "jsonl", "csv", "xml")

_CSV_FIELDS = (
    *("delimiter", "quote", "escape", "header", "column_names", "null_values", "skip_lines"),
)
_MEDIA_TYPES: dict[str, FormatName] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/comma-separated-values": "csv",
    "text/tab-separated-values": "csv",
    "application/jsonl": "jsonl",
    "application/x-jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "application/x-jsonlines": "jsonl",
    "application/ndjson": "jsonl",
    "application/x-ndjson": "jsonl",
    "text/x-ndjson": "jsonl",
    "application/json": "json",
    "text/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
}
_ENDINGS: dict[str, FormatName] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".xml": "xml",
}
_TABBED = ("text/tab-separated-values", ".tsv")
_STEP = r"(?:[^\W\d][\w:-]*|'[^']+'|\"[^\"]+\")(?:\[\*\])?"
_RECORD_PATH = re.compile(rf"(?:\$\.)?({_STEP}(?:\.{_STEP})*)")


def _check_encoding(value: Any) -> Any:
    if not isinstance(value, str):
        refuse_type("the name of an encoding, such as `utf-8` or `latin-1`")
    try:
        "".encode(value)
    except (LookupError, ValueError):
        refuse_value("the name of an encoding, such as `latin-1`")
    return value


def _check_character(value: Any) -> Any:
    # pyarrow takes one byte
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in "\r\n":
        refuse_type("one ASCII character, such as `;`")
    return value


Encoding = Annotated[str, PlainValidator(_check_encoding), WithJsonSchema({"type": "string"})]
Character = Annotated[
    str,
    PlainValidator(_check_character),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 1}),
]


class BodyFormat(FileModel):
    """How the responses of an endpoint are read, if they are no plain JSON.

    A response is downloaded to the disk first; a download that breaks is repeated. It may take longer
    than `http.timeout_seconds`, but each megabyte must arrive within that time. Then its rows are read
    piece by piece, so that a file of any size fits into memory.
    """

    format: FormatName | None = Field(
        default=None,
        description="`csv`, `jsonl` (one JSON object in each line), `xml` or `json`. If left out: by the "
        "`Content-Type` of the response, else by the ending of the file's name.",
    )
    encoding: Encoding | None = Field(
        default=None,
        description="The encoding of the text, such as `latin-1`. If left out: by the byte order mark, "
        "else by the `Content-Type`, else UTF-8. A byte that doesn't fit is an error.",
    )
    compression: Literal["gzip", "zip", "none"] | None = Field(
        default=None,
        description="How the file is packed. If left out, its first bytes tell. `Content-Encoding` is "
        "undone in any case.",
    )
    member: Text | None = Field(
        default=None,
        description="The files of a zip that are read, as a pattern such as `orders-*.csv`. If left out, "
        "the zip must have one file only.",
        min_length=1,
    )
    max_mb: Annotated[int, *count_from_one(1_000_000)] = Field(
        default=10_000,
        description="The most megabytes of a response, unpacked. `http.max_response_mb` limits what is read "
        "into memory at once: a whole JSON body, or the part of an XML file outside of its records.",
    )
    allow_empty: Flag = Field(
        default=False,
        description="`true`: a body without a single byte has no rows. If left out, it is an error. A CSV file "
        "with a header only always has no rows.",
    )
    delimiter: Character | None = Field(
        default=None,
        description="CSV: the character between two values. If left out, a comma, or a tab for "
        "`text/tab-separated-values` and `.tsv`.",
    )
    quote: Character | None = Field(
        default=None,
        description='CSV: the character around values that contain a delimiter. If left out, `"`.',
    )
    escape: Character | None = Field(
        default=None,
        description="CSV: the character before a quote within quotes. If left out, the quote is doubled.",
    )
    header: Flag = Field(
        default=True,
        description="CSV: `false` if the first line is a row already. Then `column_names` is needed.",
    )
    column_names: list[Text] | None = Field(
        default=None, description="CSV: the names of the columns of a file without a header."
    )
    null_values: list[Text] = Field(
        default=[""],
        description="CSV: the words that mean null, unless they are in quotes. If left out, only a value "
        'without any character; `""` in quotes is an empty text.',
    )
    skip_lines: Annotated[int, *count_from_one(10_000)] | None = Field(
        default=None, description="CSV: how many lines stand before the header."
    )
    attribute_prefix: Text = Field(
        default="_",
        description="XML: what the field of an attribute starts with: `<order id='1'>` has the field `_id`. "
        "The text of an element with attributes is `_text`.",
    )

    @property
    def needs_file(self) -> bool:
        """True for formats that are read piece by piece: all but JSON."""
        return self.format != "json"

    def misplaced_fields(self) -> Iterator[tuple[str, str]]:
        """Yield each field that another format or compression makes useless, with what it is for."""
        given = self.given
        if self.format not in (None, "csv"):
            yield from ((name, "CSV") for name in _CSV_FIELDS if name in given)
        if self.format not in (None, "xml") and "attribute_prefix" in given:
            yield "attribute_prefix", "XML"
        if self.compression not in (None, "zip") and "member" in given:
            yield "member", "a zip"

    def format_of(self, content_type: str, *names: str) -> FormatName | None:
        """Return the format of a file by its media type, else by its names; None if neither tells."""
        # the file knows better than a server that sends all files as `application/octet-stream`
        if self.format is not None:
            return self.format
        media = _media_type(content_type)
        if media in _MEDIA_TYPES:
            return _MEDIA_TYPES[media]
        # structured syntax suffixes: RFC 6838, section 4.2.8
        if media.endswith(("+json", "+xml")):
            return "json" if media.endswith("+json") else "xml"
        return next((_ENDINGS[end] for end in map(_ending_of, names) if end in _ENDINGS), None)

    def delimiter_of(self, content_type: str, *names: str) -> str:
        """Return the delimiter of a CSV file."""
        is_tabbed = bool({_media_type(content_type), *map(_ending_of, names)} & {*_TABBED})
        return self.delimiter or ("\t" if is_tabbed else ",")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _ending_of(name: str) -> str:
    """Return the ending of a file's name or URL, without that of its compression."""
    # `orders.csv.gz` is CSV; its first bytes tell how it is packed
    path = PurePosixPath(urlsplit(name).path.lower())
    return (path.with_suffix("") if path.suffix in (".gz", ".gzip", ".zip") else path).suffix


def record_path(selector: str) -> tuple[str, ...] | None:
    """Return the names of the elements from the root of an XML file to its records.

    None for a selector that is no plain path, such as one with a filter. `[*]` after a name changes
    nothing: an element that is there once is one record.
    """
    if not (found := _RECORD_PATH.fullmatch(selector)):
        return None
    steps = re.findall(_STEP, found[1])
    return tuple(step.removesuffix("[*]").strip("'\"") for step in steps)
