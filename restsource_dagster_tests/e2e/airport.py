"""An API of flights that refuses some days at first, and a connector with a backfill."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from restsource_dagster_tests.e2e.schedules import NOT_DUE_SOON
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = ["FLIGHTS", "REFUSED", "WINDOWS", "Airport", "airport", "serve_airport"]

START = datetime(2026, 3, 4, tzinfo=UTC)
WINDOWS = ("2026-03-07", "2026-03-06", "2026-03-05", "2026-03-04")
"""Newest first; the live stream starts on March 8th."""
REFUSED = frozenset({"2026-03-06", "2026-03-04"})
FLIGHTS = [
    {"id": n, "departed_at": f"{START + timedelta(hours=2 * n):%Y-%m-%dT%H:%M:%SZ}"}
    for n in range(12 * 4 + 6)
]
"""Twelve a day, and six on the morning on which the connector was created."""


@dataclass
class Airport:
    """An API of flights that refuses some days until it is repaired."""

    url: str = ""
    refused: set[str] = field(default_factory=lambda: set(REFUSED))

    def flights(self, seen: Seen) -> Answer:
        """Those that departed at `since` or later, and before `before` if it is there."""
        since, before = seen.query["since"], seen.query.get("before", "9999")
        if since[:10] in self.refused:
            return Answer({"error": "that day is being restored from a backup"}, status=400)
        return Answer([row for row in FLIGHTS if since <= str(row["departed_at"]) < before])


@contextmanager
def serve_airport() -> Iterator[Airport]:
    """The API, until the block ends."""
    served = Airport()
    with ApiServer({"/flights": served.flights}) as api:
        served.url = api.url
        yield served


def airport(url: str) -> dict[str, Any]:
    """A connector of flights with daily partitions from `START` on, each tried once."""
    params = {"since": "{incremental.start_value}", "before": "{incremental.end_value}"}
    since = {"cursor_path": "departed_at", "initial_value": "1970-01-01T00:00:00Z"}
    flights = {
        "name": "flights",
        "primary_key": "id",
        "backfill": {
            "start": f"{START:%Y-%m-%d}",
            "partition": "daily",
            "max_attempts": 1,
            "max_parallel": 2,
        },
        "endpoint": {"path": "flights", "params": params, "incremental": since},
    }
    return {
        "created_at": "2026-03-08T12:30:00Z",
        "schedule": NOT_DUE_SOON,
        "client": {"base_url": url},
        "resources": [flights],
    }
