"""A folder of connector files and the definitions made of it."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from restsource_dagster.orchestration.code_location import build_definitions
from restsource_dagster.settings import Settings

__all__ = ["definitions_of", "write_connector"]

RESOURCES: list[Any] = [
    {
        "name": "orders",
        "primary_key": "id",
        "endpoint": {
            "path": "orders",
            "data_selector": "data",
            "incremental": {"cursor_path": "updated_at", "initial_value": "1970-01-01T00:00:00Z"},
        },
    },
    {
        "name": "lines",
        "primary_key": ["_orders_id", "n"],
        "include_from_parent": ["id"],
        "endpoint": {"path": "orders/{resources.orders.id}/lines", "data_selector": "lines"},
    },
    "countries",
]


def write_connector(settings: Settings, name: str, base_url: str, **more: Any) -> Path:
    """Write a connector file of three resources (or `resources`) into the configs folder."""
    settings.configs.mkdir(exist_ok=True)
    value = {
        "schedule": {"mode": "minutes", "interval": 10},
        "client": {"base_url": base_url},
        "resources": RESOURCES,
        **more,
    }
    path = settings.configs / f"{name}.json"
    path.write_text(json.dumps(value, indent=2))
    return path


def definitions_of(settings: Settings) -> dg.Definitions:
    """The definitions of the configs folder, resolved as a code location would."""
    definitions = build_definitions(settings=settings)
    definitions.get_repository_def().load_all_definitions()
    return definitions
