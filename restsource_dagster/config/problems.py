"""What is wrong with a connector file, and how to say it to a person, a program and Dagster's UI."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

__all__ = ["Finding", "Problem", "Severity", "printable", "problems_as_markdown"]

Severity = Literal["error", "warning"]

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&#$])")
_BACKTICKS = re.compile(r"`+")


@dataclass(frozen=True)
class Finding:
    """Something wrong with a value: a `Problem` that doesn't know yet where its value is written.

    `on_key` asks for the position of the object's key instead of its value: right for a key that
    should not be there. The texts never hold a secret. `code` names the rule where programs need to
    know it: `deliberate:...` for what dlt itself would have accepted.
    """

    pointer: str
    message: str
    found: str | None = None
    expected: str | None = None
    mend: str | None = None
    severity: Severity = "error"
    on_key: bool = False
    code: str | None = None

    def at(self, path: Path, line: int, column: int) -> "Problem":
        """The same, located: `line` and `column` count from 1."""
        return Problem(
            path=path,
            line=line,
            column=column,
            pointer=self.pointer,
            message=self.message,
            found=self.found,
            expected=self.expected,
            mend=self.mend,
            severity=self.severity,
        )


@total_ordering
@dataclass(frozen=True)
class Problem:
    """One thing wrong with a connector file, and where. Sorts by file and place.

    `line` and `column` count from 1, the column in characters. `pointer` is the JSON pointer
    (RFC 6901) of the value, "" for the whole file. `message` is one sentence; `mend` says what
    to write instead. With a warning the connector still works.
    """

    path: Path
    line: int
    column: int
    pointer: str
    message: str
    found: str | None = None
    expected: str | None = None
    mend: str | None = None
    severity: Severity = "error"

    def __lt__(self, other: "Problem") -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[str | int, ...]:
        texts = (self.pointer, self.message, self.found, self.expected, self.mend, self.severity)
        return (str(self.path), self.line, self.column, *(text or "" for text in texts))

    @property
    def explanation(self) -> str:
        """Message, found, expected and mend as sentences, without the place."""
        found = self.found and f"found {self.found}"
        expected = self.expected and f"expected {self.expected}"
        comparison = ", ".join(part for part in (found, expected) if part)
        sentences = (self.message, comparison[:1].upper() + comparison[1:], self.mend)
        return printable(" ".join(_sentence(text) for text in sentences if text))

    def as_text(self) -> str:
        """One line in the form that editors and CI systems recognise: `file:line:column: ...`."""
        place = f"{self.path}:{self.line}:{self.column}"
        pointer = f"{self.pointer}: " if self.pointer else ""
        return printable(f"{place}: {self.severity}: {pointer}") + self.explanation

    def as_dict(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        return {
            "path": str(self.path),
            "line": self.line,
            "column": self.column,
            "pointer": self.pointer,
            "severity": self.severity,
            "message": self.message,
            "found": self.found,
            "expected": self.expected,
            "mend": self.mend,
        }


def printable(text: str) -> str:
    """The text on one line, with everything a terminal would act upon or can't show escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def problems_as_markdown(problems: Iterable[Problem]) -> str:
    """A list per file for Dagster's UI. What files hold can't become markup or a link in it."""
    parts: list[str] = []
    for path, group in groupby(sorted(problems), key=lambda problem: problem.path):
        parts.append(f"**{_as_plain(str(path))}**\n")
        parts.extend(_as_item(problem) for problem in group)
        parts.append("")
    return "\n".join(parts).strip()


def _as_item(problem: Problem) -> str:
    pointer = f" {_as_code(problem.pointer)}" if problem.pointer else ""
    place = f"line {problem.line}, column {problem.column}"
    return f"- {problem.severity}, {place}{pointer}: {_as_plain(problem.explanation)}"


def _as_plain(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", printable(text))


def _as_code(text: str) -> str:
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{printable(text)}{pad}{fence}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _escaped(char: str) -> str:
    return {"\n": " ", "\r": "", "\t": " "}.get(char) or ascii(char)[1:-1]
