"""A connector whose file was parsed before: what definitions need is known, the rest is read on demand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from restsource_dagster.config.connector import Connector
from restsource_dagster.config.resources import Resource
from restsource_dagster.config.schedule import Schedule

__all__ = ["Known", "KnownConnector"]


@dataclass(frozen=True)
class Known:
    """What is remembered of a connector: all that its assets, job and schedule are made of."""

    name: str
    description: str | None
    owners: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime | None
    schedule: Schedule
    resources: tuple[Resource, ...]

    @classmethod
    def of(cls, connector: Connector) -> "Known":
        """What there is to remember of a connector."""
        return cls(**{name: getattr(connector, name) for name in cls.__dataclass_fields__})


class KnownConnector(Connector):
    """The connector that its file was parsed to, without holding all of it.

    A code location has thousands of them, and each is looked at when its definitions are made and, if
    it is its turn, when it runs. `recall` gives what is known, or None if that is no longer at hand;
    `parse` the connector in full, from the very bytes that are known.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        recall: Callable[[], Known | None],
        parse: Callable[[], Connector],
    ) -> None:
        # the fields that are missing here are looked up below, in `__getattr__`
        vars(self).update(path=path, name=name, _recall=recall, _parse=parse)

    @cached_property
    def in_full(self) -> Connector:
        """The connector as its file gives it."""
        parse: Callable[[], Connector] = vars(self)["_parse"]
        return parse()

    def __getattr__(self, name: str) -> Any:
        """A field: of what is known if it is there, else of the connector in full."""
        if name not in Connector.__dataclass_fields__:
            raise AttributeError(f"a connector has no {name}", name=name, obj=self)
        known = vars(self)["_recall"]() if name in Known.__dataclass_fields__ else None
        return getattr(known or self.in_full, name)
