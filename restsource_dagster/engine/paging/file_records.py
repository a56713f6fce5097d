"""The records of a body on the disk, a batch at a time: CSV, lines of JSON, XML.

However large the file is, only a batch of it is in memory. Each error names the file's line, row or
byte.
"""

import csv
import io
import json
import re
import secrets
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from xml.parsers import expat

import orjson
import requests

from restsource_dagster.connector.models.body_format import BodyFormat, FormatName, record_path
from restsource_dagster.engine.http.body_file import (
    BodyError,
    BodyFile,
    TextStream,
    text_streams,
)
from restsource_dagster.engine.http.json_body import (
    UnverifiedRecords,
    object_with_duplicate_key,
)

__all__ = ["FileFormat", "FileRecords"]

_BATCH_ROWS = 10_000
_BATCH_BYTES = 4_000_000
_CSV_BLOCK_BYTES = 8_000_000
"""No row may be longer: pyarrow reads in such blocks."""
_HEADER_BYTES = 1_000_000
_SNIPPET_CHARS = 80
_OTHER_DELIMITERS = (";", "\t", "|", ",")
_MEGABYTE = 1_000_000
_XML_TAG = re.compile(rb"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")

Records = list[Any]


@dataclass(frozen=True)
class FileFormat:
    """How the bodies of an endpoint are read from the disk."""

    body: BodyFormat = field(default_factory=BodyFormat)
    selector: str | None = None
    """The `data_selector`: the path of the records of an XML file."""
    max_memory_mb: int = 256
    """The most that is read at once, in megabytes."""

    def name_of(self, response: requests.Response) -> FormatName | None:
        """Return the format of a response; None if nothing tells it."""
        return self.body.format_of(_content_type(response), *_file_names(response))

    def is_json(self, response: requests.Response) -> bool:
        """True for a body that is read as a whole, as all JSON is."""
        return self.name_of(response) == "json"

    def read_json(self, response: requests.Response, file: BodyFile) -> bytes:
        """Return the JSON of a body as UTF-8. Raises `BodyError`, also for more than `max_memory_mb`."""
        max_mb = self.max_memory_mb
        streams = text_streams(file, self.body, response.encoding)
        stream = next(streams)
        raw = io.BufferedReader(stream).read(max_mb * _MEGABYTE + 1)
        if len(raw) > max_mb * _MEGABYTE:
            raise BodyError(
                f"the JSON is larger than {max_mb} MB (http.max_response_mb), and it is read as a whole. "
                "Ask for JSON lines or smaller pages, or raise http.max_response_mb"
            )
        if next(streams, None):
            raise BodyError(
                "several files of the zip are JSON, and a body is one. Name one by response.member"
            )
        return raw


class FileRecords:
    """The records in one body on the disk."""

    def __init__(self, response: requests.Response, file: BodyFile, format_: FileFormat) -> None:
        self._response, self._file, self._format = response, file, format_
        self._batches = self._read()
        self.beside: Any = {}
        """What the body has beside its records, known after the last batch: the rest of an XML file as
        xmltodict reads it, `{}` for the others."""

    def next_batch(self) -> Records | None:
        """Return the next records; None after the last. Raises `BodyError`."""
        return next(self._batches, None)

    def close(self) -> None:
        """Delete the body."""
        self._batches.close()
        self._file.close()

    def _read(self) -> Generator[Records, None, None]:
        body, response = self._format.body, self._response
        names = _file_names(response)
        for stream in text_streams(self._file, body, response.encoding):
            if stream.is_empty:
                self._check_empty(stream)
                continue
            content_type = _content_type(response)
            known = body.format_of(content_type, stream.name, *names)
            if known == "csv":
                delimiter = body.delimiter_of(content_type, stream.name, *names)
                yield from _csv_batches(stream, body, delimiter)
            elif known == "jsonl":
                yield from _line_batches(stream, self._format.max_memory_mb)
            elif known == "xml":
                path = self._record_path()
                reader = _XmlReader(stream, path, body, self._format.max_memory_mb)
                yield from reader.batches()
                self.beside = reader.beside
            else:
                raise BodyError(
                    f"neither Content-Type nor a name tells the format{stream.where}; set response.format"
                )

    def _check_empty(self, stream: TextStream) -> None:
        if not self._format.body.allow_empty:
            raise BodyError(
                f"the body is empty{stream.where}. If that means that there are no rows, set "
                '"response": {"allow_empty": true}'
            )

    def _record_path(self) -> tuple[str, ...]:
        selector = self._format.selector
        path = record_path(selector) if selector else None
        if path is None:
            raise BodyError(
                "the body is XML. Set data_selector to the path of its records from the root on, such "
                "as `orders.order`"
            )
        return path


