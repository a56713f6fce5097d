"""Rows at the boundary, late rows, rows in any order, and cursors of every kind."""

from typing import Any

import pytest

from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.feeds import (
    Feed,
    both,
    events,
    ids,
    keyed,
    minute,
    run,
)
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

pytestmark = pytest.mark.faults(row=10)


# --- a cursor of each kind: the old rows, the boundary, a new row -------------------------------

KINDS: dict[str, list[Any]] = {
    "time": [minute(1), minute(2), minute(3)],
    "time with fractions here and there": [
        "2026-01-01T00:00:01Z",
        "2026-01-01T00:00:02Z",
        "2026-01-01T00:00:02.5Z",
    ],
    "time to the nanosecond": [
        "2026-01-01T00:00:00.000000001Z",
        "2026-01-01T00:00:00.000000002Z",
        "2026-01-01T00:00:00.000000003Z",
    ],
    "time with a changing offset": [
        "2026-10-25T02:10:00+02:00",
        "2026-10-25T02:50:00+02:00",
        "2026-10-25T02:10:00+01:00",
    ],
    "time with a space": ["2026-01-01 00:00:01", "2026-01-01 00:00:02", "2026-01-01 00:00:03"],
    "date": ["2026-01-01", "2026-01-02", "2026-01-03"],
    "epoch": [1_767_225_600, 1_767_225_660, 1_767_225_720],
    "epoch with fractions": [1_767_225_600, 1_767_225_600.5, 1_767_225_601],
    "epoch as text": ["1767225600", "1767225660", "1767225720"],
    "number": [8, 9, 10],
    "number as text": ["8", "9", "10"],
    "big number": [2**63, 2**63 + 1, 2**64],
    "text": ["A", "B", "a"],
}


def test_each_kind_of_cursor_loads_each_row_once(api: ApiServer, settings: Settings) -> None:
    """One connector has a merged and an appended table of each kind."""
    feeds = {kind: Feed(api, path=f"events{number}") for number, kind in enumerate(KINDS)}
    made = [resource for number in range(len(KINDS)) for resource in both(f"events{number}")]
    connector = make_connector(api.url, *made)
    for kind, (old, boundary, _) in KINDS.items():
        feeds[kind].rows = [{"id": 1, "at": boundary}, {"id": 2, "at": old}]
    load(connector, settings)
    for kind, (_, boundary, new) in KINDS.items():
        feeds[kind].rows += [{"id": 3, "at": new}, {"id": 4, "at": boundary}]
    outcomes = load(connector, settings)
    for number, (kind, (_, boundary, new)) in enumerate(KINDS.items()):
        for table in (f"merged_events{number}", f"appended_events{number}"):
            outcome = outcomes[table]
            assert outcome.failure is None, kind
            assert ids(settings, table) == [1, 2, 3, 4], kind
            assert outcome.cursor is not None, kind
            found = (outcome.cursor.start_value, outcome.cursor.last_value)
            assert found == (boundary, new), kind


def test_the_smallest_value_may_be_the_newest(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api)
    connector = events(api, filters=False, last_value_func="min")
    feed.rows = [{"id": 1, "at": 10}, {"id": 2, "at": 9}]
    run(connector, settings)
    feed.rows += [{"id": 3, "at": 8}]
    run(connector, settings)
    assert ids(settings) == [1, 2, 3]


def test_a_cursor_below_the_top_level_is_found(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api)
    connector = events(api, filters=False, cursor_path="meta.changed[0]")
    feed.rows = [{"id": 1, "meta": {"changed": [1]}}, {"id": 2, "meta": {"changed": [2]}}]
    run(connector, settings)
    feed.rows.append({"id": 3, "meta": {"changed": [3]}})
    run(connector, settings)
    assert ids(settings) == [1, 2, 3]


# --- the boundary -------------------------------------------------------------------------------


def test_merge_loads_a_row_that_changed_and_kept_its_cursor(
    api: ApiServer, settings: Settings
) -> None:
    feed, connector = Feed(api), keyed(api)
    feed.rows = [{"id": 1, "at": minute(1), "total": 1}, {"id": 2, "at": minute(2), "total": 1}]
    run(connector, settings)
    feed.rows[1] = {"id": 2, "at": minute(2), "total": 2}
    run(connector, settings)
    assert query(settings, "SELECT id, total FROM shop.events ORDER BY id") == [(1, 1), (2, 2)]


