"""A project with a shop whose orders have a history, in a folder of its own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from restsource_dagster.engine.destination.warehouse import DATABASE_NAME
from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.making import reading
from restsource_dagster_tests.servers.api import Seen

__all__ = ["ROWS", "answer_orders", "ids", "write_stock"]

ROWS = [
    {
        "id": n,
        "at": f"{datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=6 * n):%Y-%m-%dT%H:%M:%SZ}",
    }
    for n in range(24)
]
"""Four a day from 2024-01-01 on, for six days."""


def write_stock(project: Project, *, block: dict[str, Any] | None = None) -> None:
    """Orders with a daily history of four days, numbers that count up, and a resource without a cursor."""
    history = {"start": "2024-01-01", "partition": "daily", "auto": False, **(block or {})}
    project.write_connector(
        {
            "name": "orders",
            "primary_key": "id",
            "backfill": history,
            "endpoint": {
                "path": "orders",
                "params": {"since": "{incremental.start_value}"},
                "incremental": {"cursor_path": "at", "initial_value": "2020-01-01T00:00:00Z"},
            },
        },
        {
            "name": "numbers",
            "primary_key": "id",
            "endpoint": {
                "path": "orders",
                "incremental": {"cursor_path": "id", "initial_value": 0},
            },
        },
        {"name": "countries", "primary_key": "code"},
        {
            "name": "lines",
            "primary_key": "n",
            "endpoint": "orders/{resources.orders.id}/lines",
            "selected": False,
        },
        created_at="2024-01-05T12:00:00Z",
    )
    project.api.answers["/orders"] = answer_orders(ROWS)


def answer_orders(rows: list[dict[str, Any]]) -> Callable[[Seen], dict[str, Any]]:
    """An API that filters by `since`."""
    return lambda seen: {"data": [row for row in rows if row["at"] >= seen.query.get("since", "")]}


def ids(project: Project, table: str = "orders") -> list[int]:
    """The ids in the table."""
    with reading(project.folder / "data" / DATABASE_NAME) as connection:
        rows = connection.execute(f"SELECT id FROM shop.{table} ORDER BY id").fetchall()
    return [row[0] for row in rows]
