"""Serve the sample's databases with Datasette: JSON over HTTP on this machine, bearer token required.

`GET /nycflights/flights.json` without the token is answered with 403. The token is read from the
environment variable `NYC_FLIGHTS_TOKEN`, so that it is in no list of processes.
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
"""The rows of a page that is asked for with `_size=max`."""

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
    """Return the API over `databases` (their names in addresses are the files' stems)."""
    hidden = {table: {"allow": False} for table in _HIDDEN_TABLES}
    shown = {table: {"description": text} for table, text in _DESCRIPTIONS.items()}
    metadata: dict[str, Any] = {
        "title": "Flights from New York City",
        "allow": {"id": "*"},
        # Only the tables are served: SQL of a caller's own could read the hidden ones.
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
    """Serve until stopped; the first line of output is the first database's address."""
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
    # Callers that come before the server is up wait in the queue instead of being refused.
    listener.listen(128)
    return listener


if __name__ == "__main__":
    main()
