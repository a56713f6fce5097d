"""Checks of values wherever they stand: depth, numbers, characters, templates, secrets, URLs.

All but those of URLs run on the raw value, before and beside the models: a broken file gets all its
findings at once.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

from restsource_dagster.connector.env_references import (
    broken_reference,
    default_of,
    find_references,
    without_references,
)
from restsource_dagster.connector.models.connector_file import Client
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    describe_value,
    json_pointer,
    may_be_secret,
    pointer_steps,
)

__all__ = [
    "MAX_NESTING",
    "add_value_findings",
    "base_url_findings",
    "fatal_findings",
    "is_full_url",
    "url_findings",
    "values_with_paths",
    "without_literal_secrets",
]

MAX_NESTING = 100
"""Levels of nesting. dlt copies a configuration recursively and fails at deeper ones."""

# Templates as dbt and Jinja write them, and `dlt.secrets[...]` of Python: people paste them in.
_FOREIGN_TEMPLATE = re.compile(
    r"\{\{\s*(?:dlt\.)?(?:secrets?|config|env|environ|vars?)\s*[.\[][^{}]*\}\}"
    r"|\{\{\s*(?:env_var|env|var|secret)\s*\([^{}]*\}\}"
    r"|\bdlt\.(?:secrets|config)\b\S*"
)
_QUOTED_NAME = re.compile(r"['\"]([\w.]+)['\"]")
_DOTTED_NAME = re.compile(r"\b(?:secrets?|config|env|environ|vars?)\.(\w[\w.]*)")

# `True` is an `int` in Python, so dlt accepts a boolean in these.
_NUMBER_FIELDS = {
    "limit",
    "offset",
    "base_page",
    "page",
    "maximum_page",
    "maximum_offset",
    "lag",
    "status_code",
    "max_table_nesting",
    "default_token_expiration",
    "precision",
    "scale",
}


def fatal_findings(value: Any) -> list[Finding]:
    """Return findings for deep nesting, numbers that JSON doesn't have, and broken characters.

    With any of them nothing else can be checked safely.
    """
    findings = []
    for path, item in values_with_paths(value, deepest=MAX_NESTING):
        if len(path) >= MAX_NESTING and isinstance(item, dict | list):
            findings.append(
                Finding(
                    # The first steps only: the pointer of such a value can be as long as the file.
                    json_pointer(path[:3]),
                    f"Nested deeper than {MAX_NESTING} levels",
                    code=_input_refusal_code("depth"),
                )
            )
            # One is enough: with it nothing else can be checked safely.
            break
        if isinstance(item, float) and not math.isfinite(item):
            message = "NaN and infinity are no JSON"
            findings.append(
                Finding(json_pointer(path), message, code=_input_refusal_code("not-json"))
            )
        elif not all(_is_unicode_string(text) for text in _strings_of(item)):
            findings.append(_surrogate_finding(path))
    return findings


def add_value_findings(value: dict[str, Any], findings: list[Finding]) -> None:
    """Add what is wrong with single values: templates, credentials, literal secrets, booleans."""
    findings.extend(_template_findings(value))
    # A value with an error, or with another warning, needs no further warning.
    for warnings in (_credential_warnings, _literal_secret_warnings, _boolean_warnings):
        wrong = {finding.pointer for finding in findings}
        findings.extend(found for found in warnings(value) if found.pointer not in wrong)


def _template_findings(value: Any) -> Iterator[Finding]:
    """Yield findings for templates of other systems and misspelled references."""
    for path, item in values_with_paths(value, deepest=MAX_NESTING):
        if not isinstance(item, str) or ("{" not in item and "dlt." not in item):
            continue
        # People may explain there how a template is written.
        if path and path[-1] == "description":
            continue
        name = broken_reference(item)
        # `${dlt.secrets...}` is both, and the reference knows better what was meant
        if not name and (match := _FOREIGN_TEMPLATE.search(item)):
            yield _template_finding(path, match[0])
        elif name is not None:
            yield _reference_finding(path, name, item)


def _boolean_warnings(value: dict[str, Any]) -> Iterator[Finding]:
    """Yield a warning for each `true` or `false` that dlt takes for the number 1 or 0."""
    for path, item in values_with_paths(value, deepest=MAX_NESTING):
        if not isinstance(item, bool) or path[-1] not in _NUMBER_FIELDS:
            continue
        if path[0] not in ("client", "resources", "resource_defaults"):
            continue
        # What goes to the API as it stands may well be `true` there.
        if not {"params", "json", "data", "headers", "access_token_request_data"} & {*path[:-1]}:
            yield Finding(
                json_pointer(path),
                f"dlt takes this for the number {int(item)}",
                describe_value(item),
                "a number",
                "Write the number",
                severity="warning",
            )


def _template_finding(path: FieldPath, template: str) -> Finding:
    named = _QUOTED_NAME.search(template) or _DOTTED_NAME.search(template)
    name = _variable_name(named[1]) if named else "NAME"
    return Finding(
        json_pointer(path),
        "A template is not filled in here; the API would get it as it stands",
        expected="a reference to an environment variable",
        fix=f"Write `${{{name}}}`; or leave the field out, and dlt looks in secrets.toml",
        code=_input_refusal_code("template"),
    )


_PLACEHOLDER_NAME = re.compile(r"(?:incremental|resources|each)\.[\w.:% -]+$|(?:now|today)\b")
"""How the name of a placeholder looks that is no reference to a variable."""
_PUBLIC_REFERENCE = re.compile(r"(?:file|dlt)[:.][\w./~-]+|[A-Z][A-Z0-9_]*", re.ASCII)
"""The name of a file, of a setting or of a variable: no password is written like that."""


def _public_part(reference: str) -> str:
    """Return what may be shown of a broken reference in the place of a secret: not its default."""
    if default := _SHELL_DEFAULT.fullmatch(reference):
        return f"{default['name']}-..." if _PUBLIC_REFERENCE.fullmatch(default["name"]) else ""
    return reference if _PUBLIC_REFERENCE.fullmatch(reference) else ""


def _reference_finding(path: FieldPath, name: str, text: str) -> Finding:
    # After a `${` that is part of a password, the rest of the password follows.
    shown = _public_part(name) if may_be_secret(path) else name
    if _PLACEHOLDER_NAME.match(shown):
        return Finding(
            json_pointer(path),
            f"`${{{shown}}}` is no reference: what a run fills in is written without the `$`",
            fix=f"Write `{{{shown}}}`",
            code=_input_refusal_code("reference-name"),
            replacement=text.replace(f"${{{shown}}}", f"{{{shown}}}"),
        )
    expected, fix = _meant_reference(shown)
    return Finding(
        json_pointer(path),
        "`${` starts a reference, and this one has no valid name",
        expected=expected,
        fix=f"{fix}, or `$${{` for a literal `${{`",
        code=_input_refusal_code("reference-name"),
    )


_SHELL_DEFAULT = re.compile(r"(?P<name>[A-Za-z_]\w*):?[-=](?P<default>.*)", re.ASCII)
"""`NAME-default`, `NAME:=default`: spellings of a shell that mean almost the same."""
_FILE_WORD = re.compile(r"(file|path)\s*[:=.]\s*(?P<path>.+)", re.IGNORECASE)
_DLT_WORD = re.compile(r"dlt\s*[:.](?:secrets?|config)?[:.]?(?P<key>[\w.-]*)", re.IGNORECASE)


def _meant_reference(text: str) -> tuple[str, str]:
    """Return what is expected in place of a wrong reference, and what to write."""
    if found := _FILE_WORD.fullmatch(text):
        name = found["path"].strip().lstrip("~./") or "run/secrets/token"
        # a run starts in another folder than `restsource check`
        return "`${file:/path}`, an absolute path", f"Write `${{file:/{name}}}`"
    if found := _DLT_WORD.fullmatch(text):
        key = found["key"].strip(".") or "sources.<connector>.<key>"
        return "`${dlt:key}`, a key of secrets.toml", f"Write `${{dlt:{key}}}`"
    if found := _SHELL_DEFAULT.fullmatch(text):
        given = f"{found['name']}:-{found['default']}"
        return "`${NAME:-default}`", f"Write `${{{given}}}`"
    return (
        "`${NAME}`: letters, digits and underscores; `${NAME:-default}`, `${file:/path}` or `${dlt:key}`",
        f"Write `${{{_variable_name(text) or 'NAME'}}}`",
    )


def _variable_name(name: str) -> str:
    name = re.sub(r"^(env|ENV|secrets?|vars?)[:.]", "", name.split("}", maxsplit=1)[0])
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").upper()[:60]


def _input_refusal_code(name: str) -> str:
    return f"deliberate:{name}"


def _surrogate_finding(path: FieldPath) -> Finding:
    return Finding(
        json_pointer(path),
        "The text holds half a character (a lone surrogate), which can't be sent",
        code=_input_refusal_code("not-unicode"),
    )


def _strings_of(item: Any) -> Iterable[Any]:
    if isinstance(item, str):
        return (item,)
    return item if isinstance(item, dict) else ()


def _is_unicode_string(key: Any) -> bool:
    return isinstance(key, str) and _is_unicode(key)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def values_with_paths(value: Any, *, deepest: int) -> Iterator[tuple[FieldPath, Any]]:
    """Yield every value and its path, without recursion, down to `deepest` levels."""
    stack: list[tuple[FieldPath, Any]] = [((), value)]
    while stack:
        path, item = stack.pop()
        yield path, item
        if len(path) >= deepest:
            continue
        if isinstance(item, dict):
            stack.extend(((*path, _encodable_key(key)), inner) for key, inner in item.items())
        elif isinstance(item, list):
            stack.extend(((*path, index), inner) for index, inner in enumerate(item))


def _encodable_key(key: Any) -> str:
    # A lone surrogate in a key is reported, and the report has to be printed.
    return str(key).encode("utf-8", "replace").decode()


_AUTH_SECRET_FIELDS = (
    *("token", "api_key", "password", "client_secret", "access_token", "refresh_token"),
    *("secret", "secret_access_key", "session_token"),
)
_SECRET_PARAMETER = re.compile(
    r"^(x-)?(authorization|proxy-authorization|cookie|api[-_]?key|apikey|key|token|secret|password"
    r"|access[-_]?token|auth[-_]?token|[\w-]*[-_](api[-_]?key|token|secret|password)"
    r"|subscription-key|ocp-apim-subscription-key|hapikey|appid|client_secret)$",
    re.IGNORECASE,
)
# Tokens of pages are no credentials, whatever they are called.
_PAGING_TOKEN = re.compile(
    r"page[-_]?token|next[-_]?token|continuation|sync[-_]?token", re.IGNORECASE
)


def _literal_secret_warnings(value: dict[str, Any]) -> Iterator[Finding]:
    """Yield a warning for each literal secret in `auth`, headers and query parameters."""
    client = value.get("client")
    if isinstance(client, dict):
        yield from _auth_warnings(client.get("auth"), ("client", "auth"))
        yield from _named_warnings(client.get("headers"), ("client", "headers"))
    for at, endpoint in _endpoints_with_paths(value):
        yield from _auth_warnings(endpoint.get("auth"), (*at, "auth"))
        for part in ("headers", "params"):
            yield from _named_warnings(endpoint.get(part), (*at, part))


def without_literal_secrets(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's value with `[secret]` in place of each secret that stands in it, for people to see."""
    shown: dict[str, Any] = deepcopy(dict(value))
    for finding in tuple(_literal_secret_warnings(shown)):
        *steps, last = pointer_steps(finding.pointer)
        holder: Any = shown
        for step in steps:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        holder[last] = "[secret]"
    return shown


