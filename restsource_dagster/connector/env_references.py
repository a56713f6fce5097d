"""`${...}`: a value that is read when a run starts, so that no secret needs to stand in a file.

`${NAME}` is a variable of the environment, `${NAME:-default}` has a default, `${file:/path}` is the text of a
file and `${dlt:key}` a setting of dlt. A reference is named by what stands in its braces.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

__all__ = [
    "MissingReferencesError",
    "broken_reference",
    "default_of",
    "find_references",
    "is_without_references",
    "read_references",
    "resolve_references",
    "without_references",
]

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_INSIDE = rf"{_NAME}(?::-[^{{}}]*)?|file:/[^{{}}]+|dlt:[\w-]+(?:\.[\w-]+)*"
"""What may stand in the braces. A default can't hold braces: they would end it."""
# The escape comes first: in `$${NAME}` the second `$` must not start a reference.
_REFERENCE = re.compile(rf"\$\$\{{|\$\{{({_INSIDE})\}}")
_BROKEN_REFERENCE = re.compile(rf"(?<!\$)\$\{{(?!(?:{_INSIDE})\}})([^{{}}]{{0,60}})")
_MAX_FILE_BYTES = 64 * 1024
"""More than any key or certificate has; a path to a log or a device is a mistake."""

Value = TypeVar("Value")
LookUp = Callable[[str], str | None]
"""Returns what dlt has for a key such as `sources.shop.token`; None for nothing."""


class MissingReferencesError(LookupError):
    """References that have no value. `names` has those of the environment's variables, sorted."""

    def __init__(self, names: Iterable[str] = (), problems: Iterable[str] = ()) -> None:
        self.names = tuple(sorted(names))
        unset = (
            f"Not set in the environment: {', '.join(self.names)}. Set each before the run, for instance "
            "in .env."
        )
        super().__init__(" ".join((*((unset,) if self.names else ()), *sorted(problems))))


class _NoValueError(ValueError):
    """Why a reference has no value, as a sentence."""


def broken_reference(text: str) -> str | None:
    """Return what follows the first `${` that starts no reference; None if there is none."""
    found = _BROKEN_REFERENCE.search(text)
    return found[1] if found else None


def default_of(reference: str) -> str | None:
    """Return the default of a reference; None if it has none."""
    name, has_default, default = reference.partition(":-")
    return default if has_default and re.fullmatch(_NAME, name, re.ASCII) else None


def read_references(
    references: Iterable[str], environment: Mapping[str, str], look_up: LookUp
) -> dict[str, str]:
    """Return the environment and the value of each reference, by what stands in its braces.

    A default stands for a variable that is not set or empty, as in a shell. Raises
    `MissingReferencesError` with all references that are missing, empty or can't be read.
    """
    values, unset, problems = dict(environment), set(), []
    for reference in sorted(references):
        try:
            found = _read(reference, environment, look_up)
        except _NoValueError as error:
            problems.append(str(error))
            continue
        if found is None:
            unset.add(reference)
        else:
            values[reference] = found
    if unset or problems:
        raise MissingReferencesError(unset, problems)
    return values


def _read(reference: str, environment: Mapping[str, str], look_up: LookUp) -> str | None:
    """Return the value of a reference; None if it is a variable that is not set."""
    kind, _, rest = reference.partition(":")
    default = default_of(reference)
    if default is not None:
        return environment.get(kind, "").strip("\r\n") or default
    if kind == "file" and rest:
        return _read_file(Path(rest))
    found = look_up(rest) if kind == "dlt" and rest else environment.get(reference)
    if found is None and rest:
        raise _NoValueError(
            f"`${{{reference}}}`: dlt has no value for {rest}. Write it into .dlt/secrets.toml, or set "
            f"{rest.replace('.', '__').upper()} in the environment."
        )
    if found is not None and not found.rstrip("\r\n"):
        may_be_empty = "" if rest else f", or write `${{{reference}:-}}` if it may be empty"
        raise _NoValueError(f"`${{{reference}}}` is empty. Give it a value{may_be_empty}.")
    return found


