"""A response body on the disk, and the text in it: unpacked, decoded, and of limited size.

The file has no name, so nothing of it is left after a crash. It is complete before its first byte is
read: a connection that breaks is a matter of the request, which is sent again, and not of the rows.
"""

import codecs
import fnmatch
import gzip
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, cast

from restsource_dagster.connector.models.body_format import BodyFormat

__all__ = ["BodyError", "BodyFile", "TextStream", "text_streams"]

_MEGABYTE = 1_000_000
_HEAD_BYTES = 1_000_000
_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
_DECLARATION_BYTES = 256
_XML_DECLARATION = re.compile(rb"<\?xml[^>]*?encoding=[\"']([\w.-]+)")
_EMPTY_ZIP_MAGIC = b"PK\x05\x06"
# UTF-32 first: its mark begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class BodyError(ValueError):
    """A body that is not what the file says it is."""


@dataclass
class BodyFile:
    """A body on the disk. `head` has its first bytes, for error messages and `response_actions`."""

    folder: Path | None
    size: int = 0
    head: bytes = b""
    _stored: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._stored = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed by `close`
        self._digest = blake2b(digest_size=16)

    def write(self, piece: bytes) -> None:
        """Add the next bytes of the body."""
        if self.size < _HEAD_BYTES:
            self.head += piece[: _HEAD_BYTES - self.size]
        self.size += len(piece)
        self._digest.update(piece)
        self._stored.write(piece)

    @property
    def digest(self) -> bytes:
        """The digest of all bytes: equal pages have equal digests."""
        return self._digest.digest()

    def rewound(self) -> IO[bytes]:
        """Return the body from its first byte on."""
        self._stored.seek(0)
        return self._stored

    def close(self) -> None:
        """Delete the file."""
        self._stored.close()


class TextStream(io.RawIOBase):
    """A stream of UTF-8 without a byte order mark, whatever the encoding of the source is.

    Each byte is checked: a read raises `BodyError` with the place of the first one that is no text in
    the encoding, with the place where a packed file ends early, and when the text is too large.
    """

    def __init__(self, source: IO[bytes], name: str, body: BodyFormat, charset: str | None) -> None:
        self.name = name
        """The name of the file in a zip; "" without one."""
        self._source, self._max_mb = source, body.max_mb
        self._received = 0
        self._pending = self._read_source(_DECLARATION_BYTES)
        self.is_empty = not self._pending
        declared = _XML_DECLARATION.match(self._pending)
        encoding = body.encoding or charset or (declared and declared[1].decode())
        for mark, marked in _MARKS:
            if self._pending.startswith(mark):
                self._pending, encoding = self._pending[len(mark) :], body.encoding or marked
                break
        try:
            info = codecs.lookup(encoding or "utf-8")
        except LookupError:  # the header names a charset that does not exist
            info = codecs.lookup("utf-8")
        self.encoding = info.name
        self._decoder = info.incrementaldecoder("strict")
        self._pending = self._decode(self._pending)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read UTF-8 into a buffer and return how many bytes; 0 at the end. Raises `BodyError`."""
        while not self._pending and not self._has_ended:
            self._pending = self._decode(self._read_source(len(buffer)))
        count = min(len(buffer), len(self._pending))
        buffer[:count], self._pending = self._pending[:count], self._pending[count:]
        return count

    _has_ended = False

    def _read_source(self, size: int) -> bytes:
        problem = None
        try:
            piece = self._source.read(size)
        except EOFError:
            problem = "the packed file ends in its middle"
        except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, OSError) as error:
            problem = f"the packed file is broken ({error})"
        if problem:
            raise BodyError(
                f"{problem}, after byte {self._received} of what is unpacked{self.where}"
            )
        self._has_ended = not piece
        self._received += len(piece)
        if self._received > self._max_mb * _MEGABYTE:
            raise BodyError(
                f"the body is larger than {self._max_mb} MB unpacked{self.where}. If that is right, raise "
                "response.max_mb"
            )
        return piece

    def _decode(self, piece: bytes) -> bytes:
        before = self._received - len(piece)
        try:
            text = self._decoder.decode(piece, final=self._has_ended)
        except UnicodeDecodeError as error:
            # what the decoder has kept of the piece before counts, too
            at = before + error.start - (len(error.object) - len(piece))
            raise BodyError(
                f"byte {at} is no text in {self.encoding}{self.where}. Set response.encoding to the "
                "encoding of the file, such as `latin-1`"
            ) from None
        return text.encode()

    @property
    def where(self) -> str:
        """The file of a zip, to end a clause with."""
        return f" of {self.name}" if self.name else ""


def text_streams(file: BodyFile, body: BodyFormat, charset: str | None) -> Iterator[TextStream]:
    """Yield the texts in a body, one after the other: several only for a zip.

    Each is used up before the next one is asked for. Raises `BodyError`.
    """
    stored, start = file.rewound(), file.head[:4]
    is_zip = start.startswith((_ZIP_MAGIC, _EMPTY_ZIP_MAGIC)) and body.compression in (None, "zip")
    if is_zip:
        yield from _zip_streams(stored, body, charset)
    elif start.startswith(_GZIP_MAGIC) and body.compression in (None, "gzip"):
        yield TextStream(cast("IO[bytes]", gzip.GzipFile(fileobj=stored)), "", body, charset)
    elif body.compression == "zip" and file.size:
        raise BodyError("the body is no zip file, as response.compression says")
    else:
        # a body that is no gzip any more: Content-Encoding said so, and it was undone on the way
        yield TextStream(stored, "", body, charset)


def _zip_streams(stored: IO[bytes], body: BodyFormat, charset: str | None) -> Iterator[TextStream]:
    try:
        archive = zipfile.ZipFile(stored)
    except zipfile.BadZipFile as error:
        raise BodyError(f"the zip file is broken ({error})") from None
    for name in _chosen_members(archive, body):
        try:
            source = archive.open(name)
        except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise BodyError(f"the file {name} of the zip can't be unpacked: {error}") from None
        with source:
            yield TextStream(source, name, body, charset)


def _chosen_members(archive: zipfile.ZipFile, body: BodyFormat) -> list[str]:
    names = [
        one.filename
        for one in archive.infolist()
        # what macOS adds beside each file
        if not one.is_dir() and not one.filename.startswith("__MACOSX/")
    ]
    listed = ", ".join(names[:10]) or "none"
    if body.member is None:
        if len(names) != 1:
            raise BodyError(
                f"the zip has {len(names)} files ({listed}). Say which ones hold the rows: "
                '"response": {"member": "*.csv"}'
            )
        return names
    chosen = sorted(name for name in names if fnmatch.fnmatchcase(name, body.member))
    if not chosen:
        raise BodyError(f"no file of the zip fits response.member `{body.member}`; it has {listed}")
    return chosen
