"""Find the mistake behind an error of PyYAML, which is often reported lines after it was made.

The mistakes that people make in connector files are few: a quote or a brace that is not closed, a colon
or a dash that is missing or has no space behind it, wrong indentation, a tab. Each is looked for in the
lines around the place where the parser gave up, and reported where it stands.
"""

import re
from collections.abc import Iterator

import yaml

from restsource_dagster.connector.parsing.parsed_text import LocatedFinding
from restsource_dagster.connector.validation.diagnostics import (
    Finding,
    may_be_secret,
    quoted_name,
)

__all__ = ["yaml_syntax_error"]

_ENTRY = re.compile(r"""(?P<indent>[ ]*)(?P<dashes>(?:-[ ]+)*)(?P<text>[^#\s].*)""")
_KEY_OF_ENTRY = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"'{\[#][^:#]*?)[ ]*:(?:[ ]+|$)""")
_NO_SPACE_AFTER_COLON = re.compile(r"(?P<name>[A-Za-z_][\w-]*):(?P<value>[^\s/].*)")
_NO_COLON = re.compile(r"(?P<name>[A-Za-z_][\w-]*)(?P<value>[ ]+[^:]*(?:://.*)?)?")
_NO_SPACE_AFTER_DASH = re.compile(r"-(?P<rest>[A-Za-z_\"'{].*)")


def yaml_syntax_error(error: Exception, text: str) -> LocatedFinding:
    """Return the mistake for which PyYAML gave up on a text, at its place."""
    if isinstance(error, yaml.reader.ReaderError):
        finding = Finding(
            "", "A YAML file can't hold this character", "a control character", None,
            "Delete it, or write it as an escape in double quotes",
        )  # fmt: skip
        return LocatedFinding(int(error.position), finding)
    if not isinstance(error, yaml.MarkedYAMLError):
        message = f"This is not YAML: the parser gave up ({type(error).__name__})"
        fix = "Look for a wrong escape such as \\Uffffffff, or write the file as JSON"
        return LocatedFinding(0, Finding("", message, None, None, fix))
    return next(_mistakes(error, text))


def _mistakes(error: yaml.MarkedYAMLError, text: str) -> Iterator[LocatedFinding]:
    """Yield what can be wrong, the surest first."""
    problem = str(error.problem or "it can't be read")
    at = error.problem_mark or error.context_mark
    line = at.line if at is not None else 0
    lines = text.splitlines(keepends=True)
    starts = [0]
    for each in lines:
        starts.append(starts[-1] + len(each))
    if at is not None and "'\\t'" in problem:
        yield _at(
            at.index, "A tab stands at the start of a line", "Indent with spaces, not with tabs"
        )
    yield from _unclosed_quote(lines[: line + 1], starts)
    yield from _unclosed_bracket(error, line)
    yield from _wrong_entry(lines[: line + 1], starts)
    if "mapping values are not allowed" in problem and at is not None:
        yield _at(
            at.index,
            "A colon with a space behind it stands in the middle of a text",
            "Put the text in quotes",
        )
    yield from _wrong_start(error)
    fix = "Check the indentation, and put texts with special characters in quotes"
    yield _at(
        min(at.index, len(text)) if at is not None else 0, f"This is not YAML: {problem}", fix
    )


def _at(offset: int, message: str, fix: str) -> LocatedFinding:
    return LocatedFinding(offset, Finding("", message, None, None, fix))


def _unclosed_quote(lines: list[str], starts: list[int]) -> Iterator[LocatedFinding]:
    """Yield the last value in quotes, up to the line of the error, that its line does not close."""
    for number in range(len(lines) - 1, -1, -1):
        entry = _ENTRY.match(lines[number])
        if entry is None:
            continue
        key = _KEY_OF_ENTRY.match(entry["text"])
        begin = entry.start("text") + (key.end() if key else 0)
        value = lines[number][begin:].strip()
        if value[:1] in ("'", '"') and not _is_closed(value):
            yield _at(
                starts[number] + begin, "A quote is opened here and not closed", "Close the quote"
            )
            return