def _credential_warnings(value: dict[str, Any]) -> Iterator[Finding]:
    """Yield a warning for each credential that is sent otherwise than it is meant."""
    client = value.get("client")
    if isinstance(client, dict):
        yield from _credentials_sent_wrong(client.get("auth"), ("client", "auth"))
        yield from _unfilled_texts(client.get("headers"), ("client", "headers"))
    for at, endpoint in _endpoints_with_paths(value):
        yield from _credentials_sent_wrong(endpoint.get("auth"), (*at, "auth"))


def _credentials_sent_wrong(auth: Any, at: FieldPath) -> Iterator[Finding]:
    if not isinstance(auth, dict):
        return
    # the texts of `hmac` have placeholders of their own
    is_hmac = auth.get("type") == "hmac"
    yield from _unfilled_texts({} if is_hmac else auth, at)
    kind = auth.get("type", "bearer")
    added = _ADDED_SCHEMES.get(kind) if isinstance(kind, str) else None
    for name in _SCHEME_FIELDS if added else ():
        text = auth.get(name)
        if isinstance(text, str) and (match := _SCHEME_WORD.match(text)):
            yield Finding(
                json_pointer((*at, name)),
                f"`{name}` starts with `{match[1]}`, and the word `{added}` is put before it when it "
                "is sent",
                fix=f"Leave `{match[1]}` out",
                severity="warning",
            )


