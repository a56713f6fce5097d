"""Keeping secrets out of everything that people and files get to see.

Redaction is by value: whatever a secret's name or place, its text is replaced wherever it shows.
"""

import base64
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

__all__ = ["Redactor"]

_HIDDEN = "[secret]"
_SHORTEST = 4  # replacing every "1" or "ab" would garble messages and hide nothing


class Redactor:
    """Replaces known secrets in texts, also in their url-encoded and base64 spellings.

    Secrets learnt during a run (a token the API gave out) are added with `learn`.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._spellings: tuple[str, ...] = ()
        self.learn(*secrets)

    def learn(self, *secrets: str) -> None:
        """Hide these values, too."""
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= _SHORTEST
            for spelling in _spellings_of(secret)
        }
        # the longest first, so that a secret inside a longer one does not leave its rest readable
        merged = spellings.union(self._spellings)
        self._spellings = tuple(sorted(merged, key=lambda text: (-len(text), text)))

    def __call__(self, text: str) -> str:
        """The text without any secret."""
        for spelling in self._spellings:
            text = text.replace(spelling, _HIDDEN)
        return text


def _spellings_of(secret: str) -> Iterable[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield quote(raw, safe="")
    yield quote_plus(raw)
    yield base64.b64encode(raw).decode("ascii")
    yield secret.encode("unicode_escape").decode("ascii")
