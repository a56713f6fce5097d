"""Read cURL commands, as documentation prints them and browsers copy them (bash, cmd and PowerShell)."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from restsource_dagster.authoring.importing.connector_draft import ConnectorDraft, assemble
from restsource_dagster.authoring.importing.sent_requests import api_of_requests
from restsource_dagster.authoring.importing.shell_words import (
    COMMAND_START,
    is_comment,
    is_powershell_request,
    split_commands,
)
from restsource_dagster.authoring.importing.source_files import SourceError, SourceFile
from restsource_dagster.authoring.importing.source_pieces import Ledger, Piece
from restsource_dagster.authoring.importing.source_requests import (
    SentField,
    SentLogin,
    SourceRequest,
)

__all__ = ["is_curl", "read_curl"]

_MAX_WORDS = 5_000
_PRIVATE = re.compile("[\ue000-\ue0ff]")


def is_curl(text: str) -> bool:
    """True if a text is a cURL command, perhaps below comments, or a request of PowerShell."""
    if is_powershell_request(text):
        return True
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not is_comment(line)), "")
    return COMMAND_START.match(first) is not None


def read_curl(files: Sequence[SourceFile], name: str | None) -> ConnectorDraft:
    """Return the connector of cURL commands: one resource for each. Raises `SourceError`.

    Paths in the report name a command by its number, and in it an option and a name: `/1/-H Accept`.
    """
    text = "\n".join(file.text for file in files)
    # a quote in the words before the first command would look like the beginning of a text
    begin = re.search(rf"^[ \t]*{COMMAND_START.pattern}", text, re.MULTILINE | re.IGNORECASE)
    if not is_powershell_request(text):
        text = text[begin.start() :] if begin else ""
    # what the file itself has of our marks would be taken for them
    commands = [_labelled(_parsed(words)) for words in split_commands(_PRIVATE.sub("", text))]
    if not commands:
        raise SourceError("no cURL command: it begins with the word curl")
    document = {str(number): made.labels for number, made in enumerate(commands, 1)}
    root = Piece(document, (), Ledger())
    requests = [made.request(root.get(str(number))) for number, made in enumerate(commands, 1)]
    draft = assemble(api_of_requests(requests, name, {}))
    # what is left are options that say nothing of the request
    draft.ledger.add_unread(document, lambda path: _reason(str(path[1]) if len(path) > 1 else ""))
    return draft


# ---- the options of a command


class _OptionParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise `SourceError`; argparse would end the process. The message names options, no values."""
        raise SourceError(f"the cURL command can't be read: {message.partition(':')[0]}")


_VALUE_OPTIONS: dict[str, tuple[str, ...]] = {
    "request": ("-X", "--request"),
    "user": ("-u", "--user"),
    "agent": ("-A", "--user-agent"),
    "referer": ("-e", "--referer"),
    "bearer": ("--oauth2-bearer",),
}
_LIST_OPTIONS: dict[str, tuple[str, ...]] = {
    "headers": ("-H", "--header"),
    "cookies": ("-b", "--cookie"),
    "forms": ("-F", "--form", "--form-string"),
    "urls": ("--url",),
    "url_query": ("--url-query",),
}
_FLAGS: dict[str, tuple[str, ...]] = {
    "get": ("-G", "--get"),
    "head": ("-I", "--head"),
    "digest": ("--digest",),
    "other_auth": ("--ntlm", "--negotiate", "--anyauth"),
}
_SILENT_FLAGS = (
    *("-s", "--silent", "-S", "--show-error", "-L", "--location", "-k", "--insecure", "-i"),
    *("--include", "-v", "--verbose", "-f", "--fail", "--fail-with-body", "-#", "--progress-bar"),
    *("-g", "--globoff", "--compressed", "--http1.0", "-0", "--http1.1", "--http2", "--http3"),
    *("-N", "--no-buffer", "--http2-prior-knowledge", "--tlsv1.2", "--tlsv1.3", "-O", "-J"),
    *("--remote-name", "-4", "-6", "--path-as-is", "--basic", "--no-progress-meter", "--raw"),
    *("--location-trusted", "-n", "--netrc", "-a", "--append", "--ssl-reqd", "-q", "-Z"),
)
_SILENT_VALUES = (
    *("-o", "--output", "--retry", "--retry-delay", "--retry-max-time", "--connect-timeout"),
    *("-m", "--max-time", "-x", "--proxy", "-U", "--proxy-user", "-c", "--cookie-jar", "--cacert"),
    *("-E", "--cert", "--key", "--pass", "-w", "--write-out", "-T", "--upload-file", "-K"),
    *("--config", "-D", "--dump-header", "--resolve", "--max-redirs", "--limit-rate", "-r"),
    *("--range", "-C", "--continue-at", "--ciphers", "--interface", "--unix-socket"),
    *("--aws-sigv4", "--capath", "-z", "-y", "-Y"),
)
_DATA_OPTIONS = (
    *("-d", "--data", "--data-ascii", "--data-raw", "--data-binary", "--data-urlencode"),
    "--json",
)