def _unfilled_texts(values: Any, at: FieldPath) -> Iterator[Finding]:
    """Yield a warning for each text in which something looks like a reference and is none."""
    for steps, item in values_with_paths(values, deepest=MAX_NESTING):
        if isinstance(item, str) and (match := _UNFILLED.search(without_references(item))):
            name = _variable_name(match["braced"] or match["dollar"] or match["angled"])
            yield Finding(
                json_pointer((*at, *steps)),
                "A name in braces or the like is not filled in here; the API would get it as it stands",
                expected="a reference to an environment variable",
                fix=f"Write `${{{name}}}`",
                severity="warning",
            )


_ADDED_SCHEMES = {
    "bearer": "Bearer",
    "http_basic": "Basic",
    "oauth2_client_credentials": "Bearer",
}
"""The word that each type of auth puts into the header `Authorization`."""
_SCHEME_FIELDS = ("token", "access_token", "username", "password")
_SCHEME_WORD = re.compile(r"\s*(bearer|basic|token)\s+\S", re.IGNORECASE)
_UNFILLED = re.compile(
    r"\{+\s*(?P<braced>[A-Za-z_]\w*)\s*\}+"  # {NAME}, {{NAME}}
    r"|^\$(?P<dollar>[A-Za-z_]\w*)$"
    r"|^<(?P<angled>[A-Za-z_][\w -]*)>$"
)