def _is_closed(value: str) -> bool:
    pattern = r'"(?:[^"\\]|\\.)*"' if value[0] == '"' else r"'(?:[^']|'')*'"
    return re.match(pattern, value) is not None


def _unclosed_bracket(error: yaml.MarkedYAMLError, line: int) -> Iterator[LocatedFinding]:
    """Yield the brace or bracket whose end the parser looked for, or the place of a missing comma."""
    opened = error.context_mark
    if opened is None or "flow" not in str(error.context):
        return
    bracket = "{" if "mapping" in str(error.context) else "["
    closing = "}" if bracket == "{" else "]"
    if opened.line < line:
        yield _at(
            opened.index, f"A `{bracket}` is opened here and not closed", f"Write the `{closing}`"
        )
    elif error.problem_mark is not None:
        fix = f"Write a comma between two entries, and `{closing}` after the last one; put a text with "
        yield _at(
            error.problem_mark.index,
            f"The entries in `{bracket}` and `{closing}` can't be told apart here",
            f"{fix}braces, brackets, commas or colons in quotes",
        )


def _wrong_entry(lines: list[str], starts: list[int]) -> Iterator[LocatedFinding]:
    """Yield the entry at the error, or just before it, that has no colon, no dash or no space."""
    tried = 0
    for number in range(len(lines) - 1, -1, -1):
        entry = _ENTRY.match(lines[number].rstrip())
        if entry is None:
            continue
        begin, text = starts[number] + entry.start("text"), entry["text"].split(" #")[0].rstrip()
        if found := _NO_SPACE_AFTER_DASH.fullmatch(text):
            yield _at(begin, "A dash has no space behind it", "Write a dash and a space: `- `")
            return
        if _KEY_OF_ENTRY.match(text) is None and (found := _NO_SPACE_AFTER_COLON.fullmatch(text)):
            fix = f"Write `{_entry(found)}`"
            yield _at(
                begin, f"The colon after {quoted_name(found['name'])} has no space behind it", fix
            )
            return
        # an item of a list may well be a text without a colon
        found = None if _KEY_OF_ENTRY.match(text) else _NO_COLON.fullmatch(text)
        if found and (found["value"] or not entry["dashes"]):
            fix = f"Write `{_entry(found)}`"
            yield _at(begin, f"{quoted_name(found['name'])} has no colon behind it", fix)
            return
        tried += 1
        if tried == 3:  # the mistake is at the error or in one of the two entries before it
            return


def _entry(found: re.Match[str]) -> str:
    """Return the entry as it should be written, without a value that may be a secret."""
    value = (found["value"] or "").strip()
    if len(value) > 40 or may_be_secret((found["name"],)):
        value = "..."
    return f"{found['name']}: {value}".rstrip()


def _wrong_start(error: yaml.MarkedYAMLError) -> Iterator[LocatedFinding]:
    """Yield an entry that doesn't fit the list or the object around it."""
    at, around, problem = error.problem_mark, error.context_mark, str(error.problem)
    if at is None:
        return
    if "cannot start any token" in problem:
        yield _at(
            at.index, "A text can't start with this character", "Put the text in double quotes"
        )
    if around is None or "expected <block end>" not in problem:
        return
    if "collection" in str(error.context) and at.column == around.column:
        yield _at(
            at.index, "An item of a list has no dash", "Write a dash and a space before it: `- `"
        )
    elif "'-'" in problem:
        fix = "Write the list's name and a colon on the line before, and indent the dashes alike"
        yield _at(at.index, "An item of a list stands where a name is expected", fix)
    elif "scalar" in problem:
        yield _at(at.index, "Text follows a value that has ended", "Put the whole text in quotes")
    else:
        fix = "Indent entries of one object alike, and those inside of it by two spaces more"
        yield _at(at.index, "The indentation of this line fits none of the lines before it", fix)
