"""Serve the sample's databases with Datasette: JSON over HTTP on this machine, bearer token required.

Without the token, the response to `GET /nycflights/flights.json` is a 403. The token comes from the
environment variable `NYC_FLIGHTS_TOKEN`, so no list of processes shows it.
"""

import argparse
import asyncio
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from datasette.app import Datasette

from sample.env_file import TOKEN_VARIABLE

__all__ = ["MAX_PAGE_SIZE", "main", "make_api"]

MAX_PAGE_SIZE = 2000
"""The number of rows of a page with `_size=max`."""

_HIDDEN_TABLES = ("all_flights", "all_weather", "all_customers", "all_invoices", "clock")
_DESCRIPTIONS = {
    "flights": "Flights that were due to depart by now. departed_at is the scheduled departure.",
    "weather": "Hourly weather at the three airports, up to now.",
    "planes": "Aircraft by tail number.",
    "airports": "Airports by FAA code.",
    "airlines": "Airlines by carrier code.",
    "customers": "Customers of a small firm.",
    "invoices": "Their invoices. updated_at is when an invoice was written, or paid.",
}


def make_api(databases: Sequence[Path], token: str) -> Datasette:
    """Return the API over `databases`. In URLs, their names are the files' stems."""
    hidden = {table: {"allow": False} for table in _HIDDEN_TABLES}
    shown = {table: {"description": text} for table, text in _DESCRIPTIONS.items()}
    metadata: dict[str, Any] = {
        "title": "Flights from New York City",
        "allow": {"id": "*"},
        # Only tables are served: a caller's own SQL could read the hidden ones.
        "allow_sql": False,
        "databases": {path.stem: {"tables": hidden | shown} for path in databases},
        "plugins": {
            "datasette-auth-tokens": {"tokens": [{"token": token, "actor": {"id": "restsource"}}]}
        },
    }
    settings = {
        "max_returned_rows": MAX_PAGE_SIZE,
        "default_page_size": 100,
        "sql_time_limit_ms": 5000,
        "suggest_facets": False,
        "allow_facet": False,
        "allow_download": False,
        "default_cache_ttl": 0,
    }
    return Datasette([str(path) for path in databases], metadata=metadata, settings=settings)


def main() -> None:
    """Serve until stopped. The first line of output is the first database's URL."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("databases", type=Path, nargs="+")
    parser.add_argument("--port", type=int, default=8001, help="0 takes any free port")
    arguments = parser.parse_args()
    if not (token := os.environ.get(TOKEN_VARIABLE)):
        parser.error(f"{TOKEN_VARIABLE} is not set: callers have to send its value as bearer token")
    with _listen(arguments.port) as listener:
        port = listener.getsockname()[1]
        print(f"http://127.0.0.1:{port}/{arguments.databases[0].stem}", flush=True)  # noqa: T201
        api = make_api(arguments.databases, token)
        asyncio.run(api.invoke_startup())
        server = uvicorn.Server(uvicorn.Config(api.app(), log_level="warning", access_log=False))
        server.run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    # Clients that connect before the server is ready wait in the queue and are not refused.
    listener.listen(128)
    return listener


if __name__ == "__main__":
    main()
