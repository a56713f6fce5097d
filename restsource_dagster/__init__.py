"""Ingest any REST API from one JSON file: a Dagster code location."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restsource_dagster.components import RestSourceComponent
    from restsource_dagster.orchestration.code_location import build_definitions

__all__ = ["RestSourceComponent", "build_definitions"]


def __getattr__(name: str) -> Any:
    """Import Dagster only for those who ask for definitions: `restsource check` does not."""
    if name == "build_definitions":
        from restsource_dagster.orchestration.code_location import build_definitions

        return build_definitions
    if name == "RestSourceComponent":
        from restsource_dagster.components import RestSourceComponent

        return RestSourceComponent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