_REASONS = {
    "-k": "certificates are always verified",
    "-L": "redirects are followed anyway, within the rules for hosts",
    "-m": 'has a place beside the requests: write "http": {"timeout_seconds": ...}',
    "-x": "a proxy is set in the environment: HTTPS_PROXY",
    "-E": "certificates of clients are not supported",
    "-T": "sends a file, and a connector only reads",
    "--aws-sigv4": "signatures are not supported",
    "--retry": "requests are retried anyway",
    "--ntlm": "this kind of login is not supported",
}
_SAME_OPTION = {
    "--insecure": "-k",
    "--location": "-L",
    "--max-time": "-m",
    "--proxy": "-x",
    "--cert": "-E",
    "--upload-file": "-T",
    "--negotiate": "--ntlm",
    "--anyauth": "--ntlm",
}


def _reason(label: str) -> str:
    option = label.split(" ", maxsplit=1)[0]
    known = _REASONS.get(_SAME_OPTION.get(option, option))
    return known or "has no effect on what is asked for"


class _Noted(argparse.Action):
    """Keeps each option with its spelling, in the order of the command."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        del parser
        namespace.noted.append((self.dest, option_string, values))


def _option_parser() -> argparse.ArgumentParser:
    parser = _OptionParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for dest, names in (*_VALUE_OPTIONS.items(), *_LIST_OPTIONS.items(), ("data", _DATA_OPTIONS)):
        parser.add_argument(*names, dest=dest, action=_Noted)
    for dest, names in _FLAGS.items():
        parser.add_argument(*names, dest=dest, action=_Noted, nargs=0)
    parser.add_argument(*_SILENT_FLAGS, dest="silent", action=_Noted, nargs=0)
    parser.add_argument(*_SILENT_VALUES, dest="silent", action=_Noted)
    return parser


@dataclass(frozen=True)
class _Command:
    """The options of a command in their order, its addresses, unknown options, and what follows a pipe."""

    noted: tuple[tuple[str, str, Any], ...]
    urls: tuple[str, ...]
    unknown: tuple[str, ...]
    after: tuple[str, ...]

    def values(self, dest: str) -> list[tuple[str, Any]]:
        return [(option, value) for kind, option, value in self.noted if kind == dest]

    def last(self, dest: str) -> str | None:
        found = self.values(dest)
        return found[-1][1] if found else None


_PIPES = frozenset({"|", ";", "&&", "||", ">", ">>", "<", "2>", "2>&1", "&"})


def _parsed(words: Sequence[str]) -> _Command:
    if len(words) > _MAX_WORDS:
        raise SourceError(f"a cURL command of more than {_MAX_WORDS:,} words")
    bound, after = _bound(words)
    namespace = argparse.Namespace(noted=[])
    try:
        _, rest = _option_parser().parse_known_args(bound, namespace)
    except argparse.ArgumentError as error:
        raise SourceError(f"the cURL command can't be read: {error.message}") from None
    # an address may stand anywhere among the options
    urls = [word for word in rest if not word.startswith("-")]
    unknown = [word for word in rest if word.startswith("-")]
    given = [value for kind, _, value in namespace.noted if kind == "urls"]
    return _Command(tuple(namespace.noted), (*given, *urls), tuple(unknown), tuple(after))


_LONG_NAMES = {
    name: next((each for each in names if each.startswith("--")), name)
    for names in (*_VALUE_OPTIONS.values(), *_LIST_OPTIONS.values(), _DATA_OPTIONS)
    for name in (names if names is not _DATA_OPTIONS else ("-d", "--data"))
} | {name: name for name in (*_DATA_OPTIONS[1:], *_SILENT_VALUES)}
"""The options with a value, each with its long name."""


def _bound(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words with each value bound to its option, and those after a pipe or the like.

    argparse takes no value that begins with `-`, unless it is bound.
    """
    bound: list[str] = []
    waiting: str | None = None
    for place, word in enumerate(words):
        if waiting is not None:
            bound.append(f"{waiting}={word}" if waiting.startswith("--") else f"{waiting}{word}")
            waiting = None
        elif word in _LONG_NAMES:
            waiting = _LONG_NAMES[word]
        elif word in _PIPES:
            return bound, list(words[place:])
        else:
            bound.append(word)
    return [*bound, *([waiting] if waiting else [])], []


