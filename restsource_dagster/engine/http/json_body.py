"""The body of a response: parses JSON with orjson, and verifies afterwards that no data was lost.

orjson takes half the time of Python's parser, but it loses data in two cases without an error: of a
duplicate key it keeps the last value, and it rounds numbers beyond 64 bits. So its records are
`UnverifiedRecords`. Code that uses them verifies that neither happened, or parses the page again strictly:

- Each key is in the text once, as `"key":`. If the text has as many `":` as the objects have keys,
  no key is a duplicate. A text with a space between a key and its colon is parsed strictly at once.
- A whole number beyond 64 bits becomes a float of at least 2^63.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson
import requests
from requests.utils import guess_json_utf

from restsource_dagster.engine.errors import ResponseTooLargeError
from restsource_dagster.engine.http.cancellation import count_received_bytes

if TYPE_CHECKING:
    from restsource_dagster.engine.http.body_file import BodyFile

__all__ = [
    "DUPLICATE_KEY",
    "INT64_LIMIT",
    "ApiResponse",
    "ObjectShape",
    "UnverifiedRecords",
    "ValueScan",
    "decode_json",
    "expected_key_count",
    "object_with_duplicate_key",
    "parse_fast",
    "scan_values",
]

DUPLICATE_KEY = "\ud800 stands twice"
"""Marks an object with a duplicate key: this key is added to it, with the duplicate as its value."""
INT64_LIMIT = 2.0**63
"""A float from here on may be a whole number that lost digits, and an int doesn't fit 64 bits."""

_ESCAPED_DELIMITERS = (b"\\u0022", b"\\u003a", b"\\u003A")
"""A quote and a colon as escapes in the text: they would make the count of `":` wrong."""
_DIGITS_TABLE = bytes(
    ord("0") if chr(code).isdigit() and code < 128 else ord(" ") for code in range(256)
)
"""A table for `bytes.translate` that leaves nothing but digits, all of them 0."""
_MANY_DIGITS = b"0" * 19
"""A whole number beyond 63 bits has at least 19 digits."""
_UTF_8 = frozenset({None, "utf-8", "utf8", "us-ascii", "ascii"})
_MAX_SCAN_DEPTH = 200
_SPACED_COLONS = (b" :", b"\t:", b"\n:", b"\r:")
_SPACED_KEY = re.compile(rb'"[ \t\n\r]+:')

# requests reads a body in pieces so small that handling them takes longer than receiving them
_CHUNK_BYTES = 256 * 1024
# a compressed piece may be a thousand times larger when it is unpacked, all of it at once
_COMPRESSED_CHUNK_BYTES = 64 * 1024
_MEGABYTE = 1_000_000
# a download gets the time of an exchange again after so many bytes: it may be of any size, but not stop
_RENEWING_BYTES = 1_000_000


ObjectShape = tuple[str, ...]
"""The keys of an object, in order."""


@dataclass(frozen=True)
class ValueScan:
    """The number of keys of all objects in some values, and the distinct shapes of the objects."""

    key_count: int
    shapes: frozenset[ObjectShape]


class UnverifiedRecords(list[Any]):
    """The records of a page as orjson returns them, possibly with data lost."""

    key_count: int
    """The number of keys in the text. With a duplicate key, the records have fewer."""
    raw: bytes
    """The response body."""
    parse_strictly: Callable[[], list[Any]]
    """Parse the same records again without loss. Call it once, before these are changed."""

    @classmethod
    def of(
        cls,
        records: list[Any],
        key_count: int,
        raw: bytes,
        parse_strictly: Callable[[], list[Any]],
    ) -> "UnverifiedRecords":
        """Return the records with what it takes to verify them or to parse them again."""
        unverified = cls(records)
        unverified.key_count, unverified.raw = key_count, raw
        unverified.parse_strictly = parse_strictly
        return unverified

    def without_nulls(self) -> "UnverifiedRecords":
        """Return the records without null items; still unverified."""
        parse_strictly = self.parse_strictly
        # a null has no keys, so their number stays
        return UnverifiedRecords.of(
            _drop_nulls(self), self.key_count, self.raw, lambda: _drop_nulls(parse_strictly())
        )

    @cached_property
    def is_plain_text(self) -> bool:
        """True if the body has no number beyond 64 bits and no escaped quote or colon.

        Then the records, written as JSON again, have as many `":` as the body, unless a key is a
        duplicate.
        """
        escapes = _ESCAPED_DELIMITERS if b"\\u00" in self.raw else ()
        if any(escape in self.raw for escape in escapes):
            return False
        return _MANY_DIGITS not in self.raw.translate(_DIGITS_TABLE)


