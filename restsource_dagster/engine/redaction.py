"""Keeping secrets out of everything that people and files get to see.

Redaction is by value: whatever a secret's name or place, its text is replaced wherever it shows,
however it is spelled there.
"""

import base64
import html
import re
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Redactor"]

_HIDDEN = "[secret]"
_SHORTEST = 4  # replacing every "1" or "ab" would garble messages and hide nothing
_READ_FOR_START = 100_000
_SHORT_ESCAPES = {"\b": "b", "\f": "f"}  # of JSON; Python and JSON share those of \n, \r and \t
_SHORTEST_BASE64 = 7  # fewer characters would be found by chance


class Redactor:
    """Replaces known secrets in texts.

    Also where they are url-encoded (wholly or in part, once or twice), escaped for JSON, Python or
    HTML, or part of a text in base64. Secrets learnt during a run (a token the API gave out) are
    added with `learn`. Safe to share between threads.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Hide these values, too."""
        found = {text for secret in secrets for text in (secret, secret.strip())}
        new = {text for text in found if len(text) >= _SHORTEST}
        with self._lock:
            if new <= self._secrets:
                return
            self._secrets |= new
            # the longest first, so that a secret inside a longer one does not leave its rest
            ordered = sorted(self._secrets, key=lambda text: (-len(text), text))
            patterns = [_spelled(text) for text in ordered]
            patterns += [core for text in ordered for core in _base64_cores(text)]
            self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        """The text without any secret."""
        return self._pattern.sub(_HIDDEN, text) if self._pattern else text

    def start_of(self, text: str, most: int) -> str:
        """The first characters: secrets are hidden before it is cut, so that no half is left."""
        return self(text[:_READ_FOR_START])[:most]

    @contextmanager
    def guarding(self, wrap: type[Exception]) -> Iterator[None]:
        """Let no exception out whose traceback shows a secret: one of type `wrap` takes its place.

        For exceptions nobody foresaw; all others keep their type.
        """
        try:
            yield
        except Exception as error:
            if not self._leaks(error):
                raise
            raise wrap(self(f"{type(error).__name__}: {error}")) from None

    def _leaks(self, error: BaseException) -> bool:
        seen: list[BaseException] = []
        current: BaseException | None = error
        while current is not None and current not in seen:
            seen.append(current)
            text = "".join(traceback.format_exception(current, chain=False))
            if self(text) != text:
                return True
            current = current.__cause__ or current.__context__
        return False


def _spelled(secret: str) -> str:
    """A pattern of the secret in which every character may be spelled in any usual way."""
    return "".join(_character(char) for char in secret)


def _character(char: str) -> str:
    if char.isascii() and (char.isalnum() or char in "_-."):
        return re.escape(char)
    raw = char.encode("utf-8", "surrogatepass")
    units = char.encode("utf-16-be", "surrogatepass")
    spellings = {
        r"\\*" + re.escape(char),
        "".join(f"%(?:25)*(?i:{byte:02x})" for byte in raw),
        "".join(rf"\\+u(?i:{units[at : at + 2].hex()})" for at in range(0, len(units), 2)),
        "".join(rf"\\+x(?i:{byte:02x})" for byte in raw),
        rf"\\+{re.escape(char.encode('unicode_escape').decode().lstrip(chr(92)))}",
        f"&\\#0*{ord(char)};",
        f"(?i:&\\#x0*{ord(char):x};)",
    }
    if char in _SHORT_ESCAPES:
        spellings.add(rf"\\+{_SHORT_ESCAPES[char]}")
    if html.escape(char) != char:
        spellings.add(re.escape(html.escape(char)))
    if char == " ":
        spellings.add(r"\+")
    if char in "{}":  # doubled where dlt replaces placeholders
        spellings.add(re.escape(char * 2))
    return f"(?:{'|'.join(sorted(spellings, key=len, reverse=True))})"


def _base64_cores(secret: str) -> Iterator[str]:
    """What every base64 text has in it that holds the secret, for each of the three alignments."""
    raw = secret.encode("utf-8", "surrogatepass")
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode("ascii")
        core = encoded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        if len(core) >= _SHORTEST_BASE64:
            escaped = re.escape(core).replace(r"\+", "(?:[+-]|%2[Bb])")
            yield escaped.replace("/", "(?:[/_]|%2[Ff])")
