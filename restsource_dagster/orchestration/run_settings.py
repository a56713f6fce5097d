"""What every run of a code location needs to know."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.outcome import Observer

__all__ = ["RunSettings"]


@dataclass(frozen=True)
class RunSettings:
    """Where runs load to, and who is told of their progress besides the run's log."""

    settings: Settings
    observer: "Observer | None" = None