# ---- a command as a document


@dataclass(frozen=True)
class _LabelledCommand:
    """A command, and its pieces by labels: options with the names that they set, never values."""

    command: _Command
    url: str
    fields: dict[str, tuple[tuple[str, str, str], ...]]
    labels: dict[str, Any]

    def request(self, piece: Piece) -> SourceRequest:
        """Return the request that the command sends."""

        def sent(kind: str) -> tuple[SentField, ...]:
            return tuple(
                SentField(name, value, piece.get(label)) for label, name, value in self.fields[kind]
            )

        body = self.fields["body"]
        login = self.fields["basic"]
        method, method_labels = self._method()
        if login:
            for label, _ in self.command.values("digest"):
                piece.get(label).mapped("client.auth")
        for label in method_labels:
            piece.get(label).mapped("the method of the request")
        return SourceRequest(
            piece=piece,
            method=method,
            url=self.url,
            url_piece=piece.get("url"),
            query=sent("query"),
            headers=sent("headers"),
            form=sent("form"),
            is_multipart=bool(self.command.values("forms")),
            body="".join(value for _, _, value in body) if body else None,
            body_piece=piece.get(body[0][0]) if body else None,
            login=SentLogin(
                "digest" if self.command.values("digest") else "basic",
                {"username": login[-1][1], "password": login[-1][2]},
                piece.get(login[-1][0]),
            )
            if login
            else None,
        )

    def _method(self) -> tuple[str, list[str]]:
        """Return the method, and the labels of the options that say it."""
        given = self.command.values("request")
        decisive = given or self.command.values("head") or self.command.values("get")
        labels = [option for option, _ in decisive]
        if given:
            return given[-1][1].upper(), labels
        if self.command.values("head"):
            return "HEAD", labels
        has_body = self.fields["body"] or self.fields["form"]
        return ("POST" if has_body else "GET"), labels


def _labelled(command: _Command) -> _LabelledCommand:
    """Return the command with a label for each of its pieces."""
    if not command.urls:
        raise SourceError("a cURL command without an address")
    url, query = _split_url(command.urls[0])
    labeller = _Labeller(to_query=bool(command.values("get")))
    labeller.label("url", url)
    for name, value in query:
        labeller.add("query", f"?{name}", name, value)
    no_basic = command.values("other_auth")
    for dest, option, value in command.noted:
        if dest == "user" and no_basic:
            labeller.label(option, value)
        else:
            getattr(labeller, f"take_{dest}", labeller.take_other)(option, value)
    for extra in command.urls[1:]:
        labeller.label("another address", extra)
    for word in command.unknown:
        labeller.label(word.split("=")[0] if word.startswith("--") else word[:2], word)
    if command.after:
        labeller.label("what follows the command", " ".join(command.after))
    fields = {kind: tuple(values) for kind, values in labeller.fields.items()}
    return _LabelledCommand(command, url, fields, labeller.labels)


