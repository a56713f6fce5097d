"""Connector files of an API of events, for runs in several processes."""

from typing import Any

from restsource_dagster_tests.servers.api import ApiServer

__all__ = ["EVENTS", "file_of"]

EVENTS: dict[str, Any] = {
    "name": "events",
    "endpoint": {"path": "events", "incremental": {"cursor_path": "at"}},
}


def file_of(api: ApiServer, name: str = "shop", *resources: Any) -> dict[str, Any]:
    """The content of a file of these resources, or of events."""
    return {
        "name": name,
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url},
        "resources": list(resources) or [EVENTS],
    }
