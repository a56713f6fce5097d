"""Any number of connector files, each with ten resources, similar to real ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["RESOURCES", "write_connectors"]

RESOURCES = 10


def write_connectors(
    folder: Path,
    number: int,
    *,
    base_url: str = "https://api.example.com/v1",
    every_minute: int = 0,
) -> None:
    """Write `api_0000.json` and so on: hourly, at offsets spread over the hour.

    The first `every_minute` of them run every minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        hourly = {"mode": "hours", "interval": 1, "offset": index % 60}
        schedule = {"mode": "minutes", "interval": 1} if index < every_minute else hourly
        value = _connector(index, schedule, base_url)
        (folder / f"{value['name']}.json").write_text(json.dumps(value, indent=2))


def _connector(index: int, schedule: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    return {
        "$schema": "../schema/connector.schema.json",
        "name": f"api_{index:04d}",
        "description": f"API number {index}",
        "owners": ["team:data"],
        "tags": {"tier": "gold"},
        "created_at": "2026-11-01T10:03:00Z",
        "schedule": schedule,
        "http": {"timeout_seconds": 60},
        "client": {
            "base_url": base_url,
            "auth": {"type": "bearer", "token": "${API_TOKEN}"},
            "paginator": {"type": "json_link", "next_url_path": "paging.next"},
        },
        "resources": [_resource(number) for number in range(RESOURCES)],
    }


def _resource(number: int) -> Any:
    """Return one of ten resources: six are incremental, two have a parent, two are only a name."""
    name = f"things_{number}"
    if number % 5 == 4:
        parent = f"things_{number - 1}"
        path = f"{parent}/{{resources.{parent}.id}}/lines"
        endpoint: dict[str, Any] = {"path": path, "data_selector": "data"}
        return {
            "name": name,
            "primary_key": "id",
            "include_from_parent": ["id"],
            "endpoint": endpoint,
        }
    if number % 5 == 2:
        return name
    endpoint = {
        "path": name,
        "data_selector": "data",
        "params": {"updated_since": "{incremental.start_value}"},
        "incremental": {"cursor_path": "updated_at", "initial_value": "1970-01-01T00:00:00Z"},
    }
    return {"name": name, "primary_key": "id", "endpoint": endpoint}
