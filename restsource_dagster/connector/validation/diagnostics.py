"""What is wrong with a connector file, and how it is shown to people, programs and Dagster's UI.

Includes how findings name values: JSON pointers, short forms without secrets, nearest spellings.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import total_ordering
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "FieldPath",
    "Finding",
    "Problem",
    "Severity",
    "describe_value",
    "json_pointer",
    "may_be_secret",
    "nearest_name",
    "pointer_steps",
    "printable",
    "problems_as_markdown",
    "quoted_list",
    "quoted_name",
    "unescaped_step",
]

Severity = Literal["error", "warning"]
FieldPath = tuple[str | int, ...]
"""The keys and indices that lead to a value in the file."""

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&#$])")
_BACKTICKS = re.compile(r"`+")


@dataclass(frozen=True)
class Finding:
    """Something wrong with a value: a `Problem` without its line and column.

    With `on_key` the problem is located at the object's key, for a key that should not be there.
    `replacement` is the right key (with `on_key`) or the right value; None if the fix is more than a
    replacement. The texts never contain a secret, but the replacement may. `code` is
    `deliberate:NAME` for what dlt itself would accept.
    """

    pointer: str
    message: str
    found: str | None = None
    expected: str | None = None
    fix: str | None = None
    severity: Severity = "error"
    on_key: bool = False
    code: str | None = None
    # A list can't be hashed, and findings are kept in sets.
    replacement: Any = field(default=None, hash=False)

    def at(self, path: Path, line: int, column: int) -> "Problem":
        """Return the problem at this place; `line` and `column` count from 1."""
        return Problem(
            path=path,
            line=line,
            column=column,
            pointer=self.pointer,
            message=self.message,
            found=self.found,
            expected=self.expected,
            fix=self.fix,
            severity=self.severity,
            replacement=self.replacement,
        )


@total_ordering
@dataclass(frozen=True)
class Problem:
    """Something wrong with a connector file, and where. Sorts by file and place.

    `line` and `column` count from 1, the column in characters. `pointer` is the JSON pointer
    (RFC 6901) of the value, "" for the whole file. `message` is one sentence; `fix` says what
    to write instead, and `replacement` is what `check --fix` writes there. With a warning the
    connector still works.
    """

    path: Path
    line: int
    column: int
    pointer: str
    message: str
    found: str | None = None
    expected: str | None = None
    fix: str | None = None
    severity: Severity = "error"
    replacement: Any = field(default=None, hash=False)

    def __lt__(self, other: "Problem") -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[str | int, ...]:
        # None and text can't be compared.
        texts = (self.pointer, self.message, self.found, self.expected, self.fix, self.severity)
        return (str(self.path), self.line, self.column, *(text or "" for text in texts))

    @property
    def explanation(self) -> str:
        """Message, found, expected and fix as sentences, without the place."""
        found = self.found and f"found {self.found}"
        expected = self.expected and f"expected {self.expected}"
        comparison = ", ".join(part for part in (found, expected) if part)
        sentences = (self.message, comparison[:1].upper() + comparison[1:], self.fix)
        return printable(" ".join(_with_full_stop(text) for text in sentences if text))

    def as_text(self) -> str:
        """One line in the form that editors and CI systems recognise: `file:line:column: ...`."""
        place = f"{self.path}:{self.line}:{self.column}"
        pointer = f"{self.pointer}: " if self.pointer else ""
        return printable(f"{place}: {self.severity}: {pointer}") + self.explanation

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as JSON but the replacement, which may be a text with a secret in it."""
        fields = {**asdict(self), "path": str(self.path)}
        del fields["replacement"]
        return fields