def _endpoints_with_paths(value: dict[str, Any]) -> Iterator[tuple[FieldPath, dict[str, Any]]]:
    places: list[tuple[FieldPath, Any]] = [(("resource_defaults",), value.get("resource_defaults"))]
    resources = value.get("resources")
    if isinstance(resources, list):
        places.extend((("resources", index), item) for index, item in enumerate(resources))
    for at, item in places:
        endpoint = item.get("endpoint") if isinstance(item, dict) else None
        if isinstance(endpoint, dict):
            yield (*at, "endpoint"), endpoint


def _auth_warnings(auth: Any, at: FieldPath) -> Iterator[Finding]:
    if isinstance(auth, dict):
        for name in _AUTH_SECRET_FIELDS:
            if _is_literal(auth.get(name)):
                yield _literal_secret_warning((*at, name), name)
        for name in ("client_key", "signing_key"):
            if isinstance(key := auth.get(name), dict) and _is_literal(key.get("key")):
                yield _literal_secret_warning((*at, name, "key"), name)
        if auth.get("type") == "login":
            for part in ("headers", "params", "json", "data"):
                yield from _named_warnings(auth.get(part), (*at, part))


def _named_warnings(values: Any, at: FieldPath) -> Iterator[Finding]:
    if isinstance(values, dict):
        for name, item in values.items():
            if (
                _SECRET_PARAMETER.match(name)
                and not _PAGING_TOKEN.search(name)
                and _is_literal(item)
            ):
                yield _literal_secret_warning((*at, name), name)


