"""Which values of a run are secret: what the file refers to, and what it says where secrets go.

Keeping secrets out of everything that people and files get to see.

Redaction is by value: whatever a secret's name or place, its text is replaced wherever it shows,
however it is spelled there.
"""

import base64
import binascii
import html
import re
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from restsource_dagster.connector.env_references import find_references, resolve_references

__all__ = ["Redactor", "credentials_in", "find_secrets"]

_HIDDEN = "[secret]"
_MIN_SECRET_CHARS = 4  # replacing every "1" or "ab" would garble messages and hide nothing
_MAX_REDACTED_CHARS = 100_000
_SHORT_ESCAPES = {"\b": "b", "\f": "f"}  # of JSON; Python and JSON share those of \n, \r and \t
_MIN_BASE64_CHARS = 7  # fewer characters would be found by chance


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
        new = {text for text in found if len(text) >= _MIN_SECRET_CHARS}
        with self._lock:
            if new <= self._secrets:
                return
            self._secrets |= new
            # the longest first, so that a secret inside a longer one does not leave its rest
            ordered = sorted(self._secrets, key=lambda text: (-len(text), text))
            patterns = [_secret_pattern(text) for text in ordered]
            patterns += [core for text in ordered for core in _base64_cores(text)]
            self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        """The text without any secret."""
        return self._pattern.sub(_HIDDEN, text) if self._pattern else text

    def snippet(self, text: str, most: int) -> str:
        """The first characters: secrets are hidden before it is cut, so that no half is left."""
        return self(text[:_MAX_REDACTED_CHARS])[:most]

    @contextmanager
    def redacted_errors(self, wrap: type[Exception]) -> Iterator[None]:
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


def _secret_pattern(secret: str) -> str:
    """A pattern of the secret in which every character may be spelled in any usual way."""
    return "".join(_character_pattern(char) for char in secret)


def _character_pattern(char: str) -> str:
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
        if len(core) >= _MIN_BASE64_CHARS:
            escaped = re.escape(core).replace(r"\+", "(?:[+-]|%2[Bb])")
            yield escaped.replace("/", "(?:[/_]|%2[Ff])")


_SECRET_AUTH_FIELDS = ("token", "api_key", "password", "client_secret", "access_token")
_SECRET_AUTH_PAIRS = (("username", "password"), ("client_id", "client_secret"))
_SECRET_NAME = re.compile(
    r"key|token|secret|passw|pwd|auth|credential|signature|session|cookie|jwt|bearer|app_?id|"
    r"subscription|^sig$",
    re.IGNORECASE,
)
_NON_SECRET_NAME = re.compile(
    r"(page|next|sync)[-_]?token|continuation|sort|order|keyword|author\b|authors", re.IGNORECASE
)
_LOOKS_LIKE_KEY = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-.~+/=]{20,}")
"""What looks like a key, whatever its name: long, of letters and digits, without a space."""
_SCHEME = re.compile(r"(basic|bearer|token|apikey|digest)\s+(?P<rest>\S.*)", re.IGNORECASE)
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_REQUEST_PARTS = ("headers", "params", "json", "data")


def find_secrets(config: Mapping[str, Any], environment: Mapping[str, str]) -> frozenset[str]:
    """The secret values of a connector, its references not yet resolved.

    These are the values of all referred variables, except those in the host and path of `base_url`,
    which people need to read in a message; the secret fields of `auth`; literal values in headers,
    parameters and bodies that have a secret's name or look like a key; and the passwords of
    `base_url` and of proxies. Raises `MissingReferences`.
    """
    referred = find_references(dict(config)) - _public_references(config)
    secret = {environment[name] for name in referred if name in environment}
    resolved = resolve_references(dict(config), environment)
    for holder in _client_and_endpoints(resolved):
        secret.update(credentials_in(holder.get("auth")))
        for part in _REQUEST_PARTS:
            secret.update(_secret_texts(holder.get(part), named=False))
    secret.update(_secrets_in_url(str(resolved["client"].get("base_url", ""))))
    for name in _PROXY_VARIABLES:
        for spelled in (name, name.upper()):
            secret.update(_secrets_in_url(environment.get(spelled, "")))
    return frozenset(secret)


def credentials_in(auth: Any) -> Iterator[str]:
    """The secrets of an `auth`, as an object of a file or one of dlt's with the secrets filled in.

    Pairs of a name and a secret are given as HTTP Basic joins them, too.
    """
    if auth is None or isinstance(auth, str):
        return

    def get(name: str) -> Any:
        return auth.get(name) if isinstance(auth, Mapping) else getattr(auth, name, None)

    for field in _SECRET_AUTH_FIELDS:
        if isinstance(value := get(field), str):
            yield value
    for name, secret in _SECRET_AUTH_PAIRS:
        if isinstance(get(secret), str):
            yield f"{get(name)}:{get(secret)}"
    yield from _secret_texts(get("access_token_request_data"), named=False)


def _public_references(config: Mapping[str, Any]) -> frozenset[str]:
    """The variables in `base_url`, apart from those in its user name, password and query."""
    url = str(config["client"].get("base_url", ""))
    place, _, query = url.partition("?")
    login, found, _ = place.rpartition("@")
    return find_references(place) - find_references(query) - find_references(login if found else "")


def _client_and_endpoints(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The client and all endpoints."""
    defaults = config.get("resource_defaults") or {}
    places = [defaults, *(config.get("resources") or ())]
    holders = [config["client"], *(p.get("endpoint") for p in places if isinstance(p, Mapping))]
    yield from (holder for holder in holders if isinstance(holder, Mapping))


def _secret_texts(value: Any, *, named: bool) -> Iterator[str]:
    """The texts in a JSON value that are secrets; `named` tells that the name above says so."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            is_secret = bool(_SECRET_NAME.search(name)) and not _NON_SECRET_NAME.search(name)
            yield from _secret_texts(item, named=is_secret)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secret_texts(item, named=named)
    elif (
        isinstance(value, str) and "{" not in value and (named or _LOOKS_LIKE_KEY.fullmatch(value))
    ):
        yield value
        yield from _secrets_in_scheme(value)


def _secrets_in_scheme(value: str) -> Iterator[str]:
    """What follows `Bearer`, and the password inside of `Basic`."""
    found = _SCHEME.fullmatch(value)
    if not found:
        return
    rest = found["rest"]
    yield rest
    try:
        login = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    yield login
    yield login.partition(":")[2]


def _secrets_in_url(url: str) -> Iterator[str]:
    """The password in a URL, and its query's secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL: the request will say so
        return
    login, found, _ = parts.netloc.rpartition("@")
    if found:
        password = login.partition(":")[2]
        yield from (login, unquote(login), password, unquote(password))
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    for name, _, text in pairs:
        yield from _secret_texts({name: unquote(text)}, named=False)