def printable(text: str) -> str:
    """Return the text on one line, with control and unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def problems_as_markdown(problems: Iterable[Problem]) -> str:
    """Return a list per file for Dagster's UI. Texts from files can't become markup or links."""
    parts: list[str] = []
    for path, group in groupby(sorted(problems), key=lambda problem: problem.path):
        parts.append(f"**{_escape_markdown(str(path))}**\n")
        parts.extend(_markdown_item(problem) for problem in group)
        parts.append("")
    return "\n".join(parts).strip()


def _markdown_item(problem: Problem) -> str:
    pointer = f" {_markdown_code(problem.pointer)}" if problem.pointer else ""
    place = f"line {problem.line}, column {problem.column}"
    return f"- {problem.severity}, {place}{pointer}: {_escape_markdown(problem.explanation)}"


def _escape_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", printable(text))


def _markdown_code(text: str) -> str:
    # Markdown ends code at a run of backticks as long as the one that opens it.
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{printable(text)}{pad}{fence}"


def _with_full_stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _escaped(char: str) -> str:
    # CRLF is one line end, so it becomes one space.
    return {"\n": " ", "\r": "", "\t": " "}.get(char) or ascii(char)[1:-1]


_MAX_SHOWN_LENGTH = 40
# It matches too much rather than too little: a hidden value costs a look into the file, a shown secret
# has to be replaced.
_SECRET_FIELD = re.compile(
    r"token(?!_(?:path|param)$)|secret|passw|pwd|pass$|api[-_ ]?key|apikey|authorization|cookie|credential|signature"
    r"|access[-_ ]?key|subscription[-_ ]?key|private|session|x-auth|passphrase|app[-_]?key"
    r"|^(key|sig|auth|jwt|bearer|app[-_]?id|pat|hapikey|username|user|client_id)$",
    re.IGNORECASE,
)
# A login before the host, and credentials in the query or the fragment.
_URL_PARTS = re.compile(r"//[^/@\s]*@|[?#].*", re.DOTALL)


def json_pointer(path: Iterable[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path of keys and indices; "" is the whole file."""
    # `~` first, or the `~1` that stands for a slash would be escaped again.
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def pointer_steps(pointer: str) -> list[str]:
    """Return the keys and indices of a JSON pointer, all as text; none for the whole file."""
    return [unescaped_step(step) for step in pointer.split("/")[1:]]


def unescaped_step(step: str) -> str:
    """Return the key that a step of a JSON pointer stands for."""
    # `~1` first: `~01` means `~1`, not a slash (RFC 6901, section 4).
    return step.replace("~1", "/").replace("~0", "~")


def may_be_secret(path: Iterable[str | int]) -> bool:
    """True if the value at this path may be a secret: inside `auth`, or named like one."""
    return any(isinstance(step, str) and _SECRET_FIELD.search(step) for step in path)


def describe_value(value: Any, path: Sequence[str | int] = ()) -> str:
    """Describe a value in at most some 60 characters, without secrets."""
    # Before the numbers: `True` is an `int` in Python.
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _describe_text(value, path)
    if isinstance(value, int | float):
        return "a number" if may_be_secret(path) else _describe_number(value)
    if isinstance(value, list | dict):
        words = (
            ("a list", "an empty list")
            if isinstance(value, list)
            else ("an object", "an empty object")
        )
        return words[0 if value else 1]
    return type(value).__name__


def quoted_name(name: str) -> str:
    """Return a name from the file (field, resource, placeholder) in backticks, shortened."""
    # A backtick (here replaced by an apostrophe, 39) would end the quotation.
    return f"`{_shorten(_URL_PARTS.sub('...', name.replace('`', chr(39))))}`"


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known spelling that is most like `name`, or None if none is close."""
    # No known name is so long, and difflib takes long for long texts.
    if len(name) > 2 * _MAX_SHOWN_LENGTH:
        return None
    by_folded = {_normalized_spelling(candidate): candidate for candidate in known}
    # One wrong letter is a larger part of a short name.
    cutoff = 0.6 if len(name) < 10 else 0.75
    close = difflib.get_close_matches(
        _normalized_spelling(name), list(by_folded), n=1, cutoff=cutoff
    )
    return by_folded[close[0]] if close else None


def quoted_list(names: Iterable[str], last: str = "or") -> str:
    """Return the names as text: `a`, `b` or `c`."""
    quoted = [quoted_name(name) for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def _describe_text(value: str, path: Sequence[str | int]) -> str:
    if not value:
        return "an empty text"
    if may_be_secret(path):
        return "text (not shown)"
    return f'"{_shorten(_URL_PARTS.sub("...", value))}"'


def _describe_number(value: float) -> str:
    # Python refuses to write whole numbers of thousands of digits.
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a whole number of more than 20 digits"
    return repr(value)


def _shorten(text: str) -> str:
    text = text if len(text) <= _MAX_SHOWN_LENGTH else text[: _MAX_SHOWN_LENGTH - 3] + "..."
    # A lone surrogate can't be printed.
    return text.encode("utf-8", "replace").decode("utf-8")


def _normalized_spelling(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_").strip("_")
