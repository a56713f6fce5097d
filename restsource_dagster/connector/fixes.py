"""Correct connector files: replace wrong names and values, and leave all else as it is written."""

import codecs
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from restsource_dagster.connector.env_references import find_references
from restsource_dagster.connector.loader import load_text
from restsource_dagster.connector.parsing.document import (
    YAML_SUFFIXES,
    Document,
    parse_document,
    read_content,
)
from restsource_dagster.connector.validation.diagnostics import Problem, may_be_secret
from restsource_dagster.connector.validation.input_checks import MAX_NESTING, values_with_paths
from restsource_dagster.whole_file import write_file_whole

__all__ = ["fix_file", "fixed_text", "hidden_secrets", "with_replacement"]

_MAX_ROUNDS = 20


def fix_file(path: Path) -> str:
    """Correct a file in place as `fixed_text` does; return the change as a unified diff, "" for none.

    The file is replaced as a whole, through a link, and keeps its mode. A file that can't be read is left
    as it is. Raises `OSError` if it can't be written.
    """
    content = read_content(path)
    if isinstance(content, Problem):
        return ""
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    try:
        text = content.removeprefix(mark).decode()
    except UnicodeDecodeError:
        return ""  # `check` reports it
    fixed = fixed_text(text, path)
    if fixed == text:
        return ""
    write_file_whole(path.resolve(), mark + fixed.encode())
    before, after = (each.splitlines(keepends=True) for each in (text, fixed))
    diff = "".join(difflib.unified_diff(before, after, str(path), str(path)))
    return hidden_secrets(diff, fixed, path)


def hidden_secrets(diff: str, text: str, path: Path) -> str:
    """Return a diff of a connector file without the secrets that stand in `text`, one of its two sides."""
    document = parse_document(path, text.encode())
    value = document.value if isinstance(document, Document) else None
    for at, item in values_with_paths(value, deepest=MAX_NESTING):
        is_name = at[-1:] in (("type",), ("name",), ("location",))  # of an `auth`
        may_show = is_name or not may_be_secret(at) or find_references(item)
        if isinstance(item, str) and item and not may_show:
            for spelling in (
                item,
                json.dumps(item)[1:-1],
                json.dumps(item, ensure_ascii=False)[1:-1],
            ):
                diff = diff.replace(spelling, "(not shown)")
    return diff


def fixed_text(text: str, path: Path) -> str:
    """Return the text of a file with the replacement of each problem that has one.

    A corrected problem can reveal others, which are corrected in further rounds. A replacement that leaves
    its problem in place is not made. The rest of the text stays as it is.
    """
    refused: set[Problem] = set()
    # a bound, in case two replacements ever undo each other
    for _ in range(_MAX_ROUNDS):
        problems = {
            problem: problem.replacement
            for problem in load_text(text, path).problems
            if problem.replacement is not None and problem not in refused
        }
        fixed = _with_replacements(text, path, problems)
        if fixed == text:
            return text
        left = {(each.pointer, each.message) for each in load_text(fixed, path).problems}
        still = {each for each in problems if (each.pointer, each.message) in left}
        refused |= still
        if not still:
            text = fixed
    return text


def with_replacement(text: str, path: Path, problem: Problem) -> str:
    """Return the text with the replacement of one problem; the rest stays as it is written."""
    return _with_replacements(text, path, {problem: problem.replacement})


def _with_replacements(text: str, path: Path, problems: Mapping[Problem, Any]) -> str:
    document = parse_document(path, text.encode())
    if not isinstance(document, Document):
        return text
    # a problem of a template's own file has another path
    offsets = {
        document.offset(problem): replacement
        for problem, replacement in problems.items()
        if problem.path == path
    }
    return _replace_tokens(text, offsets, is_yaml=path.suffix.lower() in YAML_SUFFIXES)


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,:\[\]{}"]+')
_PLAIN_TEXT = re.compile(r"[A-Za-z][\w./-]*")
"""A text that YAML reads as itself without quotes; words such as `true` are looked for apart."""


def _replace_tokens(text: str, replacements: Mapping[int, Any], *, is_yaml: bool) -> str:
    """Return the text with other names or values at some offsets, in characters.

    A replacement is a JSON value. An offset at which no name, text, number or word begins is left out.
    """
    find = _yaml_tokens if is_yaml else _json_tokens
    for begin, end, is_plain in sorted(find(text, replacements), reverse=True):
        text = text[:begin] + _written(replacements[begin], is_plain=is_plain) + text[end:]
    return text


def _json_tokens(text: str, offsets: Mapping[int, Any]) -> Iterator[tuple[int, int, bool]]:
    for offset in offsets:
        if found := _JSON_TOKEN.match(text, offset):
            yield offset, found.end(), False


def _yaml_tokens(text: str, offsets: Mapping[int, Any]) -> Iterator[tuple[int, int, bool]]:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        begin, end = event.start_mark, event.end_mark
        if isinstance(event, yaml.ScalarEvent) and begin and end and begin.index in offsets:
            yield begin.index, end.index, event.implicit[0]


def _written(value: Any, *, is_plain: bool) -> str:
    is_word = isinstance(value, str) and value.lower() in ("true", "false", "null", "yes", "no")
    if is_plain and isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) and not is_word:
        return value
    return json.dumps(value, ensure_ascii=False)