def _split_url(text: str) -> tuple[str, list[tuple[str, str]]]:
    address = text if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text) else f"https://{text}"
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise SourceError("the address of a cURL command can't be read") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SourceError("the address of a cURL command is no address of a web server")
    query = parse_qsl(parts.query, keep_blank_values=True)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), query


class _Labeller:
    """Gives each option of a command a label, and puts what it sends where it is sent."""

    def __init__(self, *, to_query: bool) -> None:
        self.labels: dict[str, Any] = {}
        self.fields: dict[str, list[tuple[str, str, str]]] = {
            kind: [] for kind in ("query", "headers", "form", "body", "basic")
        }
        self._pairs = "query" if to_query else "form"

    def label(self, text: str, value: Any) -> str:
        """Keep a value under a label, with a number if it is taken; return the label."""
        made, number = text, 2
        while made in self.labels:
            made, number = f"{text} ({number})", number + 1
        self.labels[made] = value
        return made

    def add(self, kind: str, label: str, name: str, value: str) -> None:
        """Keep something that is sent."""
        self.fields[kind].append((self.label(label, value), name, value))

    def take_headers(self, option: str, value: str) -> None:
        name, colon, text = value.partition(":")
        if colon and name.strip():
            self.add("headers", f"{option} {name.strip()}", name.strip(), text.strip())
        else:
            self.label(option, value)

    def take_cookies(self, option: str, value: str) -> None:
        if "=" in value:
            self.add("headers", option, "Cookie", value)
        else:  # the name of a file
            self.label(option, value)

    def take_agent(self, option: str, value: str) -> None:
        self.add("headers", option, "User-Agent", value)

    def take_referer(self, option: str, value: str) -> None:
        self.add("headers", option, "Referer", value)

    def take_bearer(self, option: str, value: str) -> None:
        self.add("headers", option, "Authorization", f"Bearer {value}")

    def take_user(self, option: str, value: str) -> None:
        user, _, password = value.partition(":")
        self.fields["basic"].append((self.label(option, value), user, password))

    def take_forms(self, option: str, value: str) -> None:
        name, _, text = value.partition("=")
        if text.startswith(("@", "<")):
            self.label(f"{option} {name}", value)
        else:
            self.add("form", f"{option} {name}", name, text)

    def take_url_query(self, option: str, value: str) -> None:
        name, _, text = value.partition("=")
        self.add("query", f"{option} {name}", name, text)

    def take_data(self, option: str, value: str) -> None:
        """Put a `-d` into the query (`-G`), the form or the body."""
        if value.startswith("@") and option != "--data-raw":
            self.label(option, value)
        elif option == "--json":
            self.add("body", option, "", value)
            self.add("headers", f"{option} Accept", "Accept", "application/json")
        elif option == "--data-urlencode":
            name, equals, text = value.partition("=")
            self.add(self._pairs, f"{option} {name}", name, text if equals else value)
        else:
            self._take_pairs_or_body(option, value)

    def _take_pairs_or_body(self, option: str, value: str) -> None:
        # JSON and XML may have `=` in them; what follows a body belongs to it
        is_form = re.match(r"[^{\[<\s=&]+=", value) and not self.fields["body"]
        # `a=1&b=` is two fields, of which one is empty
        pairs = parse_qsl(value, keep_blank_values=True) if is_form else []
        for name, text in pairs:
            self.add(self._pairs, f"{option} {name}", name, text)
        if not pairs:
            self.add("body", option, "", value)

    def take_urls(self, option: str, value: str) -> None:
        """An address is known already."""

    def take_other(self, option: str, value: Any) -> None:
        self.label(option, value if isinstance(value, str) else True)
