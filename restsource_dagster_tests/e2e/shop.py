"""The API that the dropped files ask, and the files: good ones and one with mistakes."""

import asyncio
from typing import Any

from restsource_dagster_tests.e2e.schedules import NOT_DUE_SOON
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = ["BROKEN", "MISTAKES", "TOKEN", "faulty", "make_shop", "plain", "shop", "station"]

TOKEN = "sesame"

_CUSTOMERS = [
    {"id": 1, "name": "Acme Bakery", "updated_at": "2026-03-01T10:00:00Z"},
    {"id": 2, "name": "Blue Books", "updated_at": "2026-03-02T10:00:00Z"},
    {"id": 3, "name": "Cedar Dairy", "updated_at": "2026-03-03T10:00:00Z"},
]
_READINGS = [{"id": n, "at": f"2026-03-01T10:00:{n:02}Z"} for n in range(10)]
_ROWS = [{"id": n, "text": "x" * 200} for n in range(500)]

_FAULTY = """{
  "schedule": {"mode": "hours"},
  "client": {
    "base_url": "%s",
    "auth": {"type": "apikey", "api_key": "${SHOP_TOKEN}"},
    "paginator": {"type": "json_lnk", "next_url_path": "paging.next"}
  },
  "resources": [
    {"name": "items", "endpoint": {"path": "items/{id}"}}
  ]
}
"""
BROKEN = "broken_configs/payments"
"""The asset that shows the mistakes of `faulty`, dropped as payments.json."""
MISTAKES = {
    (5, "/client/auth/type"),
    (6, "/client/paginator/type"),
    (9, "/resources/0/endpoint/path"),
}
"""Where the mistakes of `faulty` are: line and JSON pointer."""


def make_shop() -> ApiServer:
    """The API, to be started with `with`."""
    api = ApiServer()
    asked: set[str] = set()
    both_asked = asyncio.Event()

    async def together(seen: Seen) -> Answer:
        # Each answers only when the other was asked, so that both load at the same moment.
        asked.add(seen.path)
        if len(asked) == 2:
            both_asked.set()
        await both_asked.wait()
        return Answer(_ROWS)

    def customers(seen: Seen) -> Answer:
        if seen.headers.get("authorization") != f"Bearer {TOKEN}":
            return Answer({"error": "who are you?"}, status=401)
        rows = [row for row in _CUSTOMERS if str(row["updated_at"]) >= seen.query["updated_since"]]
        first = seen.query.get("page", "1") == "1"
        following = f"{api.url}/customers?page=2&updated_since={seen.query['updated_since']}"
        more = following if first and len(rows) > 2 else None
        return Answer({"data": rows[:2] if first else rows[2:], "paging": {"next": more}})

    def readings(seen: Seen) -> Answer:
        return Answer([row for row in _READINGS if str(row["at"]) >= seen.query["since"]])

    api.answers = {
        "/customers": customers,
        "/readings": readings,
        "/contacts": together,
        "/tickets": together,
        **{f"/customers/{n}/invoices": _invoices(n) for n in (1, 2, 3)},
    }
    return api


def shop(url: str) -> dict[str, Any]:
    """A connector with a parent, its child, a token and links to the next page."""
    since = {"cursor_path": "updated_at", "initial_value": "1970-01-01T00:00:00Z"}
    return {
        "description": "Customers of the shop and their invoices",
        "schedule": NOT_DUE_SOON,
        "client": {"base_url": url, "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}},
        "resources": [
            {
                "name": "customers",
                "primary_key": "id",
                "endpoint": {
                    "path": "customers",
                    "data_selector": "data",
                    "paginator": {"type": "json_link", "next_url_path": "paging.next"},
                    "params": {"updated_since": "{incremental.start_value}"},
                    "incremental": since,
                },
            },
            {
                "name": "invoices",
                "primary_key": "id",
                "include_from_parent": ["id"],
                "endpoint": {"path": "customers/{resources.customers.id}/invoices"},
            },
        ],
    }


def station(url: str) -> dict[str, Any]:
    """A connector that is due every second minute."""
    since = {"cursor_path": "at", "initial_value": "1970-01-01T00:00:00Z"}
    endpoint = {"params": {"since": "{incremental.start_value}"}, "incremental": since}
    return {
        "created_at": "2026-01-01T00:00:00Z",
        "schedule": {"mode": "minutes", "interval": 2},
        "client": {"base_url": url},
        "resources": [{"name": "readings", "primary_key": "id", "endpoint": endpoint}],
    }


def plain(url: str, path: str) -> dict[str, Any]:
    """A connector of one resource, without a key: all rows are replaced by each run."""
    return {"schedule": NOT_DUE_SOON, "client": {"base_url": url}, "resources": [path]}


def faulty(url: str) -> str:
    """A connector file with three mistakes."""
    return _FAULTY % url


def _invoices(customer: int) -> list[dict[str, Any]]:
    return [{"id": customer * 10 + n, "amount": 99.5 * n} for n in range(customer)]
