"""Live runs that ask window by window (`incremental.window`), and cursors that are too old (`retention`)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.cli.backfill_windows import split_requested_range
from restsource_dagster.connector.cursor_format import moment_of
from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.engine.windowed import (
    KEYED,
    Events,
    day,
    event,
    load_window,
    stored,
    window_of,
)
from restsource_dagster_tests.making import make_connector, make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

NOW = datetime(2024, 4, 15, 10, 0, 30, tzinfo=UTC)
MONTHLY = {"window": {"size": "31d"}}


def at(number: int) -> str:
    """A time so many days after the first of January."""
    return day(number + 1)


class StrictEvents(Events):
    """Refuses a range of more than 31 days, one without an end, and one up to the last minute."""

    def __init__(self, api: ApiServer, *rows: dict[str, Any], now: datetime = NOW) -> None:
        super().__init__(api, *rows)
        self.now = now

    def answer(self, seen: Seen) -> Any:
        ends = [moment_of(seen.query.get(name)) for name in ("since", "until")]
        if None in ends:
            return Answer({"error": "a range needs both ends"}, 400)
        start, end = (datetime.fromtimestamp((moment or 0) / 10**9, UTC) for moment in ends)
        if end - start > timedelta(days=31) or end > self.now - timedelta(minutes=1):
            return Answer({"error": "the range is too long, or ends too late"}, 400)
        return super().answer(seen)


def run(
    connector: Connector, settings: Settings, now: datetime = NOW, **more: Any
) -> dict[str, Outcome]:
    outcomes = ingest(connector, settings=settings, environment={}, started=now, **more)
    return {outcome.resource: outcome for outcome in outcomes}


def cursor_of(outcome: Outcome) -> tuple[Any, Any]:
    assert outcome.failure is None
    assert outcome.cursor is not None
    return outcome.cursor.start_value, outcome.cursor.last_value


@pytest.mark.parametrize("mode", ["rows", "auto"])
@pytest.mark.parametrize("more", [{}, KEYED], ids=["append", "merge"])
def test_a_run_asks_for_one_window_after_the_other_up_to_now_minus_the_delay(
    api: ApiServer, settings: Settings, mode: str, more: Mapping[str, Any]
) -> None:
    rows = [event(n, at(n)) for n in (0, 5, 31, 40, 95, 104)]
    events = StrictEvents(api, *rows, event(9, "2024-04-15T09:59:45Z"))
    cursor = {"window": {"size": "31d", "delay": "1m"}}
    connector = events.connector(cursor=cursor, mode=mode, **more)
    outcome = run(connector, settings)["events"]
    limit = "2024-04-15T09:59:30Z"
    edges = [at(0), at(31), at(62), at(93), limit]
    assert events.requested_ranges == list(pairwise(edges))
    assert cursor_of(outcome) == (at(0), limit)
    assert (outcome.rows_loaded, outcome.checkpoints) == (6 + ("primary_key" in more), 2)
    assert stored(settings) == [0, 5, 31, 40, 95, 104]
    # a minute later the last row is old enough
    events.now = NOW + timedelta(minutes=1)
    assert run(connector, settings, events.now)["events"].rows_loaded == 1
    assert events.requested_ranges[-1] == (limit, "2024-04-15T10:00:30Z")
    assert stored(settings) == [0, 5, 9, 31, 40, 95, 104]


def test_windows_without_rows_move_the_cursor_and_are_not_asked_for_again(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api)
    connector = events.connector(cursor=MONTHLY, **KEYED)
    outcome = run(connector, settings)["events"]
    assert len(events.requested_ranges) == 4
    assert cursor_of(outcome) == (at(0), "2024-04-15T10:00:30Z")
    # one load is enough for them
    assert (outcome.rows_loaded, outcome.checkpoints) == (0, 0)
    later = NOW + timedelta(hours=1)
    run(connector, settings, later)
    assert events.requested_ranges[4:] == [("2024-04-15T10:00:30Z", "2024-04-15T11:00:30Z")]


def test_nothing_is_asked_for_before_a_range_has_a_length(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1))
    connector = events.connector(cursor={"window": {"delay": "1h"}}, **KEYED)
    run(connector, settings)
    assert len(events.requested_ranges) == 1
    outcome = run(connector, settings, NOW)["events"]
    assert cursor_of(outcome) == ("2024-04-15T09:00:30Z", "2024-04-15T09:00:30Z")
    assert len(events.requested_ranges) == 1


def test_a_late_row_within_the_lag_comes_with_the_next_window(
    api: ApiServer, settings: Settings
) -> None:
    events = StrictEvents(api, event(1, at(20)))
    cursor = {"window": {"size": "31d", "delay": "1m"}, "lag": 86400}
    connector = events.connector(cursor=cursor)
    run(connector, settings)
    events.rows.append(event(2, "2024-04-15T01:00:00Z"))
    events.now = NOW + timedelta(hours=1)
    run(connector, settings, events.now)
    run(connector, settings, events.now + timedelta(hours=1))
    assert stored(settings) == [1, 2]
    assert events.requested_ranges[-1] == ("2024-04-14T10:59:30Z", "2024-04-15T11:59:30Z")


def test_a_range_of_dates_ends_today_and_today_is_asked_for_again(
    api: ApiServer, settings: Settings
) -> None:
    rows = [event(1, "2024-04-01"), event(2, "2024-04-15")]
    events = Events(api, *rows)
    cursor = {"initial_value": "2024-03-01", "window": {"size": "1mo"}}
    connector = events.connector(cursor=cursor)
    run(connector, settings)
    assert events.requested_ranges == [("2024-03-01", "2024-04-01"), ("2024-04-01", "2024-04-16")]
    events.rows.append(event(3, "2024-04-15"))
    outcome = run(connector, settings, NOW + timedelta(hours=1))["events"]
    assert events.requested_ranges[2:] == [("2024-04-15", "2024-04-16")]
    assert cursor_of(outcome) == ("2024-04-15", "2024-04-15")
    assert stored(settings) == [1, 2, 3]


def test_a_cursor_in_epoch_seconds_has_windows_of_days(api: ApiServer, settings: Settings) -> None:
    start = int(datetime(2024, 4, 1, tzinfo=UTC).timestamp())
    events = Events(api, event(1, start + 5), event(2, start + 8 * 86400))
    connector = events.connector(cursor={"initial_value": start, "window": {"size": "7d"}}, **KEYED)
    run(connector, settings)
    ends = [start, start + 7 * 86400, start + 14 * 86400, int(NOW.timestamp())]
    assert events.requested_ranges == [(str(one), str(other)) for one, other in pairwise(ends)]
    assert stored(settings) == [1, 2]


def test_the_end_is_converted_and_never_after_the_delay(api: ApiServer, settings: Settings) -> None:
    events = Events(api, event(1, "2024-04-15T09:00:00.250Z"))
    cursor = {
        "initial_value": "2024-04-15T08:00:00.000Z",
        "convert": "epoch_seconds",
        "window": {"delay": "1m"},
    }
    run(events.connector(cursor=cursor, **KEYED), settings, NOW + timedelta(milliseconds=700))
    limit = NOW - timedelta(minutes=1)
    assert events.requested_ranges == [("1713168000", str(int(limit.timestamp())))]


def test_a_window_may_be_in_a_body_and_in_a_longer_text(api: ApiServer, settings: Settings) -> None:
    api.answers["/search"] = [event(1)]
    endpoint = {
        "path": "search",
        "method": "POST",
        "params": {"q": "{incremental.start_value:%d.%m.%Y}-{incremental.end_value:%d.%m.%Y}"},
        "json": {"to": "{incremental.end_value}"},
        "incremental": {"cursor_path": "at", "initial_value": day(1), "window": {"size": "2mo"}},
    }
    connector = Events(api).connector({"name": "search", "endpoint": endpoint, **KEYED})
    run(connector, settings, resources=["search"])
    assert [(seen.query["q"], seen.body) for seen in api.asked("/search")] == [
        ("01.01.2024-01.03.2024", b'{"to": "2024-03-01T00:00:00Z"}'),
        ("01.03.2024-16.04.2024", b'{"to": "2024-04-15T10:00:30Z"}'),
    ]


def test_rows_after_the_delay_are_left_out_if_the_request_has_no_end(
    api: ApiServer, settings: Settings
) -> None:
    events = Events(api, event(1, "2024-04-15T09:00:00Z"), event(2, "2024-04-15T10:00:00Z"))
    cursor = {"end_param": None, "window": {"delay": "1m"}}
    connector = events.connector(cursor=cursor, **KEYED)
    outcome = run(connector, settings)["events"]
    assert (cursor_of(outcome)[1], stored(settings)) == ("2024-04-15T09:59:30Z", [1])
    run(connector, settings, NOW + timedelta(minutes=1))
    assert stored(settings) == [1, 2]


def test_merged_rows_are_kept_if_the_api_filters_by_another_time(
    api: ApiServer, settings: Settings
) -> None:
    # it sends what was created in a window, and the cursor is when a row was changed
    connector = Events(api).connector(cursor=MONTHLY, **KEYED)
    api.answers["/events"] = lambda seen: [event(1, at(50))] if seen.query["since"] == at(0) else []
    run(connector, settings)
    assert stored(settings) == [1]
    assert [seen.query["since"] for seen in api.seen] == [at(0), at(31), at(62), at(93)]


def test_dependents_are_asked_for_the_rows_of_each_window(
    api: ApiServer, settings: Settings
) -> None:
    events = StrictEvents(api, event(1, at(1)), event(2, at(40)))
    for number in (1, 2):
        api.answers[f"/events/{number}/lines"] = [{"id": number * 10}]
    lines = {
        "name": "lines",
        "write_disposition": "append",
        "endpoint": {"path": "events/{resources.events.id}/lines"},
    }
    cursor = {"window": {"size": "31d", "delay": "1m"}}
    connector = events.connector(lines, cursor=cursor, **KEYED)
    for minutes in (0, 60, 120):
        events.now = NOW + timedelta(minutes=minutes)
        outcomes = run(connector, settings, events.now)
        assert not any(outcome.failed for outcome in outcomes.values())
    assert stored(settings, table="lines") == [10, 20]
    assert [seen.path for seen in api.seen if "lines" in seen.path] == [
        "/events/1/lines",
        "/events/2/lines",
    ]


def test_a_dependent_with_a_cursor_of_its_own_does_not_end_the_windows(
    api: ApiServer, settings: Settings
) -> None:
    events = StrictEvents(api, event(1, at(1)), event(2, at(40)))
    for number in (1, 2):
        api.answers[f"/events/{number}/lines"] = [{"id": number * 10, "at": number}]
    lines = {
        "name": "lines",
        "primary_key": "id",
        "endpoint": {
            "path": "events/{resources.events.id}/lines",
            "incremental": {"cursor_path": "at", "initial_value": 0, "start_param": "since"},
        },
    }
    cursor = {"window": {"size": "31d", "delay": "1m"}}
    outcomes = run(events.connector(lines, cursor=cursor, **KEYED), settings)
    assert not any(outcome.failed for outcome in outcomes.values())
    assert len(events.requested_ranges) == 4
    assert stored(settings, table="lines") == [10, 20]


def test_a_window_that_fails_keeps_those_before_it(api: ApiServer, settings: Settings) -> None:
    events = StrictEvents(api, event(1, at(1)), event(2, at(40)), event(3, at(70)))
    answer = events.answer
    api.answers["/events"] = lambda seen: (
        Answer({"error": "gone"}, 410) if seen.query["since"] == at(62) else answer(seen)
    )
    connector = events.connector(cursor={"window": {"size": "31d", "delay": "1m"}})
    outcome = run(connector, settings)["events"]
    assert outcome.failure is not None
    assert "410" in outcome.failure.message
    assert "2 rows of events were loaded before and stay" in outcome.failure.message
    api.answers["/events"] = answer
    events.api.seen.clear()
    run(connector, settings)
    assert events.requested_ranges[0] == (at(62), at(93))
    assert stored(settings) == [1, 2, 3]


def test_a_long_window_is_stored_in_parts_and_goes_on_in_the_same_window(
    api: ApiServer, tmp_path: Path
) -> None:
    rows = [event(n, at(n)) for n in range(40)]
    asked: list[tuple[str, str]] = []

    def answer(seen: Seen) -> Any:
        query = seen.query
        asked.append((query["since"], query["until"]))
        found = [row for row in rows if query["since"] <= row["at"] < query["until"]]
        first = int(query.get("offset", 0))
        return {"items": found[first : first + 10], "total": len(found)}

    settings = make_settings(tmp_path).model_copy(update={"checkpoint_seconds": 1e-9})
    paged = Events(api).connector(
        {
            "name": "paged",
            "endpoint": {
                "path": "events",
                "paginator": {"type": "offset", "limit": 10, "total_path": "total"},
                "incremental": {
                    "cursor_path": "at",
                    "initial_value": at(0),
                    "start_param": "since",
                    "end_param": "until",
                    **MONTHLY,
                },
            },
        }
    )
    api.answers["/events"] = answer
    outcome = run(paged, settings, datetime(2024, 2, 12, tzinfo=UTC), resources=["paged"])["paged"]
    assert outcome.failure is None
    assert stored(settings, table="paged") == list(range(40))
    assert set(asked) == {(at(0), at(31)), (at(31), "2024-02-12T00:00:00Z")}
    assert len(asked) == 5


def test_a_cursor_older_than_the_retention_starts_at_its_initial_value_again(
    api: ApiServer, settings: Settings
) -> None:
    messages: list[str] = []

    class Observer:
        def message(self, text: str) -> None:
            messages.append(text)

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    events = Events(api, event(1, at(0)), event(2, at(30)))
    connector = events.connector(cursor={"retention": "90d", "end_param": None}, **KEYED)
    run(connector, settings, NOW - timedelta(days=60))
    assert [start for start, _ in events.requested_ranges] == [at(0)]
    run(connector, settings, NOW - timedelta(days=1), observer=Observer())
    assert [start for start, _ in events.requested_ranges] == [at(0), at(30)]
    assert messages == []
    late = NOW + timedelta(days=30)
    outcome = run(connector, settings, late, observer=Observer())["events"]
    assert [start for start, _ in events.requested_ranges] == [at(0), at(30), at(0)]
    assert "is older than the 90d that the API keeps" in "".join(messages)
    assert outcome.failure is None
    assert query(settings, "SELECT count(*) FROM shop.events") == [(2,)]


def test_a_backfill_asks_for_no_longer_range_than_a_window(
    api: ApiServer, settings: Settings
) -> None:
    events = StrictEvents(api, event(1, at(3)))
    connector = events.connector(cursor=MONTHLY, **KEYED)
    with pytest.raises(ResourceError, match="longer than the 31d of"):
        load_window(connector, settings, window_of(at(0), at(40)))
    root = connector.resources[0]
    windows = split_requested_range(root, at(0), at(40), None, frozenset())
    assert [one.window.label for one in windows] == [f"{at(31)}..{at(40)}", f"{at(0)}..{at(31)}"]
    assert load_window(connector, settings, windows[1].window)["events"].rows_loaded == 1


def test_a_full_refresh_asks_for_all_windows_again(api: ApiServer, settings: Settings) -> None:
    events = StrictEvents(api, event(1, at(1)), event(2, at(40)), event(3, at(100)))
    connector = events.connector(cursor={"window": {"size": "31d", "delay": "1m"}})
    run(connector, settings)
    events.rows = [event(2, at(40)), event(4, at(41)), event(5, at(80))]
    outcome = run(connector, settings, full_refresh=["events"])["events"]
    assert outcome.failure is None
    assert outcome.rows_loaded == 3
    assert stored(settings) == [2, 4, 5]
    assert len(events.requested_ranges) == 8
    run(connector, settings, set_cursor={"events": at(70)})
    assert events.requested_ranges[8:] == [
        (at(70), at(101)),
        (at(101), "2024-04-15T09:59:30Z"),
    ]
    assert stored(settings) == [2, 4, 5]


def test_an_action_that_would_skip_a_later_window_fails_the_run_and_it_is_asked_for_again(
    api: ApiServer, settings: Settings
) -> None:
    events = StrictEvents(api, event(1, at(1)), event(2, at(40)), event(3, at(100)))
    answer = events.answer
    api.answers["/events"] = lambda seen: (
        Answer({"error": "no licence"}, 403) if seen.query["since"] == at(31) else answer(seen)
    )
    incremental = {
        "cursor_path": "at",
        "initial_value": at(0),
        "start_param": "since",
        "end_param": "until",
        "window": {"size": "31d", "delay": "1m"},
    }
    endpoint = {
        "path": "events",
        "incremental": incremental,
        "response_actions": [{"status_code": 403, "action": "skip"}],
    }
    connector = make_connector(api.url, {"name": "events", "endpoint": endpoint, **KEYED})
    outcome = run(connector, settings)["events"]
    # with rows of this run in the table it would not be left as it is
    assert outcome.failure is not None
    assert "`skip` (1 rows of events were loaded before and stay" in outcome.failure.message
    assert stored(settings) == [1]
    api.answers["/events"] = answer
    api.seen.clear()
    run(connector, settings)
    assert events.requested_ranges[0] == (at(31), at(62))
    assert stored(settings) == [1, 2, 3]
