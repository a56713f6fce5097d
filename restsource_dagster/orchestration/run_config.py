"""What a person may ask of a live run, in its run config: a window, a full refresh, other cursors.

What every run of a code location needs to know.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from restsource_dagster.connector.cursor_format import (
    CursorFormat,
    CursorValueError,
    detect_cursor_format,
)
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.partitions import Window, split_into_windows
from restsource_dagster.connector.resources import Resource
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.run.outcome import Observer

__all__ = [
    "RUN_CONFIG_SCHEMA",
    "LoadConfig",
    "LoadRequest",
    "RunSettings",
    "WindowConfig",
    "cursor_format_of",
    "read_load_config",
    "resolve_load_config",
]


@dataclass(frozen=True)
class RunSettings:
    """Where runs load to, and who is told of their progress besides the run's log."""

    settings: Settings
    observer: "Observer | None" = None


class WindowConfig(dg.Config):
    """A stretch of the cursor, as `restsource backfill` takes it."""

    # `from` is a word of Python's own
    from_: Any = Field(alias="from", description="Where the window starts, as the API spells it.")
    to: Any = Field(description="Where it ends; this value itself is not part of it.")


class LoadConfig(dg.Config):
    """The run config of a connector's op. Left empty, the run goes on from the stored cursors."""

    window: WindowConfig | None = Field(
        default=None,
        description="Load only the rows whose cursor lies in this window. The stored cursors stay "
        "as they are. Resources without a cursor are left out.",
    )
    full_refresh: bool = Field(
        default=False,
        description="Forget the cursors of the selected resources, load all rows again and put them in "
        "the place of those in the tables. Of a resource with a history, the live stream's part.",
    )
    set_cursor: dict[str, Any] = Field(
        default_factory=dict,
        description="Cursor values by resource: load from there on, whatever is stored.",
    )


RUN_CONFIG_SCHEMA = LoadConfig.to_fields_dict()
"""The schema of `LoadConfig`, for Dagster."""


def read_load_config(context: dg.AssetExecutionContext) -> LoadConfig:
    """The run config of the op that is executed."""
    return LoadConfig(**context.op_execution_context.op_config)


@dataclass(frozen=True)
class LoadRequest:
    """What a run is to do, understood: windows, or a live run with or without changed cursors."""

    windows: Mapping[str, Window] = field(default_factory=dict)
    """Spans by the root of a family; only these are loaded, if there are any."""
    left_out: tuple[str, ...] = ()
    """Selected resources that have no cursor and so no windows."""
    full_refresh: frozenset[str] = frozenset()
    set_cursor: Mapping[str, Any] = field(default_factory=dict)


def resolve_load_config(
    config: LoadConfig, connector: Connector, selected: Collection[str]
) -> LoadRequest:
    """Understand the run config for these resources.

    Cursor values are left to the engine, which knows what is stored. Raises `dagster.Failure`, which
    is not retried, with a sentence for the person who wrote it.
    """
    if config.window is None:
        refreshed = frozenset(selected) if config.full_refresh else frozenset()
        return LoadRequest(full_refresh=refreshed, set_cursor=config.set_cursor)
    try:
        if config.full_refresh or config.set_cursor:
            raise ValueError(
                "`window` leaves the cursors alone, so it can't go with `full_refresh` or "
                "`set_cursor`. Make two runs of it."
            )
        return _window_request(config.window, connector, selected)
    except ValueError as error:
        raise dg.Failure(f"The run config can't be used: {error}", allow_retries=False) from error


def _window_request(
    window: WindowConfig, connector: Connector, selected: Collection[str]
) -> LoadRequest:
    spans: dict[str, Window] = {}
    left_out: list[str] = []
    for family in connector.families:
        chosen = [name for name in family.names if name in selected]
        if chosen and family.root.incremental is None:
            left_out += chosen
        elif chosen:
            form = cursor_format_of(family.root)
            [spans[family.root.name]] = split_into_windows(
                window.from_, window.to, cursor_format=form
            )
    if not spans:
        raise ValueError(
            "`window` needs a resource with an incremental cursor, and none of "
            f"{', '.join(left_out)} has one."
        )
    return LoadRequest(windows=spans, left_out=tuple(left_out))


def cursor_format_of(resource: Resource) -> CursorFormat | None:
    """The form of a resource's cursor by its `initial_value`; None if that shows nothing."""
    value = resource.incremental.initial_value if resource.incremental else None
    try:
        return None if value is None else detect_cursor_format(value)
    except CursorValueError:
        return None
