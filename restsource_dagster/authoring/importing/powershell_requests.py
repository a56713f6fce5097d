"""Read `Invoke-WebRequest`, as browsers copy requests for PowerShell, as the words of a cURL command."""

import re
from collections.abc import Iterator

__all__ = ["is_powershell_request", "words_of_powershell"]

_COMMAND = re.compile(
    r"^[ \t]*(?:Invoke-WebRequest|Invoke-RestMethod|iwr|irm)\s", re.IGNORECASE | re.MULTILINE
)
# possessive, so that a doubled quote has one reading only and a hostile text takes no longer
_TEXT = r'"(?:`.|""|[^"`])*+"|\'(?:\'\'|[^\'])*+\''
_TABLE = rf"@\{{(?:{_TEXT}|[^}}\"'])*+\}}"
_PARAMETER = re.compile(
    rf"(?<=\s)-(\w+)(?:\s+|:)({_TABLE}|{_TEXT}|\$\w+|[^\s`-]\S*)|(?<=\s)-(\w+)", re.DOTALL
)
# a text that begins no pair is a match of its own, or the next search would begin inside of it
_PAIR = re.compile(rf"({_TEXT}|[\w-]++)\s*+=\s*+({_TEXT}|\S+)|{_TEXT}", re.DOTALL)
_COOKIE = re.compile(rf"System\.Net\.Cookie\(\s*({_TEXT})\s*,\s*({_TEXT})", re.DOTALL)
_AGENT = re.compile(rf"\.UserAgent\s*=\s*({_TEXT})", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_PSEUDO_HEADERS = frozenset({"authority", "method", "path", "scheme"})
"""What browsers write as headers though HTTP/2 has them elsewhere."""


def is_powershell_request(text: str) -> bool:
    """True if a text has such a request."""
    return _COMMAND.search(text) is not None


def words_of_powershell(text: str) -> Iterator[list[str]]:
    """Yield the words of each request as those of a cURL command, without `curl` itself."""
    starts = [found.start() for found in _COMMAND.finditer(text)]
    before = text[: starts[0]] if starts else ""
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield list(_words(text[start:end], before))
        # the session of a later request stands after the one before it
        before = text[start:end]


_OPTIONS = {"method": "-X", "useragent": "-A", "body": "--data-raw"}
_NO_EFFECT = frozenset({"usebasicparsing", "websession"})


def _words(command: str, session: str) -> Iterator[str]:
    for found in _PARAMETER.finditer(command):
        name, value = (found[1] or found[3]).lower(), found[2] or ""
        if name == "uri":
            yield _plain(value)
        elif name in _OPTIONS:
            yield from (_OPTIONS[name], _plain(value))
        elif name == "contenttype":
            yield from ("-H", f"Content-Type: {_plain(value)}")
        elif name == "headers":
            for key, text in _PAIR.findall(value.removeprefix("@{")):
                if key and _plain(key).lower() not in _PSEUDO_HEADERS:
                    yield from ("-H", f"{_plain(key)}: {_plain(text)}")
        elif name not in _NO_EFFECT:
            yield f"--{name}"
    cookies = [f"{_plain(name)}={_plain(value)}" for name, value in _COOKIE.findall(session)]
    if cookies:
        yield from ("-b", "; ".join(cookies))
    for agent in _AGENT.findall(session):
        yield from ("-A", _plain(agent))


def _plain(text: str) -> str:
    """Return what a text in quotes stands for."""
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if not text.startswith('"'):
        return text
    inner = text[1:-1].replace('""', '"')
    return re.sub(r"`(.)", lambda found: _ESCAPES.get(found[1], found[1]), inner, flags=re.DOTALL)
