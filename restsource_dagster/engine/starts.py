"""Where cursors are asked to start: as a person sets them, anew, or where a history ends."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.config.connector import Connector, Incremental, Resource
from restsource_dagster.config.cursor_values import (
    CursorFormat,
    CursorValueError,
    PlainNumber,
    format_of,
)
from restsource_dagster.config.wording import rendered
from restsource_dagster.engine.errors import IngestError, UnknownResourceError

__all__ = ["Starts", "cursor_of", "refused", "typed"]


@dataclass(frozen=True)
class Starts:
    """What a run is asked to do with cursors, by resource.

    `live_from`: where the live stream starts if there is no stored cursor, in the API's own form.
    `full_refresh`: load all rows again, in place of those in the table. `set_cursor`: the value that
    the stored one becomes.
    """

    live_from: Mapping[str, Any] = field(default_factory=dict)
    full_refresh: Collection[str] = ()
    set_cursor: Mapping[str, Any] = field(default_factory=dict)

    def check(self, connector: Connector, wanted: Collection[str]) -> None:
        """Refuse what makes no sense. Raises `IngestError` naming the resource and the way out."""
        known = {resource.name: resource for resource in connector.resources}
        for name in (*self.live_from, *self.full_refresh, *self.set_cursor):
            if name not in known:
                raise UnknownResourceError(
                    f"connector {connector.name} has no resource {name}; it has {', '.join(known)}"
                )
        for name in {*self.full_refresh, *self.set_cursor} - set(wanted):
            raise refused(
                name, "it is not loaded in this run, so its cursor can't change. Select it, too"
            )
        for name in set(self.full_refresh) & set(self.set_cursor):
            raise refused(name, "full_refresh and set_cursor contradict each other. Leave one out")
        for name in self.set_cursor:
            _check_settable(known[name])
        for name, value in {**self.live_from, **self.set_cursor}.items():
            incremental = known[name].incremental
            if incremental is not None and incremental.initial_value is not None:
                typed(name, value, incremental.initial_value)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.live_from or self.full_refresh or self.set_cursor)

    def of_family(
        self, unfinished: Mapping[str, Mapping[str, Any]], loaded: Collection[str]
    ) -> "Starts":
        """What concerns the members that are loaded, with what an earlier run died over."""
        names = set(loaded)
        again = {name: change for name, change in unfinished.items() if name in names}
        fresh = {name for name, change in again.items() if change.get("refresh")}
        values = {name: change["set"] for name, change in again.items() if "set" in change}
        asked = {name: value for name, value in self.set_cursor.items() if name in names}
        refresh = (names & set(self.full_refresh)) | (fresh - asked.keys())
        values = {name: value for name, value in values.items() if name not in refresh}
        return Starts(
            {name: value for name, value in self.live_from.items() if name in names},
            refresh,
            {**values, **asked},
        )


def typed(name: str, value: Any, sample: Any) -> Any:
    """A value, or a text that a person typed, as the API spells its cursor (see `sample`).

    Raises `IngestError` if it is none of that form.
    """
    form = format_of(sample)
    try:
        read = form.parse(value)
        made = _spelt(read, form)
    except (CursorValueError, ValueError) as error:
        raise refused(
            name,
            f"the cursor is {form.words}, such as {rendered(sample)}, and {rendered(value)} can't be one",
        ) from error
    return made


def _spelt(read: Any, form: CursorFormat) -> Any:
    if form.is_time:
        return form.render(read)
    return str(read) if isinstance(form, PlainNumber) and form.as_text else read


def cursor_of(resource: Resource) -> Incremental:
    """The resource's cursor. Raises `IngestError` if it has none."""
    if resource.incremental is None:
        raise refused(resource.name, "it has no cursor")
    return resource.incremental


def _check_settable(resource: Resource) -> None:
    incremental = cursor_of(resource)
    if resource.parent is not None:
        raise refused(
            resource.name,
            f"its cursor is kept below each {resource.parent}. Use full_refresh, or set the cursor "
            "of the resource that it depends on",
        )
    if incremental.end_value is not None:
        raise refused(resource.name, "with `end_value` no cursor is kept")


def refused(name: str, why: str) -> IngestError:
    """An error that names the resource; `why` is a sentence without its full stop."""
    error = IngestError(f"resource {name}: {why}.")
    error.resource = name
    return error
