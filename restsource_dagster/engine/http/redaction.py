"""Find the secrets of a connector and keep them out of messages, logs and metadata.

Redaction is by value: the text of a secret is replaced wherever it appears, under whatever name and
in whatever encoding.
"""

import base64
import binascii
import html
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote, urlsplit

from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.model import Client, Connector
from restsource_dagster.connector.models.auth import HmacAuth, LoginAuth
from restsource_dagster.connector.models.endpoint import Endpoint
from restsource_dagster.connector.models.fields import as_json
from restsource_dagster.connector.models.processing_steps import hash_keys

__all__ = ["Redactor", "credentials_in", "find_secrets", "redacted_logs", "secret_texts"]

_HIDDEN = "[secret]"
# replacing every "1" or "ab" would garble messages and hide nothing
_MIN_SECRET_CHARS = 4
# what `snippet` redacts before it cuts: enough for any snippet, little enough to be quick
_MAX_REDACTED_CHARS = 100_000
# JSON's own; Python and JSON share the escapes of \n, \r and \t
_SHORT_ESCAPES = {"\b": "b", "\f": "f"}
# fewer characters would match by chance
_MIN_BASE64_CHARS = 7

_LOGGERS = ("connection", "connectionpool", "poolmanager", "response", "util.retry")
_current_redact: ContextVar[Callable[[str], str] | None] = ContextVar("redact", default=None)


class Redactor:
    """Replaces known secrets in texts. Thread-safe.

    A secret is found as it is, URL-encoded (wholly or in part, once or twice), escaped for JSON,
    Python or HTML, and inside a text in base64. `add_secrets` adds what becomes known during a run,
    such as a token that the API issues.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add_secrets(*secrets)

    def add_secrets(self, *secrets: str) -> None:
        """Redact these values from now on, too."""
        found = {text for secret in secrets for text in (secret, secret.strip())}
        new = {text for text in found if len(text) >= _MIN_SECRET_CHARS}
        with self._lock:
            if new <= self._secrets:
                return
            self._secrets |= new
            # the longest first: a secret inside a longer one would leave the rest of that one
            ordered = sorted(self._secrets, key=lambda text: (-len(text), text))
            patterns = [_secret_pattern(text) for text in ordered]
            patterns += [core for text in ordered for core in _base64_cores(text)]
            self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        """Return the text with every secret replaced."""
        return self._pattern.sub(_HIDDEN, text) if self._pattern else text

    def snippet(self, text: str, max_chars: int) -> str:
        """Return the redacted beginning of a text."""
        # redacted before it is cut: half a secret is not found any more
        return self(text[:_MAX_REDACTED_CHARS])[:max_chars]

    @contextmanager
    def redacted_errors(self, wrap: type[Exception]) -> Iterator[None]:
        """Replace an exception whose traceback shows a secret by a redacted one of type `wrap`.

        This is for unexpected exceptions of libraries; one without a secret is raised unchanged.
        """
        try:
            yield
        except Exception as error:
            if not self._leaks(error):
                raise
            # `from None`: Dagster shows the causes of an exception, too
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
    """Return a pattern of the secret in which each character may be encoded in any usual way."""
    return "".join(_character_pattern(char) for char in secret)


def _character_pattern(char: str) -> str:
    if char.isascii() and (char.isalnum() or char in "_-."):
        return re.escape(char)
    raw = char.encode("utf-8", "surrogatepass")
    units = char.encode("utf-16-be", "surrogatepass")
    spellings = {
        r"\\*" + re.escape(char),
        # %25 is an encoded percent sign: a URL in the query of another one is encoded twice
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
    if char in "{}":  # dlt doubles them in texts with placeholders
        spellings.add(re.escape(char * 2))
    return f"(?:{'|'.join(sorted(spellings, key=len, reverse=True))})"


def _base64_cores(secret: str) -> Iterator[str]:
    """Yield what any base64 text around the secret contains, for each of the three alignments.

    Three bytes become four characters, so the characters depend on where in a triple the secret
    starts. Those at its ends also depend on its neighbours and are left out.
    """
    raw = secret.encode("utf-8", "surrogatepass")
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode("ascii")
        core = encoded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        if len(core) >= _MIN_BASE64_CHARS:
            escaped = re.escape(core).replace(r"\+", "(?:[+-]|%2[Bb])")
            yield escaped.replace("/", "(?:[/_]|%2[Ff])")


_SECRET_AUTH_FIELDS = (
    *("token", "api_key", "password", "client_secret", "access_token"),
    *("refresh_token", "secret", "secret_access_key", "session_token"),
)
_SIGNING_KEY_FIELDS = ("client_key", "signing_key")
# a line of a key in PEM, or its text in JSON
_KEY_PART = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_SECRET_AUTH_PAIRS = (("username", "password"), ("client_id", "client_secret"))
# names of headers and parameters; better one harmless value too many than a key in a log
_SECRET_NAME = re.compile(
    r"key|token|secret|passw|pwd|auth|credential|signature|session|cookie|jwt|bearer|app_?id|"
    r"subscription|^sig$",
    re.IGNORECASE,
)
# page tokens and sort keys: hiding them would make messages about paging useless
_NON_SECRET_NAME = re.compile(
    r"(page|next|sync)[-_]?token|continuation|sort|order|keyword|author\b|authors", re.IGNORECASE
)
# a long run of letters and digits without a space looks like a key, whatever its name
_LOOKS_LIKE_KEY = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-.~+/=]{20,}")
_SCHEME = re.compile(r"(basic|bearer|token|apikey|digest)\s+(?P<rest>\S.*)", re.IGNORECASE)
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def find_secrets(
    connector: Connector, resolved: Connector, values: Mapping[str, str]
) -> frozenset[str]:
    """Return the secret values of a connector; `resolved` is the same with its references resolved.

    These are the values of all references, except those in the host and path of `base_url`, which
    users need to read in messages; the secret fields of `auth`; the keys of hashes; literal values in
    headers, parameters and bodies that have a secret's name or look like a key; and the passwords of
    `base_url` and of proxies. `values` is what `read_references` returns.
    """
    referenced = connector.references - _public_references(connector)
    secret = {values[name] for name in referenced}
    secret.update(_secrets_sent(resolved.client))
    for resource in resolved.resources:
        secret.update(_secrets_sent(resource.endpoint))
        secret.update(secret_texts(resource.path_params, named=False))
        secret.update(hash_keys(resource.processing_steps))
    if (tls := resolved.client.tls) and tls.key and "-----BEGIN" in tls.key:
        secret.update(_key_parts(tls.key))
    secret.update(_secrets_in_url(resolved.client.base_url))
    # an error of a proxy quotes its URL, password included
    for name in _PROXY_VARIABLES:
        for spelling in (name, name.upper()):
            secret.update(_secrets_in_url(values.get(spelling, "")))
    return frozenset(secret)


def credentials_in(auth: Any) -> Iterator[str]:
    """Yield the secrets of an `auth`: the file's model, or dlt's object with its secrets filled in.

    A user name and its password are also joined as HTTP Basic joins them.
    """
    for field in _SECRET_AUTH_FIELDS:
        if isinstance(value := getattr(auth, field, None), str):
            yield value
    for name, secret in _SECRET_AUTH_PAIRS:
        if isinstance(value := getattr(auth, secret, None), str):
            yield f"{getattr(auth, name, None)}:{value}"
    for field in _SIGNING_KEY_FIELDS:
        if key := getattr(auth, field, None):
            yield from _key_parts(key.key)
    for field in ("access_token_request_data", "access_token_request_headers"):
        yield from secret_texts(getattr(auth, field, None), named=False)
    if isinstance(auth, HmacAuth):
        yield from secret_texts([auth.headers, auth.params], named=False)
    if isinstance(auth, LoginAuth):
        sent = as_json([auth.headers, auth.params, auth.json_, auth.data])
        yield from secret_texts(sent, named=False)


def _key_parts(key: str) -> Iterator[str]:
    """Yield a private key and its lines, of which a message of a library may quote one."""
    yield key
    yield from _KEY_PART.findall(key.replace("\\n", "\n"))


def _public_references(connector: Connector) -> frozenset[str]:
    """Return the references in `base_url` that are not in its user name, password or query."""
    url = connector.client.base_url
    place, _, query = url.partition("?")
    login, at_sign, _ = place.rpartition("@")
    public = find_references(place) - find_references(query)
    return public - find_references(login if at_sign else "")


def _secrets_sent(sent: Client | Endpoint) -> Iterator[str]:
    yield from credentials_in(sent.auth)
    yield from secret_texts(sent.headers, named=False)
    if isinstance(sent, Endpoint):
        yield from secret_texts(as_json([sent.params, sent.json_, sent.data]), named=False)


def secret_texts(value: Any, *, named: bool = False) -> Iterator[str]:
    """Yield the texts in a JSON value that are secrets.

    `named` is True if the value's name says that it is one.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            is_secret = bool(_SECRET_NAME.search(name)) and not _NON_SECRET_NAME.search(name)
            yield from secret_texts(item, named=is_secret)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secret_texts(item, named=named)
    elif (
        # a text with a placeholder is no secret: its value differs from call to call
        isinstance(value, str) and "{" not in value and (named or _LOOKS_LIKE_KEY.fullmatch(value))
    ):
        yield value
        yield from _secrets_in_scheme(value)