def _drop_nulls(records: list[Any]) -> list[Any]:
    return [record for record in records if record is not None]


def object_with_duplicate_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; add `DUPLICATE_KEY` if a key has two different values.

    For `json.loads(..., object_pairs_hook=...)`.
    """
    # the common case first: this runs for each object of a body
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    for key, value in pairs:
        # twice the same value loses nothing
        if value != made[key]:
            return {**made, DUPLICATE_KEY: key}
    return made


def parse_fast(raw: bytes, encoding: str | None) -> Any:
    """Parse the JSON in `raw`. `encoding` is that of the response's headers.

    Raises `ValueError` for what only the slow parser can judge: text that is not JSON, is in another
    encoding, has a space between a key and its colon, or has lone surrogates or numbers that are not
    finite.
    """
    # orjson reads UTF-8 only
    if (encoding and encoding.lower()) not in _UTF_8:
        raise ValueError(f"the encoding is {encoding}")
    # the search for a fixed text is a hundred times as fast, and finds nothing in most bodies
    if any(spaced in raw for spaced in _SPACED_COLONS) and _SPACED_KEY.search(raw):
        raise ValueError("a key is apart from its colon")
    return orjson.loads(raw)


def decode_json(raw: bytes, charset: str | None) -> str:
    """Return the text of a JSON body. `charset` is the one that the response names.

    Without one, or with one that does not exist, it is UTF-8, or UTF-16 or -32 by its first bytes
    (https://www.rfc-editor.org/rfc/rfc8259#section-8.1). Raises `UnicodeDecodeError`: a guess, or
    replaced characters, would be other data than the API sent.
    """
    if charset and charset.lower() not in _UTF_8:
        try:
            return raw.decode(charset)
        except LookupError:
            charset = None
    by_first_bytes = guess_json_utf(raw) if raw else None  # type: ignore[no-untyped-call]
    return raw.decode(by_first_bytes or "utf-8")


def expected_key_count(records: list[Any], body: Any, raw: bytes) -> int | None:
    """Return how many keys the records of a body should have, judging by its text.

    None if this is unknown: the records are not one of its lists, or a number beside them may have
    lost digits.
    """
    # one pass in C: the keys of the objects are counted where their values are read anyway
    in_text = raw.count(b'":')
    if body is records:
        return in_text
    beside = _scan_except(body, records)
    return None if beside is None else in_text - beside.key_count


def scan_values(records: list[Any]) -> ValueScan | None:
    """Count the keys and collect the shapes in records.

    None if a number is beyond 64 bits or may have lost digits, or the records are nested too deeply.
    """
    return _scan_except(list(records), None)


def _scan_except(body: Any, excluded: list[Any] | None) -> ValueScan | None:
    """Scan a body without its list `excluded`. Returns None also if the body lacks that list."""
    key_count, shapes, is_found = 0, set[ObjectShape](), excluded is None
    level = [body]
    # level by level, each step over all values at once: three times as fast as a recursion
    for _ in range(_MAX_SCAN_DEPTH):
        objects = [one for one in level if type(one) is dict]
        key_count += sum(map(len, objects))
        shapes.update(map(tuple, objects))
        inner = chain.from_iterable(map(dict.values, objects))
        items = chain.from_iterable(one for one in level if type(one) is list)
        below = list(chain(inner, items))
        # `type`, not `isinstance`: a bool is an int there
        numbers = [one for one in below if type(one) is float or type(one) is int]
        if numbers and (max(numbers) >= INT64_LIMIT or min(numbers) <= -INT64_LIMIT):
            return None
        level = [one for one in below if type(one) is dict or type(one) is list]
        if not is_found:
            # by identity: an equal list beside the records is another one
            others = [one for one in level if one is not excluded]
            is_found, level = len(others) < len(level), others
        if not level:
            return ValueScan(key_count, frozenset(shapes)) if is_found else None
    return None


class ApiResponse(requests.Response):
    """A response whose JSON is parsed once, though paginators and checks ask for it many times."""

    is_unverified = False
    """True if the JSON was parsed fast and may have lost digits or a duplicate key (`json_body`)."""
    max_mb: int | None = None
    """The most megabytes of the unpacked body; None without a limit."""
    asked_at: float = 0.0
    """When its request was sent, by the monotonic clock."""
    answered_at: float = 0.0
    """When the last byte of it arrived."""
    file: "BodyFile | None" = None
    """The body if it is on the disk. Then `content` has its beginning."""
    size_option: str = "http.max_response_mb"
    """The option of the file that `max_mb` comes from."""

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The links of the header `Link` by their relation in lower case."""
        return _parse_link_header(self.headers.get("Link", ""))

    @cached_property
    def _parsed(self) -> Any:
        try:
            fast = parse_fast(self.content, self.encoding)
        except ValueError:
            return self._parse_slowly()
        # only after it has parsed: what Python's parser has read needs no verification
        self.is_unverified = True
        return fast

    def _parse_slowly(self) -> Any:
        text = decode_json(self.content, self.encoding)
        try:
            return json.loads(text, object_pairs_hook=object_with_duplicate_key)
        except json.JSONDecodeError as error:
            raise requests.exceptions.JSONDecodeError(error.msg, error.doc, error.pos) from None

    def parse_strictly(self) -> Any:
        """Parse the body again with Python's own parser, which loses nothing, and return the JSON."""
        self.is_unverified = False
        self._parsed = self._parse_slowly()
        return self._parsed

    def json(self, **kwargs: Any) -> Any:
        """Return the body as JSON. It is UTF-8 unless the response names another charset.

        Raises `requests.exceptions.JSONDecodeError`, and `UnicodeDecodeError` for bytes that are no
        text in that charset.
        """
        return super().json(**kwargs) if kwargs else self._parsed

    def discard_parsed(self) -> None:
        """Free the parsed JSON, several times the size of the body; `json` parses it again."""
        self.__dict__.pop("_parsed", None)

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[Any]:
        """Yield the body in pieces.

        Raises `RequestCancelled` if a prefetch runs out of memory, `ResponseTooLargeError` if the
        body is larger than `max_mb`.
        """
        is_compressed = "Content-Encoding" in self.headers
        least = _COMPRESSED_CHUNK_BYTES if is_compressed else _CHUNK_BYTES
        received = 0
        for piece in super().iter_content(chunk_size and max(chunk_size, least), decode_unicode):
            received += len(piece)
            self._check_size(received)
            count_received_bytes(len(piece))
            yield piece

    def check_announced_size(self) -> None:
        """Raise `ResponseTooLargeError` if the response says that its body is larger than `max_mb`."""
        announced = self.headers.get("Content-Length", "")
        # a HEAD announces the size of a body that does not come
        if announced.isdecimal() and self.request.method != "HEAD":
            self._check_size(int(announced))

    def _check_size(self, size: int) -> None:
        if self.max_mb is not None and size > self.max_mb * _MEGABYTE:
            raise ResponseTooLargeError(self.max_mb, self.size_option)

    def store_body(self, file: "BodyFile", renew: Callable[[], None]) -> None:
        """Write the body to a file; call `renew` after each megabyte."""
        renewed_at = 0
        for piece in self.iter_content(_CHUNK_BYTES):
            file.write(piece)
            if file.size - renewed_at >= _RENEWING_BYTES:
                renewed_at = file.size
                renew()
        self.file, self._content = file, file.head

    def use_text(self, raw: bytes) -> None:
        """Go on with the text of a file as the body: UTF-8 in memory."""
        self.file, self._content, self.encoding = None, raw, "utf-8"

    def use_parsed(self, value: Any) -> None:
        """Give the JSON that paginators and checks see in place of the body on the disk."""
        self._parsed = value


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_LINK = re.compile(rf"<([^<>]*)>((?:{_QUOTED}|[^\",])*)")
# appendix B.3 of the standard: empty and unknown ones are skipped
_PARAMS = re.compile(rf";\s*([^\s;,=\"]+)\s*(?:=\s*({_QUOTED}|[^\s;,]*))?")


def _parse_link_header(value: str) -> dict[str, dict[str, str]]:
    """Return each link of a header `Link` by each of its relations in lower case, with its `url` and its parameters.

    Of two links of one relation the last counts. Unlike `requests` it reads several relations of one
    link (`rel="next last"`), names in capitals (`REL=`) and semicolons in quotes. A link without a
    relation is left out. The standard: https://www.rfc-editor.org/rfc/rfc8288.
    """
    if "<" not in value:  # some servers leave the brackets out, and `requests` reads it
        url, separator, params = value.partition(";")
        value = f"<{url}>{separator}{params}"
    links = {}
    for url, params in ((found[1].strip(), found[2]) for found in _LINK.finditer(value)):
        link: dict[str, str] = {}
        for name, text in _PARAMS.findall(params):
            # section 3: a parameter that is there twice counts once
            link.setdefault(name.lower(), _unquoted(text))
        for relation in link.get("rel", "").lower().split():
            links[relation] = {**link, "url": url}
    return links


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text.strip("'")  # no quotes by the standard, and yet written by some servers
