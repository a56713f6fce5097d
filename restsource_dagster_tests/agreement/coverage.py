"""Which options the models of a file have, and which of them a file uses."""

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from restsource_dagster.connector.models.connector_file import ConnectorFile

__all__ = ["Option", "known_options", "used_options"]


class Option(NamedTuple):
    """A field of a model, by the class that defines it, and one of its values if they are listed."""

    model: str
    field: str
    value: Any = ...

    def __str__(self) -> str:
        value = "" if self.value is ... else f" = {self.value!r}"
        return f"{self.model}.{self.field}{value}"


def known_options() -> set[Option]:
    """Every field of the file's models, with every value that a `Literal` or a `bool` lists.

    `null` is a value if the field has another default. What only Python can say is left out.
    """
    return {option for model in _models_of(ConnectorFile, set()) for option in _options(model)}


def _models_of(annotation: Any, seen: set[Any]) -> set[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in seen:
            seen.add(annotation)
            for field in annotation.model_fields.values():
                _models_of(field.annotation, seen)
    else:
        for part in get_args(annotation):
            _models_of(part, seen)
    return seen


def _options(model: type[BaseModel]) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        if field.annotation is NoneType or get_args(field.annotation)[:1] == (NoneType,):
            continue
        owner = _owner(model, name)
        yield Option(owner, name)
        values = list(_values(field.annotation))
        if field.is_required() or field.default is None:
            values = [value for value in values if value is not None]
        yield from (Option(owner, name, value) for value in values)


def _values(annotation: Any) -> Iterator[Any]:
    """The values that an annotation lists, not those within models, lists and dicts."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif annotation is bool:
        yield from (True, False)
    elif annotation is NoneType:
        yield None
    elif get_origin(annotation) not in (list, dict, tuple):
        for part in get_args(annotation):
            yield from _values(part)


def _owner(model: type[BaseModel], name: str) -> str:
    owners = [base for base in model.__mro__ if name in vars(base).get("__annotations__", {})]
    return owners[-1].__name__ if owners else model.__name__


def used_options(value: Any) -> set[Option]:
    """The options that a file's model, or a part of it, uses."""
    if isinstance(value, BaseModel):
        used = set()
        for name in value.model_fields_set:
            given = getattr(value, name, None)
            owner = _owner(type(value), name)
            used |= {Option(owner, name), *used_options(given)}
            if given is None or isinstance(given, str | bool):
                used.add(Option(owner, name, given))
        return used
    if isinstance(value, Mapping):
        return set().union(*map(used_options, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return set().union(*map(used_options, value))
    return set()