def _content_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "")


def _file_names(response: requests.Response) -> tuple[str, ...]:
    """Return what names the file of a response: the name in its headers, and its URL."""
    disposition = Message()
    disposition["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    name = disposition.get_filename()
    return (*((name,) if name else ()), str(response.url))


# CSV


def _csv_batches(stream: TextStream, body: BodyFormat, delimiter: str) -> Iterator[Records]:
    """Yield the rows of a CSV file. All values are text or null: `007` and `1e5` may be no numbers."""
    # most files have no CSV, and the module takes longer to import than a small page to load
    from pyarrow import ArrowInvalid, string

    buffered = io.BufferedReader(stream, _HEADER_BYTES)
    _skip_lines(buffered, body.skip_lines or 0, stream)
    names = list(body.column_names or ())
    if body.header:
        names = _header_of(buffered, body, delimiter, stream)
    # a quote that is left open takes all that follows for one value: then this row is not found
    mark = secrets.token_hex(8)
    source = _WithMark(buffered, f"\n{delimiter.join([mark] * len(names))}\n".encode())
    refused: list[Any] = []
    problem = ""
    pending: Records = []
    try:
        reader = _open_csv(source, body, delimiter, names, refused)
        if list(reader.schema.names) != names or any(t != string() for t in reader.schema.types):
            raise BodyError(f"the header {names} of the file is not clear{stream.where}")
        for block in reader:
            for first in range(0, block.num_rows, _BATCH_ROWS):
                if pending:
                    yield pending
                pending = block.slice(first, _BATCH_ROWS).to_pylist()
    except ArrowInvalid as error:
        problem = str(error)
    if source.error:
        raise source.error
    last = pending.pop() if pending else None
    if (refused and mark in (refused[0].text or "")) or (
        not problem and (last is None or set(last.values()) != {mark})
    ):
        raise BodyError(
            f"the file ends inside of a quoted value{stream.where}: it is cut off, or a quote is not closed"
        )
    if problem:
        raise BodyError(_csv_problem(problem, refused, names, stream))
    if pending:
        yield pending


def _open_csv(
    source: "_WithMark", body: BodyFormat, delimiter: str, names: list[str], refused: list[Any]
) -> Any:
    """Return pyarrow's reader of a CSV file, which adds the row that it refuses to `refused`."""
    from pyarrow import csv, string

    def refuse(row: Any) -> str:
        refused.append(row)
        return "error"

    return csv.open_csv(
        source,
        read_options=csv.ReadOptions(
            block_size=_CSV_BLOCK_BYTES,
            # rows in their order, and errors with their number
            use_threads=False,
            column_names=None if body.header else names,
        ),
        parse_options=csv.ParseOptions(
            delimiter=delimiter,
            quote_char=body.quote or '"',
            double_quote=body.escape is None,
            escape_char=body.escape or False,
            newlines_in_values=True,
            invalid_row_handler=refuse,
        ),
        convert_options=csv.ConvertOptions(
            # `007` may be an id, and `1e5` a name: only the file's `columns` say what is a number
            column_types=dict.fromkeys(names, string()),
            null_values=list(body.null_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _csv_problem(
    problem: str, refused: Sequence[Any], names: Sequence[str], stream: TextStream
) -> str:
    if refused:
        row = refused[0]
        return (
            f"row {row.number}{stream.where} has {row.actual_columns} values, and the header has "
            f"{row.expected_columns} ({', '.join(names)[:_SNIPPET_CHARS]}): "
            f"{(row.text or '')[:_SNIPPET_CHARS]!r}"
        )
    if "straddling" in problem:
        return f"a row{stream.where} is longer than {_CSV_BLOCK_BYTES // _MEGABYTE} MB; is a quote not closed?"
    return f"the CSV can't be read{stream.where}: {problem}"


class _WithMark(io.RawIOBase):
    """A stream with some bytes after its end. An error of the stream is kept: pyarrow rewords it."""

    def __init__(self, source: "io.BufferedReader[Any]", mark: bytes) -> None:
        self._source, self._mark = source, mark
        self.error: BodyError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._source.readinto(buffer)
        except BodyError as error:
            self.error = error
            raise
        if not count:
            count = min(len(buffer), len(self._mark))
            buffer[:count], self._mark = self._mark[:count], self._mark[count:]
        return count


def _skip_lines(buffered: "io.BufferedReader[Any]", count: int, stream: TextStream) -> None:
    for number in range(count):
        if not buffered.readline(_HEADER_BYTES):
            raise BodyError(
                f"the file{stream.where} has {number} lines, and response.skip_lines skips {count}"
            )


def _header_of(
    buffered: "io.BufferedReader[Any]", body: BodyFormat, delimiter: str, stream: TextStream
) -> list[str]:
    """Return the names in the header, which stays to be read. Raises `BodyError` for unusable ones."""
    text = buffered.peek(_HEADER_BYTES).decode(errors="ignore")
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=body.quote or '"',
        escapechar=body.escape,
        doublequote=body.escape is None,
    )
    try:
        names = next((names for names in lines if names), [])
    except csv.Error as error:
        raise BodyError(f"the header{stream.where} can't be read: {error}") from None
    # a name with the delimiter in use was quoted
    others = (one for one in _OTHER_DELIMITERS if one != delimiter and one in names[0])
    other = next(others, None) if names else None
    # a delimiter that the file names is right, whatever the header looks like
    if len(names) == 1 and other is not None and body.delimiter is None:
        raise BodyError(
            f"the header{stream.where} is one column, {names[0][:_SNIPPET_CHARS]!r}. Set response.delimiter to "
            f"{json.dumps(other)}, or to {json.dumps(delimiter)} if it is one column"
        )
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise BodyError(
                f"column {number}{stream.where} has no name in the header. Set header to false, skip_lines "
                "to 1, and name all columns by column_names"
            )
        if name in names[: number - 1]:
            raise BodyError(
                f"two columns{stream.where} are named {name!r}. Set header to false, skip_lines to 1, and "
                "name all columns by column_names"
            )
    return names


# Lines of JSON


def _line_batches(stream: TextStream, max_mb: int) -> Iterator[Records]:
    """Yield the objects of a file with one JSON object in each line. Empty lines count for nothing."""
    buffered = io.BufferedReader(stream, _BATCH_BYTES)
    lines: list[bytes] = []
    size = number = first = 0
    while line := buffered.readline(max_mb * _MEGABYTE + 1):
        number += 1
        if len(line) > max_mb * _MEGABYTE:
            raise BodyError(
                f"line {number}{stream.where} is longer than {max_mb} MB (http.max_response_mb); has the "
                "file one JSON object in each line?"
            )
        lines.append(line)
        size += len(line)
        if size >= _BATCH_BYTES or len(lines) >= _BATCH_ROWS:
            yield _objects(lines, first, stream)
            lines, size, first = [], 0, number
    if lines:
        yield _objects(lines, first, stream)


def _objects(lines: list[bytes], before: int, stream: TextStream) -> Records:
    records = []
    is_plain = True
    for number, line in enumerate(lines, before + 1):
        if not (text := line.strip()):
            continue
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            record, is_plain = _slow_object(text, number, stream, str(error)), False
        if not isinstance(record, dict):
            raise BodyError(
                f"line {number}{stream.where} is no JSON object: {text[:_SNIPPET_CHARS].decode()!r}"
            )
        records.append(record)
    raw = b"".join(lines)
    # a key apart from its colon would be counted wrong
    if not is_plain or b" :" in raw or b"\t:" in raw:
        return _strict_objects(lines)
    return UnverifiedRecords.of(records, raw.count(b'":'), raw, lambda: _strict_objects(lines))


def _slow_object(text: bytes, number: int, stream: TextStream, problem: str) -> Any:
    # numbers beyond the range of a float, which orjson refuses
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BodyError(
            f"line {number}{stream.where} is not JSON ({problem}): "
            f"{text[:_SNIPPET_CHARS].decode(errors='replace')!r}"
        ) from None


def _strict_objects(lines: Sequence[bytes]) -> Records:
    texts = (line.strip() for line in lines)
    return [json.loads(text, object_pairs_hook=object_with_duplicate_key) for text in texts if text]


# XML


class _XmlReader:
    """Cuts the records out of an XML file and has xmltodict read each batch of them.

    expat tells where each record begins and ends. xmltodict's own streaming calls back in place of
    yielding, and drops what stands beside the records, where APIs put the link of the next page.
    """

    def __init__(
        self, stream: TextStream, path: tuple[str, ...], body: BodyFormat, max_mb: int
    ) -> None:
        self._stream, self._path, self._body, self._max_mb = stream, path, body, max_mb
        self._parser = expat.ParserCreate("UTF-8")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.EntityDeclHandler = self._refuse_entity
        self._open: list[str] = []
        self._found: set[tuple[str, ...]] = set()
        self._seen: dict[str, None] = {}
        self._buffer = bytearray()
        self._base = 0
        """The place in the file of the first byte of the buffer."""
        self._record_start: int | None = None
        self._rest = bytearray()
        self._records: list[bytes] = []
        self._records_size = 0
        self.beside: Any = {}
        """What the file has beside its records; known after the last batch."""

    def batches(self) -> Iterator[Records]:
        """Yield the records in batches. Raises `BodyError`."""
        while piece := self._stream.read(_MEGABYTE):
            self._feed(piece)
            if self._records_size >= _BATCH_BYTES or len(self._records) >= _BATCH_ROWS:
                yield self._take()
        self._feed(b"", is_final=True)
        if self._records:
            yield self._take()
        self._check_path()
        self._rest += self._buffer
        self.beside = self._parse(bytes(self._rest))

    def _feed(self, piece: bytes, *, is_final: bool = False) -> None:
        self._buffer += piece
        try:
            self._parser.Parse(piece, is_final)
        except expat.ExpatError as error:
            raise BodyError(
                f"line {error.lineno}, column {error.offset + 1}{self._stream.where}: the XML is broken "
                f"({expat.errors.messages.get(error.code, 'error')})"
            ) from None
        if len(self._buffer) + len(self._rest) > self._max_mb * _MEGABYTE:
            raise BodyError(
                f"a record, or what stands beside the records{self._stream.where}, is larger than "
                f"{self._max_mb} MB (http.max_response_mb). Is data_selector the path of the records?"
            )

    def _start(self, name: str, _: Any) -> None:
        self._open.append(name)
        if len(self._open) > len(self._path) + 1 or self._record_start is not None:
            return
        path = tuple(self._open)
        self._seen[".".join(path)] = None
        if path == self._path[: len(path)]:
            self._found.add(path)
        if path == self._path:
            self._record_start = self._parser.CurrentByteIndex

    def _end(self, name: str) -> None:
        if self._record_start is not None and len(self._open) == len(self._path):
            start = self._record_start - self._base
            # the tag that ends the record, which for `<order/>` is the one that starts it
            tag = _XML_TAG.match(self._buffer, self._parser.CurrentByteIndex - self._base)
            if tag is None:
                raise BodyError(f"the end of a {name} is not found{self._stream.where}")
            self._records.append(bytes(self._buffer[start : tag.end()]))
            self._records_size += tag.end() - start
            self._rest += self._buffer[:start]
            self._base += tag.end()
            del self._buffer[: tag.end()]
            self._record_start = None
        self._open.pop()

    def _refuse_entity(self, *_: Any) -> None:
        raise BodyError(f"the XML declares entities{self._stream.where}, which are not read")

    def _take(self) -> Records:
        name = self._path[-1]
        found = self._parse(b"<_>" + b"".join(self._records) + b"</_>")["_"][name]
        self._records, self._records_size = [], 0
        records = found if isinstance(found, list) else [found]
        for record in records:
            if record is not None and not isinstance(record, dict):
                raise BodyError(
                    f"an element `{name}`{self._stream.where} has a text ({record[:_SNIPPET_CHARS]!r}) and no "
                    "fields, so it is no record"
                )
        return records

    def _parse(self, text: bytes) -> Any:
        # most files have no XML
        import xmltodict

        return xmltodict.parse(
            text,
            encoding="utf-8",
            attr_prefix=self._body.attribute_prefix,
            cdata_key="_text",
        )

    def _check_path(self) -> None:
        """Refuse a file in which the path of the records does not exist.

        A list without a record is one: all but the last step of the path must be there.
        """
        needed = self._path[:-1] or self._path
        if needed not in self._found:
            seen = ", ".join(list(self._seen)[:10])
            raise BodyError(
                f"data_selector `{'.'.join(self._path)}` finds nothing{self._stream.where}; the file has {seen}"
            )
