"""The words of commands, as bash, cmd and PowerShell write them: quotes, escapes, lines that go on.

A variable of the shell becomes a mark. A request that a browser copies for PowerShell becomes the words of curl.
"""

import re
import shlex
from collections.abc import Iterator

from restsource_dagster.authoring.importing.source_files import SourceError
from restsource_dagster.authoring.importing.source_requests import variable_mark

__all__ = [
    "COMMAND_START",
    "is_comment",
    "is_powershell_request",
    "split_commands",
]

COMMAND_START = re.compile(r"(?:[$%>#]\s+|PS [^>\n]*>\s*)?curl(?:\.exe)?(?=\s)", re.IGNORECASE)
_MAX_COMMAND = 100_000
_MAX_POWERSHELL = 500_000


def is_comment(line: str) -> bool:
    """True for a line that is no part of a command."""
    return line.startswith(("#", "//")) and not COMMAND_START.match(line)


def split_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command, without `curl` itself."""
    if is_powershell_request(text):
        if len(text) > _MAX_POWERSHELL:
            raise SourceError(
                f"requests of PowerShell with more than {_MAX_POWERSHELL:,} characters"
            )
        yield from _words_of_powershell(text)
        return
    if re.search(r"\^\s*\r?\n|\^\"", text):
        text = _without_carets(text)
        yield from (_words_of_windows(each) for each in _chunks(text))
        return
    # PowerShell's own escape, in a line that calls curl
    if re.search(r"`\r?\n", text):
        text = re.sub(r"`\r?\n", " ", text)
        text = re.sub(r"`(.)", lambda m: f"\\{m[1]}", text)
    for chunk in _chunks(_without_dialect(text)):
        # shlex takes a time that grows with the square of a word
        if len(chunk) > _MAX_COMMAND:
            raise SourceError(f"a cURL command of more than {_MAX_COMMAND:,} characters")
        try:
            words = shlex.split(chunk)
        except ValueError as error:
            raise SourceError(f"the cURL command can't be read: {error}".lower()) from None
        yield [word.replace(_NEWLINE, "\n") for word in words]


_NEWLINE = "\ue0ff"
"""Stands for a line end inside quotes while the text is split into lines."""


def _chunks(text: str) -> Iterator[str]:
    """Yield the text of each command: from one line that begins with curl to the next."""
    lines: list[str] = []
    for line in text.splitlines():
        start = COMMAND_START.match(line.strip())
        if start:
            if lines:
                yield " ".join(lines)
            lines = [line.strip()[start.end() :]]
        elif lines and line.strip() and not is_comment(line.strip()):
            lines.append(line)
    if lines:
        yield " ".join(lines)


_BASH_TOKEN = re.compile(
    r"""(?P<ansi>\$'(?:\\.|[^'\\])*')
      | (?P<single>'[^']*')
      | (?P<double>\$?"(?:\\.|[^"\\])*")
      | (?P<continued>\\[ \t]*\r?\n)
      | (?P<escape>\\.)
      | (?P<variable>\$(?:\{\w+\}|[A-Za-z_]\w*))
    """,
    re.DOTALL | re.VERBOSE,
)


_VARIABLE = re.compile(r"(?<!\\)\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


_ANSI = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}


_ANSI_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL
)


def _without_dialect(text: str) -> str:
    """Return a bash text that `shlex` reads: no `$'...'`, no continued lines, variables marked."""
    return _BASH_TOKEN.sub(_plain_token, text)


def _plain_token(found: re.Match[str]) -> str:
    text = found[0]
    match found.lastgroup:
        case "ansi":
            made = _ANSI_ESCAPE.sub(_ansi_character, text[2:-1])
            return shlex.quote(made).replace("\n", _NEWLINE)
        case "double":
            marked = _VARIABLE.sub(_marked, text.removeprefix("$"))
            return re.sub(r"\\\r?\n", "", marked).replace("\n", _NEWLINE)
        case "single":
            return text.replace("\n", _NEWLINE)
        case "continued":
            return " "
        case "variable":
            return _VARIABLE.sub(_marked, text)
    return text


def _marked(found: re.Match[str]) -> str:
    return variable_mark(found[1] or found[2])


def _ansi_character(found: re.Match[str]) -> str:
    """Return the character of an escape in `$'...'` (bash's ANSI-C quoting)."""
    code = found[1] or found[2] or found[3]
    if code:
        number = int(code, 16)
        return chr(number) if number <= 0x10FFFF else ""
    return chr(int(found[4], 8)) if found[4] else _ANSI.get(found[5], found[5])


def _without_carets(text: str) -> str:
    """Return a text of cmd without its escapes: a caret before a line end continues the line."""
    # browsers write a line end in a body as a caret and two line ends
    text = re.sub(r"\^\r?\n\r?\n", _NEWLINE, text)
    text = re.sub(r"\^\r?\n", " ", text)
    return re.sub(r"\^(.)", r"\1", text)


_KEPT_QUOTE = "\ue0fe"


def _words_of_windows(text: str) -> list[str]:
    """Split a command as programs on Windows do: `\\"` and `""` in quotes are a quote."""
    # two backslashes before a quote are one backslash, and one makes the quote a character
    text = re.sub(r'(\\+)"', _escaped_quote, text)
    words: list[str] = []
    current: list[str] = []
    quoted = False
    for part in re.findall(r'""|"|\s|[^"\s]+', text):
        if part.isspace() and not quoted:
            words.extend(["".join(current)] if current else [])
            current = []
        elif part == '""':
            current.append('"' if quoted else "")
        elif part == '"':
            quoted = not quoted
            current.append("")  # a word, even an empty one
        else:
            current.append(part)
    words.extend(["".join(current)] if current else [])
    return [word.replace(_KEPT_QUOTE, '"').replace(_NEWLINE, "\n") for word in words]


def _escaped_quote(found: re.Match[str]) -> str:
    count = len(found[1])
    return "\\" * (count // 2) + (_KEPT_QUOTE if count % 2 else '"')


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


def _words_of_powershell(text: str) -> Iterator[list[str]]:
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