def _is_literal(item: Any) -> bool:
    # A text with a placeholder or a reference gets its value in a run, so the file holds no secret,
    # unless the reference has a default.
    if not isinstance(item, str) or not item:
        return False
    references = find_references(item)
    return any(map(default_of, references)) if references else "{" not in item


def _literal_secret_warning(at: FieldPath, name: str) -> Finding:
    variable = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").upper() or "NAME"
    return Finding(
        json_pointer(at),
        "A secret stands in the file, where everybody who can read the file sees it",
        expected="a reference to an environment variable",
        fix=f"Put it into .env as {variable}=... and write `${{{variable}}}`",
        severity="warning",
    )


_EXAMPLE_URL = "a URL such as `https://api.example.com/v1`"
_NO_SCHEME = "has no scheme"
_URL_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_TO_FILL_IN = re.compile(r"<[^<>]*>|\{[^{}]*\}|\[[A-Za-z][^\[\]]*\]")


def base_url_findings(client: Client) -> Iterator[Finding]:
    """Yield why nothing can be requested below `base_url`."""
    at: FieldPath = ("client", "base_url")
    problems = list(url_findings(client.base_url, at))
    yield from problems
    if not problems and re.search(r"[?#]", without_references(client.base_url)):
        yield Finding(
            json_pointer(at),
            "`base_url` has a query or a `#`, and the paths are put behind it",
            fix='Leave it out, and write the parameters as "params" of `resource_defaults.endpoint`',
            severity="warning",
        )


def is_full_url(path: str) -> bool:
    """True if the path of an endpoint is a URL of its own, or is meant to be one."""
    return _URL_SCHEME.match(path.strip()) is not None


def url_findings(url: str, at: FieldPath) -> Iterator[Finding]:
    """Yield why no request can be made to a URL. What a reference stands for is not known here."""
    # a digit can be in a port, too
    text = without_references(url, "1")
    problem, fix = _problem_of(text, starts_with_reference=url.startswith("${"))
    if problem:
        yield Finding(
            json_pointer(at),
            f"`{at[-1]}` {problem}",
            describe_value(url, at),
            _EXAMPLE_URL,
            fix,
            code="deliberate:url",
            replacement=f"https://{url.lstrip('/:')}" if problem == _NO_SCHEME else None,
        )


def _problem_of(text: str, *, starts_with_reference: bool) -> tuple[str, str | None]:
    """Return what is wrong with a URL, and what to write; "" if nothing is."""
    if not text.strip():
        return "is empty", None
    if re.search(r"[\s\x00-\x1f]", text):
        return "has a space or a line break", "Leave it out, or write it as %20"
    if match := _TO_FILL_IN.search(text):
        return f"has a part that is to be filled in: `{match[0]}`", "Write your own value there"
    return ("", None) if starts_with_reference else _problem_of_origin(text)


def _problem_of_origin(text: str) -> tuple[str, str | None]:
    scheme = _URL_SCHEME.match(text)
    if scheme is None:
        return _NO_SCHEME, f"Write `https://{text.lstrip('/:')}`"
    if scheme[1].lower() not in ("http", "https"):
        return f"has the scheme `{scheme[1]}`, and an API is requested over http or https", None
    return _problem_of_host(text), None


def _problem_of_host(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_odd = not parts.hostname or parts.netloc.endswith(":") or parts.port == 0
    except ValueError:  # a port that is no number, brackets that are no address
        is_odd = True
    return "names no host, or a port that is none" if is_odd or "\\" in text else ""
