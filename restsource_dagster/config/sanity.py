"""What no part of a connector file may be, whatever its place: checked before anything else."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from restsource_dagster.config.problems import Finding
from restsource_dagster.config.wording import is_secret, pointer_to, rendered

__all__ = ["DEEPEST", "flag_warnings", "insane", "text_findings"]

DEEPEST = 100
"""Levels of nesting; dlt copies a configuration recursively and fails somewhat deeper."""

_TEMPLATE = re.compile(
    r"\{\{\s*(?:dlt\.)?(?:secrets?|config|env|environ|vars?)\s*[.\[][^{}]*\}\}"
    r"|\{\{\s*(?:env_var|env|var|secret)\s*\([^{}]*\}\}"
    r"|\bdlt\.(?:secrets|config)\b\S*"
)
_QUOTED = re.compile(r"['\"]([\w.]+)['\"]")
_DOTTED = re.compile(r"\b(?:secrets?|config|env|environ|vars?)\.(\w[\w.]*)")
_BROKEN_REFERENCE = re.compile(r"(?<!\$)\$\{(?!(?:[A-Za-z_][A-Za-z0-9_]*\}))([^{}]{0,60})")

_NUMBERS = {
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

Path = tuple[str | int, ...]


def insane(value: Any) -> list[Finding]:
    """Findings for nesting without end, numbers that JSON doesn't have, and broken characters.

    With any of them nothing else can be checked safely.
    """
    findings = []
    for path, item in _walk(value, deepest=DEEPEST):
        if len(path) >= DEEPEST and isinstance(item, dict | list):
            findings.append(
                Finding(
                    pointer_to(path[:3]),
                    f"Nested deeper than {DEEPEST} levels",
                    code=_code("depth"),
                )
            )
            break
        if isinstance(item, float) and not math.isfinite(item):
            message = "NaN and infinity are no JSON"
            findings.append(Finding(pointer_to(path), message, code=_code("not-json")))
        elif not all(_is_key(text) for text in _texts(item)):
            findings.append(_broken_text(path))
    return findings


def text_findings(value: Any) -> Iterator[Finding]:
    """Findings for templates of other systems and misspelt references, anywhere in the file."""
    for path, item in _walk(value, deepest=DEEPEST):
        if not isinstance(item, str) or ("{" not in item and "dlt." not in item):
            continue
        if path and path[-1] == "description":
            continue
        if match := _TEMPLATE.search(item):
            yield _template_finding(path, match[0])
        elif match := _BROKEN_REFERENCE.search(item):
            yield _reference_finding(path, match[1])


def flag_warnings(value: dict[str, Any]) -> Iterator[Finding]:
    """A warning for each `true` or `false` where dlt wants a number and takes it for 1 or 0."""
    for path, item in _walk(value, deepest=DEEPEST):
        if not isinstance(item, bool) or path[-1] not in _NUMBERS:
            continue
        if path[0] not in ("client", "resources", "resource_defaults"):
            continue
        if not {"params", "json", "data", "headers", "access_token_request_data"} & {*path[:-1]}:
            yield Finding(
                pointer_to(path),
                f"dlt takes this for the number {int(item)}",
                rendered(item),
                "a number",
                "Write the number",
                severity="warning",
            )


def _template_finding(path: Path, template: str) -> Finding:
    named = _QUOTED.search(template) or _DOTTED.search(template)
    name = _variable(named[1]) if named else "NAME"
    return Finding(
        pointer_to(path),
        "A template is not filled in here; the API would get it as it stands",
        expected="a reference to an environment variable",
        mend=f"Write `${{{name}}}`; or leave the field out, and dlt looks in secrets.toml",
        code=_code("template"),
    )


def _reference_finding(path: Path, name: str) -> Finding:
    shown = "" if is_secret(path) and not re.fullmatch(r"[\w.:-]+", name) else name
    return Finding(
        pointer_to(path),
        "`${` starts a reference, and this one has no valid name",
        expected="`${NAME}`: letters, digits and underscores",
        mend=f"Write `${{{_variable(shown) or 'NAME'}}}`, or `$${{` for a literal `${{`",
        code=_code("reference-name"),
    )


def _variable(name: str) -> str:
    name = re.sub(r"^(env|ENV|secrets?|vars?)[:.]", "", name.split("}", maxsplit=1)[0])
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").upper()[:60]


def _code(name: str) -> str:
    return f"deliberate:{name}"


def _broken_text(path: Path) -> Finding:
    return Finding(
        pointer_to(path),
        "The text holds half a character (a lone surrogate), which can't be sent",
        code=_code("not-unicode"),
    )


def _texts(item: Any) -> Iterable[Any]:
    if isinstance(item, str):
        return (item,)
    return item if isinstance(item, dict) else ()


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and _is_unicode(key)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(value: Any, *, deepest: int) -> Iterator[tuple[Path, Any]]:
    """Every value and its path, without recursion; what is deeper than `deepest` is left out."""
    stack: list[tuple[Path, Any]] = [((), value)]
    while stack:
        path, item = stack.pop()
        yield path, item
        if len(path) >= deepest:
            continue
        if isinstance(item, dict):
            stack.extend(((*path, _safe(key)), inner) for key, inner in item.items())
        elif isinstance(item, list):
            stack.extend(((*path, index), inner) for index, inner in enumerate(item))


def _safe(key: Any) -> str:
    return str(key).encode("utf-8", "replace").decode()
