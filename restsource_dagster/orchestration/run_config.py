"""The run config of a connector's op: a window, a full refresh, or other cursor values."""

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
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.partitions import Window, split_into_windows
from restsource_dagster.orchestration.host_options import HostOptions
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.run_progress import Observer

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
    """What all runs of a code location share: settings, and an observer beside the run's log."""

    settings: Settings
    observer: "Observer | None" = None
    host: HostOptions = field(default_factory=HostOptions)
    """What the project that the definitions are merged into adds."""


class WindowConfig(dg.Config):
    """A window of cursor values, as `restsource backfill` takes it."""

    # `from` is a keyword of Python
    from_: Any = Field(alias="from", description="The first cursor value, as the API spells it.")
    to: Any = Field(description="The end of the window; this value itself is not part of it.")


class LoadConfig(dg.Config):
    """The run config of a connector's op. If it is empty, the run continues from the stored cursors."""

    window: WindowConfig | None = Field(
        default=None,
        description="Load only the rows whose cursor lies in this window. The stored cursors don't "
        "change. Resources without a cursor are not loaded.",
    )
    full_refresh: bool = Field(
        default=False,
        description="Discard the cursors of the selected resources, load all rows again and replace those "
        "in the tables. For a resource with a backfill, the rows of the live stream only.",
    )
    set_cursor: dict[str, Any] = Field(
        default_factory=dict,
        description="Cursor values by resource: load from there on instead of from the stored cursor.",
    )


RUN_CONFIG_SCHEMA = LoadConfig.to_fields_dict()
"""`LoadConfig` as Dagster's config schema."""


def read_load_config(context: dg.AssetExecutionContext) -> LoadConfig:
    """Return the run config of the op that is being executed."""
    return LoadConfig(**context.op_execution_context.op_config)


@dataclass(frozen=True)
class LoadRequest:
    """A resolved run config: windows to load, or a live run with or without changed cursors."""

    windows: Mapping[str, Window] = field(default_factory=dict)
    """Windows by the root of a family. If there are any, nothing else is loaded."""
    without_cursor: tuple[str, ...] = ()
    """Selected resources that have no cursor, so that a window can't select their rows."""
    full_refresh: frozenset[str] = frozenset()
    set_cursor: Mapping[str, Any] = field(default_factory=dict)


def resolve_load_config(
    config: LoadConfig, connector: Connector, selected: Collection[str]
) -> LoadRequest:
    """Return what a run config means for the selected resources.

    Values of `set_cursor` are checked by the engine, which knows the stored cursor. Raises
    `dagster.Failure` without retries, with a sentence for the author of the config.
    """
    if config.window is None:
        refreshed = frozenset(selected) if config.full_refresh else frozenset()
        return LoadRequest(full_refresh=refreshed, set_cursor=config.set_cursor)
    # A failure, not a config error of Dagster: the run's page shows it as one sentence.
    try:
        if config.full_refresh or config.set_cursor:
            raise ValueError(
                "`window` doesn't change cursors, so it can't be combined with `full_refresh` or "
                "`set_cursor`. Start two runs."
            )
        return _window_request(config.window, connector, selected)
    except ValueError as error:
        raise dg.Failure(f"The run config can't be used: {error}", allow_retries=False) from error


def _window_request(
    window: WindowConfig, connector: Connector, selected: Collection[str]
) -> LoadRequest:
    windows: dict[str, Window] = {}
    without_cursor: list[str] = []
    # A window is loaded by family: dependents have no cursor of their own for it.
    for family in connector.families:
        chosen = [name for name in family.names if name in selected]
        if chosen and family.root.incremental is None:
            without_cursor += chosen
        elif chosen:
            form = cursor_format_of(family.root)
            [windows[family.root.name]] = split_into_windows(
                window.from_, window.to, cursor_format=form
            )
    if not windows:
        raise ValueError(
            "`window` needs a resource with an incremental cursor, and none of "
            f"{', '.join(without_cursor)} has one."
        )
    return LoadRequest(windows=windows, without_cursor=tuple(without_cursor))


def cursor_format_of(resource: Resource) -> CursorFormat | None:
    """Return the format of a resource's cursor by its `initial_value`; None without a usable one."""
    value = resource.incremental.sample if resource.incremental else None
    # Without a usable value, the format of the window's own values decides.
    try:
        return None if value is None else detect_cursor_format(value)
    except CursorValueError:
        return None
