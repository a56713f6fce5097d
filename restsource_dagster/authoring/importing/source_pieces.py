"""The pieces of a source document, and the ledger of what became of each of them.

An importer reads a document by `Piece`, which knows its path, and says of each piece that it uses what it
became. What it never says anything about is reported as not mapped, so nothing is dropped silently.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from restsource_dagster.connector.validation.diagnostics import FieldPath, json_pointer

__all__ = ["Fate", "FateState", "Ledger", "Piece", "Reasons", "leaves_of", "reasons_by_prefix"]

_PART_OF_SUGGESTION = "a part of what is suggested"
FateState = Literal["mapped", "guessed", "suggested", "not_mapped"]


@dataclass(frozen=True)
class Fate:
    """What became of a piece of the source.

    `target` is the place in the connector file, such as `resources.orders.endpoint.params.limit`; "" for what
    is not mapped. `reason` is the evidence of a guess, what to write for a suggestion, or why a piece is not
    mapped. `leaves` counts the values of the piece.
    """

    path: FieldPath
    state: FateState
    target: str = ""
    reason: str = ""
    leaves: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as JSON, the path as a JSON pointer."""
        return {
            "path": json_pointer(self.path),
            "state": self.state,
            "target": self.target,
            "reason": self.reason,
            "leaves": self.leaves,
        }


Reasons = Callable[[FieldPath], str]
"""Says why pieces of a path that no importer reads have no place in a connector file."""


@dataclass
class Ledger:
    """What became of each piece, in the order in which it was said."""

    _fates: dict[tuple[FieldPath, FateState, str], Fate] = field(default_factory=dict)

    def add(self, fate: Fate) -> None:
        """Note a fate. One that was noted before stays as it is."""
        self._fates.setdefault((fate.path, fate.state, fate.target), fate)

    @property
    def fates(self) -> tuple[Fate, ...]:
        """All fates."""
        return tuple(self._fates.values())

    def retract(self, target: str, reason: str) -> None:
        """Note that what became `target`, or a part of it, is not mapped after all."""
        for fate in self._taken_back(target):
            self.add(replace(fate, state="not_mapped", target="", reason=reason))

    def only_suggest(self, target: str, reason: str) -> None:
        """Note that what became `target` is a suggestion after all: once, though made of several pieces."""
        for number, fate in enumerate(self._taken_back(target)):
            if number == 0:
                self.add(replace(fate, state="suggested", reason=reason))
            else:
                self.add(replace(fate, state="not_mapped", target="", reason=_PART_OF_SUGGESTION))

    def _taken_back(self, target: str) -> list[Fate]:
        taken = {
            key: fate
            for key, fate in self._fates.items()
            if fate.target == target or fate.target.startswith(f"{target}.")
        }
        for key in taken:
            del self._fates[key]
        return list(taken.values())

    def add_unread(self, document: Any, reasons: Reasons) -> None:
        """Note every leaf that nothing was said of, as not mapped: whole branches by their root."""
        spoken = {fate.path for fate in self._fates.values()}
        above = {path[:length] for path in spoken for length in range(len(path))}
        # Without recursion: the depth of a hostile document is not the depth of our stack.
        stack: list[tuple[FieldPath, Any]] = [((), document)]
        while stack:
            path, value = stack.pop()
            if path in spoken:
                continue
            if path in above:
                stack.extend(reversed([((*path, step), inner) for step, inner in _inner(value)]))
            elif count := sum(1 for _ in leaves_of(value)):
                self.add(Fate(path, "not_mapped", reason=reasons(path), leaves=count))


def _inner(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def leaves_of(value: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yield every leaf of a JSON value with its path; an empty list or object is none."""
    stack: list[tuple[FieldPath, Any]] = [(path, value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, dict | list):
            stack.extend(((*place, step), inner) for step, inner in _inner(item))
        else:
            yield place, item


@dataclass(frozen=True)
class Piece:
    """A value of the source, with its path. A missing one has the value None."""

    value: Any
    path: FieldPath = field(default=())
    ledger: Ledger = field(default_factory=Ledger, repr=False)

    @property
    def exists(self) -> bool:
        """False for a value that is missing or null."""
        return self.value is not None

    @property
    def text(self) -> str | None:
        """The value if it is a text."""
        return self.value if isinstance(self.value, str) else None

    @property
    def number(self) -> int | None:
        """The value if it is a whole number."""
        is_number = isinstance(self.value, int) and not isinstance(self.value, bool)
        return self.value if is_number else None

    @property
    def is_object(self) -> bool:
        """True for an object."""
        return isinstance(self.value, dict)

    def get(self, *steps: str | int) -> "Piece":
        """Return the piece below, or a missing one."""
        found: Any = self.value
        for step in steps:
            if isinstance(found, dict):
                found = found.get(step)
            elif isinstance(found, list) and isinstance(step, int) and 0 <= step < len(found):
                found = found[step]
            else:
                found = None
        return Piece(found, (*self.path, *steps), self.ledger)

    def fields(self) -> Iterator[tuple[str, "Piece"]]:
        """Yield the fields of an object; none of anything else."""
        if isinstance(self.value, dict):
            for key in self.value:
                yield str(key), self.get(key)

    def elements(self) -> Iterator["Piece"]:
        """Yield the elements of a list; none of anything else."""
        if isinstance(self.value, list):
            for index in range(len(self.value)):
                yield self.get(index)

    def first(self, *names: str) -> "Piece":
        """Return the first of these fields that exists, or a missing one."""
        found = (self.get(name) for name in names)
        return next((piece for piece in found if piece.exists), self.get(names[0]))

    def mapped(self, target: str) -> Self:
        """Note that this piece became `target`."""
        return self._note("mapped", target, "")

    def guessed(self, target: str, evidence: str) -> Self:
        """Note that `target` was guessed of this piece."""
        return self._note("guessed", target, evidence)

    def suggested(self, target: str, text: str) -> Self:
        """Note that this piece may be `target`, and is not in the file: why, and what to write."""
        return self._note("suggested", target, text)

    def not_mapped(self, reason: str) -> Self:
        """Note that this piece has no place in the file."""
        return self._note("not_mapped", "", reason)

    def _note(self, state: FateState, target: str, reason: str) -> Self:
        if self.exists:
            count = sum(1 for _ in leaves_of(self.value)) if state == "not_mapped" else 1
            self.ledger.add(Fate(self.path, state, target, reason, count))
        return self


def reasons_by_prefix(table: Mapping[tuple[str, ...], str], otherwise: str) -> Reasons:
    """Return the reason of the first prefix that a path matches; `*` stands for any step."""

    def reason(path: FieldPath) -> str:
        for prefix, text in table.items():
            if len(path) >= len(prefix) and all(
                want in ("*", str(step)) for want, step in zip(prefix, path, strict=False)
            ):
                return text
        return otherwise

    return reason
