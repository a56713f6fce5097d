"""An API of events that filters by both ends of a window, and runs of windows against it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from restsource_dagster.connector.cursor_format import detect_cursor_format
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.partitions import Window
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run.window_load import ingest_window
from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

__all__ = [
    "BOTH_ENDS",
    "KEYED",
    "Events",
    "day",
    "event",
    "live_state",
    "load_window",
    "stored",
    "window_of",
]

Row = dict[str, Any]
BOTH_ENDS = {"start_param": "since", "end_param": "until"}
KEYED: Row = {"primary_key": "id"}
"""Makes events merged."""
INITIAL = "2024-01-01T00:00:00Z"


def day(number: int, hour: int = 0) -> str:
    """A time on a day counted from January 1, 2024 on."""
    moment = datetime(2024, 1, 1, hour, tzinfo=UTC) + timedelta(days=number - 1)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def event(number: int, at: Any = None, **more: Any) -> Row:
    """An event; without `at`, of the day of its number."""
    return {"id": number, "at": at or day(number), **more}


def window_of(start: Any, end: Any) -> Window:
    return Window(start, end, detect_cursor_format(start))


class Events:
    """Serves `rows` at `/events`; both filters are closed, as those of many APIs are."""

    def __init__(self, api: ApiServer, *rows: Row) -> None:
        self.api = api
        self.rows = list(rows)
        self.failing = False
        api.answers["/events"] = self.answer

    def answer(self, seen: Seen) -> Any:
        if self.failing:
            return Answer({"error": "out of order"}, status=400)
        form = detect_cursor_format(self.rows[0]["at"]) if self.rows else None
        lower, upper = (seen.query.get(name) for name in ("since", "until"))
        return [
            row
            for row in self.rows
            if form is None
            or row.get("at") is None
            or (
                (lower is None or form.comparison_key(row["at"]) >= form.comparison_key(lower))
                and (upper is None or form.comparison_key(row["at"]) <= form.comparison_key(upper))
            )
        ]

    @property
    def requested_ranges(self) -> list[tuple[str | None, str | None]]:
        """The ends of each request."""
        return [
            (seen.query.get("since"), seen.query.get("until")) for seen in self.api.asked("/events")
        ]

    def connector(
        self, *others: Any, cursor: Mapping[str, Any] | None = None, **more: Any
    ) -> Connector:
        """A connector of events with a cursor. Without a key in `more` they are appended."""
        incremental = {"cursor_path": "at", "initial_value": INITIAL, **BOTH_ENDS, **(cursor or {})}
        kept = {name: value for name, value in incremental.items() if value is not None}
        events = {"name": "events", "endpoint": {"path": "events", "incremental": kept}, **more}
        return make_connector(self.api.url, events, *others)


def load_window(
    connector: Connector,
    settings: Settings,
    window: Window,
    *,
    resource: str = "events",
    observer: Observer | None = None,
    live_from: Any = None,
) -> dict[str, Outcome]:
    """Load a window and return its outcomes by resource."""
    outcomes = ingest_window(
        connector,
        resource,
        window,
        settings=settings,
        environment={},
        observer=observer,
        live_from=live_from,
    )
    return {outcome.resource: outcome for outcome in outcomes}


def live_state(settings: Settings) -> list[tuple[Any, ...]]:
    """The rows of dlt's state of live runs in the warehouse."""
    sql = "SELECT * FROM shop._dlt_pipeline_state WHERE pipeline_name = 'shop' ORDER BY ALL"
    return query(settings, sql)


def stored(settings: Settings, column: str = "id", table: str = "events") -> list[Any]:
    """A column of a table, sorted."""
    return sorted(row[0] for row in query(settings, f"SELECT {column} FROM shop.{table}"))
