"""`${NAME}`: a value that the environment holds, so that no secret needs to stand in a file."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

__all__ = [
    "MissingReferencesError",
    "find_references",
    "require_references",
    "resolve_references",
    "without_references",
]

# The escape comes first: in `$${NAME}` the second `$` must not start a reference.
_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Value = TypeVar("Value")


class MissingReferencesError(LookupError):
    """Names that a file refers to and the environment doesn't have; `names` is sorted."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = tuple(sorted(names))
        listed = ", ".join(self.names)
        super().__init__(
            f"Not set in the environment: {listed}. Set each before the run, for instance in .env."
        )


def find_references(value: Any) -> frozenset[str]:
    """Return the names of all `${NAME}` in the texts of a JSON value or model, keys included."""
    return frozenset(
        match[1]
        for text in _all_texts(value)
        if "${" in text
        for match in _REFERENCE.finditer(text)
        if match[1]
    )


def require_references(names: frozenset[str], environment: Mapping[str, str]) -> None:
    """Raise `MissingReferencesError` with all names that the environment doesn't have."""
    if missing := names - environment.keys():
        raise MissingReferencesError(missing)


def resolve_references(
    value: Value, environment: Mapping[str, str], *, brace_doublings: int = 0
) -> Value:
    """Replace each `${NAME}`, and each `$${` by a literal `${`, in a JSON value or a model.

    Parts without a reference are shared with the original, and models are not validated again.
    Line breaks at the end of a value are left out. A brace from the environment is data, so it is doubled as often as dlt reads the text for its
    own `{...}`. Models give that number for their fields in `BRACE_DOUBLINGS`.

    Raises `MissingReferencesError` with all names that are missing.
    """
    require_references(find_references(value), environment)
    resolved: Value = _resolve(value, environment, brace_doublings)
    return resolved


def without_references(text: str, stand_in: str = "x") -> str:
    """Return the text as dlt will see it, with a stand-in for each reference."""
    if "${" not in text:
        return text
    return _REFERENCE.sub(lambda match: stand_in if match[1] else "${", text)


def _resolve(value: Any, environment: Mapping[str, str], doublings: int) -> Any:
    if isinstance(value, str):
        return _resolve_text(value, environment, doublings) if "${" in value else value
    if isinstance(value, BaseModel):
        return _resolve_model(value, environment, doublings)
    if isinstance(value, Mapping):
        entries = {
            _resolve(key, environment, doublings): _resolve(item, environment, doublings)
            for key, item in value.items()
        }
        same = all(value.get(key, value) is item for key, item in entries.items())
        return value if same else entries
    if isinstance(value, list | tuple):
        items = [_resolve(item, environment, doublings) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value


def _resolve_model(model: BaseModel, environment: Mapping[str, str], doublings: int) -> BaseModel:
    by_field: Mapping[str, int] = getattr(type(model), "BRACE_DOUBLINGS", {})
    given = vars(model)
    fields = {
        name: _resolve(item, environment, by_field.get(name, doublings))
        for name, item in given.items()
    }
    if all(fields[name] is given[name] for name in given):
        return model
    # not validated: what a variable holds need not be valid in a file, such as a path with braces
    return type(model).model_construct(model.model_fields_set, **fields)


def _resolve_text(text: str, environment: Mapping[str, str], doublings: int) -> str:
    def replacement(match: re.Match[str]) -> str:
        if not match[1]:
            return "${"
        times = 2**doublings
        # a file's last line ends so, and a header can't; a shell's `$(cat file)` drops it, too
        value = environment[match[1]].rstrip("\r\n")
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