def test_append_loads_late_rows_of_the_boundary_once(api: ApiServer, settings: Settings) -> None:
    feed, connector = Feed(api), events(api, initial_value=minute(0))
    for number in range(1, 5):
        feed.rows.append({"id": number, "at": minute(1)})
        feed.shuffle(number)
        run(connector, settings)
        assert ids(settings) == list(range(1, number + 1))


def test_append_counts_equal_rows(api: ApiServer, settings: Settings) -> None:
    feed, connector = Feed(api), events(api)
    feed.rows = [{"id": 1, "at": 5}, {"id": 1, "at": 5}]
    run(connector, settings)
    feed.rows.append({"id": 1, "at": 5})
    run(connector, settings)
    run(connector, settings)
    assert ids(settings) == [1, 1, 1]


def test_append_with_a_key_identifies_rows_by_it(api: ApiServer, settings: Settings) -> None:
    feed, connector = Feed(api), events(api, primary_key="id")
    feed.rows = [{"id": 1, "at": 5, "n": 1}]
    run(connector, settings)
    feed.rows = [{"id": 1, "at": 5, "n": 2}, {"id": 2, "at": 5, "n": 1}]
    run(connector, settings)
    assert query(settings, "SELECT id, n FROM shop.events ORDER BY id") == [(1, 1), (2, 1)]


def test_the_remembered_rows_do_not_grow_with_the_runs(api: ApiServer, settings: Settings) -> None:
    feed, connector = Feed(api), events(api, initial_value=0)
    feed.is_old = lambda value, since: value < int(since)
    sizes = []
    for number in range(1, 5):
        feed.rows.append({"id": number, "at": number})
        for outcome in ingest(connector, settings=settings, environment={}):
            assert outcome.load is not None
            state = outcome.load.pipeline.state["sources"]["shop"]["resources"]["events"]
            sizes.append(len(str(state)))
    assert ids(settings) == [1, 2, 3, 4]
    assert len(set(sizes[1:])) == 1


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [True, False], ids=["merge", "append"])
@pytest.mark.parametrize("seed", range(2))
def test_rows_in_any_order_are_loaded_once(
    api: ApiServer, settings: Settings, seed: int, merged: bool
) -> None:
    feed = Feed(api, page_size=3)
    connector = (keyed if merged else events)(api, initial_value=0)
    feed.is_old = lambda value, since: value < int(since)
    for start in (0, 10, 20):
        feed.rows += [{"id": number, "at": number // 3} for number in range(start, start + 10)]
        feed.shuffle(seed + start)
        run(connector, settings)
        assert ids(settings) == list(range(start + 10))


def test_descending_order_stops_early_and_loads_the_whole_boundary(
    api: ApiServer, settings: Settings
) -> None:
    feed = Feed(api, page_size=3)
    connector = events(api, filters=False, row_order="desc")
    feed.rows = [{"id": number, "at": number} for number in range(30, 0, -1)]
    run(connector, settings)
    # rows that share the newest value; the one already stored comes first, a page before
    fresh = [{"id": number, "at": 30} for number in range(31, 38)]
    feed.rows = [feed.rows[0], *fresh, *feed.rows[1:]]
    before = len(api.asked("/events"))
    run(connector, settings)
    assert ids(settings) == list(range(1, 38))
    assert len(api.asked("/events")) - before == 3  # pages of 3 up to the first older row


def test_a_row_order_that_a_row_contradicts_is_ignored(api: ApiServer, settings: Settings) -> None:
    feed, notes = Feed(api, page_size=3), Notes()
    connector = events(api, filters=False, row_order="desc")
    feed.rows = [{"id": number, "at": number} for number in range(6, 0, -1)]
    run(connector, settings)
    feed.rows = [
        *({"id": number, "at": at} for number, at in [(7, 7), (8, 1), (9, 8)]),
        *({"id": number, "at": 9} for number in (10, 11, 12)),
        *feed.rows,
    ]
    run(connector, settings, notes)
    assert ids(settings) == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    assert any("row_order is desc, but 8 comes after 1" in line for line in notes.messages)


def test_ascending_order_stops_at_the_end_value(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api, page_size=3)
    connector = keyed(api, filters=False, row_order="asc", initial_value=0, end_value=4)
    feed.rows = [{"id": number, "at": number} for number in range(20)]
    run(connector, settings)
    assert ids(settings) == [0, 1, 2, 3]
    assert len(api.asked("/events")) == 2