def _secrets_in_scheme(value: str) -> Iterator[str]:
    """Yield what follows `Bearer` and the like, and the password inside a `Basic` value."""
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
    """Yield the login of a URL and the secrets in its query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL: the request reports that
        return
    login, at_sign, _ = parts.netloc.rpartition("@")
    if at_sign:
        password = login.partition(":")[2]
        yield from (login, unquote(login), password, unquote(password))
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    for name, _, text in pairs:
        yield from secret_texts({name: unquote(text)}, named=False)


class _RedactingFilter(logging.Filter):
    """Redacts the log records of a thread that has a redactor; leaves all others as they are."""

    def filter(self, record: logging.LogRecord) -> bool:
        redact = _current_redact.get()
        if redact is not None:
            record.msg, record.args = redact(record.getMessage()), ()
        return True


@contextmanager
def redacted_logs(redact: Callable[[str], str]) -> Iterator[None]:
    """Pass what urllib3 logs in the current thread through `redact`.

    urllib3 logs every URL at debug level, with the query and any key in it.
    """
    for name in _LOGGERS:
        # filters of a parent logger do not see the records of its children, hence each by name
        logger = logging.getLogger(f"urllib3.{name}")
        if not any(isinstance(known, _RedactingFilter) for known in logger.filters):
            logger.addFilter(_RedactingFilter())
    token = _current_redact.set(redact)
    try:
        yield
    finally:
        _current_redact.reset(token)