def _read_file(path: Path) -> str:
    shown = f"`${{file:{path}}}`"
    try:
        # not `stat` first: the size of a pipe or device is 0
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
        text = raw.decode()
    except UnicodeDecodeError:
        raise _NoValueError(f"{shown} is not text in UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _NoValueError(f"{shown} can't be read: {reason}.") from None
    if len(raw) > _MAX_FILE_BYTES:
        raise _NoValueError(
            f"{shown} has more than {_MAX_FILE_BYTES // 1024} KiB, too much for a secret."
        )
    if not text.strip():
        raise _NoValueError(f"{shown} is empty.")
    return text


def find_references(value: Any) -> frozenset[str]:
    """Return all references in the texts of a JSON value or model, keys included."""
    return frozenset(
        match[1]
        for text in _all_texts(value)
        if "${" in text
        for match in _REFERENCE.finditer(text)
        if match[1]
    )


def resolve_references(
    value: Value, values: Mapping[str, str], *, brace_doublings: int = 0
) -> Value:
    """Replace each reference, and each `$${` by a literal `${`, in a JSON value or a model.

    `values` is what `read_references` returns. Parts without a reference are shared with the original, and
    models are not validated again. Line breaks at the end of a value are left out. A brace in a value is data, so it is doubled as often as dlt
    reads the text for its own `{...}`. Models give that number for their fields in `BRACE_DOUBLINGS`.
    Raises `MissingReferencesError` with all references that `values` lacks.
    """
    if missing := find_references(value) - values.keys():
        raise MissingReferencesError(missing)
    resolved: Value = _resolve(value, values, brace_doublings)
    return resolved


def without_references(text: str, stand_in: str = "x") -> str:
    """Return the text as dlt will see it, with a stand-in for each reference."""
    if "${" not in text:
        return text
    return _REFERENCE.sub(lambda match: stand_in if match[1] else "${", text)


def is_without_references(value: object) -> bool:
    """True if a value is no text, or a text without a reference."""
    return not isinstance(value, str) or value == without_references(value)


def _resolve(value: Any, values: Mapping[str, str], doublings: int) -> Any:
    if isinstance(value, str):
        return _resolve_text(value, values, doublings) if "${" in value else value
    if isinstance(value, BaseModel):
        return _resolve_model(value, values, doublings)
    if isinstance(value, Mapping):
        entries = {
            _resolve(key, values, doublings): _resolve(item, values, doublings)
            for key, item in value.items()
        }
        same = all(value.get(key, value) is item for key, item in entries.items())
        return value if same else entries
    if isinstance(value, list | tuple):
        items = [_resolve(item, values, doublings) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value


def _resolve_model(model: BaseModel, values: Mapping[str, str], doublings: int) -> BaseModel:
    by_field: Mapping[str, int] = getattr(type(model), "BRACE_DOUBLINGS", {})
    given = vars(model)
    fields = {
        name: _resolve(item, values, by_field.get(name, doublings)) for name, item in given.items()
    }
    if all(fields[name] is given[name] for name in given):
        return model
    # not validated: what a variable holds need not be valid in a file, such as a path with braces
    return type(model).model_construct(model.model_fields_set, **fields)


def _resolve_text(text: str, values: Mapping[str, str], doublings: int) -> str:
    def replacement(match: re.Match[str]) -> str:
        if not match[1]:
            return "${"
        times = 2**doublings
        # a file's last line ends so, and a header can't; a shell's `$(cat file)` drops it, too
        value = values[match[1]].rstrip("\r\n")
        return value.replace("{", "{" * times).replace("}", "}" * times)

    return _REFERENCE.sub(replacement, text)


def _all_texts(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, BaseModel):
            stack.extend(vars(item).values())
        elif isinstance(item, Mapping):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
