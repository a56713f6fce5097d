"""Cursors that rows spell otherwise: read by `cursor_format`, ordered as times, stored in UTC."""

from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.engine.windowed import (
    KEYED,
    Events,
    event,
    load_window,
    stored,
    window_of,
)
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

DAYS = {"cursor_format": "%d/%m/%Y", "initial_value": "01/01/2026"}
EMAIL = {"cursor_format": "rfc2822", "initial_value": "2026-01-01T00:00:00Z"}
OFFSET = {"cursor_format": "%Y-%m-%d %H:%M %z", "initial_value": "2026-01-01 00:00 +0000"}


class Feed(Events):
    """Serves all rows, whatever is asked for."""

    def answer(self, seen: Seen) -> Any:
        return list(self.rows)


def loaded(feed: Feed, settings: Settings, **more: Any) -> Outcome:
    outcome = load(feed.connector(**more), settings)["events"]
    assert outcome.failure is None
    return outcome


FORMS: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    "days": (DAYS, "27/11/2026", "01/12/2026", "2026-12-01", "01/12/2026"),
    "email": (
        EMAIL,
        "Fri, 27 Nov 2026 10:00:00 +0100",
        "Fri, 27 Nov 2026 09:30:00 +0000",
        "2026-11-27T09:30:00Z",
        "Fri, 27 Nov 2026 09:30:00 GMT",
    ),
    "offset": (
        OFFSET,
        "2026-11-27 10:00 +0100",
        "2026-11-27 09:30 +0000",
        "2026-11-27T09:30:00Z",
        "2026-11-27 09:30 +0000",
    ),
}
"""The cursor, an older and a newer time, the value that is kept, and what the next run sends of it."""


def test_times_in_any_form_are_ordered_as_times_and_stored_in_utc(
    api: ApiServer, settings: Settings
) -> None:
    """One connector has a resource for each form in both modes."""
    resources, made = [], {}
    for form, (cursor, older, newer, *_) in FORMS.items():
        for mode in ("rows", "auto"):
            name = f"{form}_{mode}"
            made[name] = form
            api.answers[f"/{name}"] = [
                event(1, newer, n=1),
                event(1, older, n=2),
                event(2, older, n=3),
            ]
            incremental = {"cursor_path": "at", "start_param": "since", **cursor}
            endpoint = {"path": name, "incremental": incremental}
            resources.append({"name": name, "mode": mode, "endpoint": endpoint, **KEYED})
    connector = make_connector(api.url, *resources)
    outcomes = load(connector, settings)
    again = load(connector, settings)
    for name, form in made.items():
        *_, kept, sent = FORMS[form]
        assert outcomes[name].failure is None
        assert again[name].failure is None
        cursor_range = outcomes[name].cursor
        assert cursor_range is not None
        assert cursor_range.last_value == kept
        # of two versions of a row the newer one stays, by time and not by its characters
        found = query(settings, f"SELECT id, n FROM shop.{name} ORDER BY id")
        assert found == [(1, 1), (2, 3)], name
        assert api.asked(f"/{name}")[-1].query["since"] == sent, name


def test_times_in_utc_are_a_column_of_times(api: ApiServer, settings: Settings) -> None:
    loaded(Feed(api, event(1, "2026-11-27 10:00 +0100")), settings, cursor=OFFSET, **KEYED)
    sql = 'SELECT typeof("at"), "at" = TIMESTAMPTZ \'2026-11-27 09:00:00+00\' FROM shop.events'
    assert query(settings, sql) == [("TIMESTAMP WITH TIME ZONE", True)]


def test_formats_are_tried_in_order_and_times_without_a_zone_are_in_the_given_one(
    api: ApiServer, settings: Settings
) -> None:
    cursor = {
        "cursor_format": ["%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "epoch_seconds"],
        "timezone": "Europe/Berlin",
        "initial_value": "01.01.2026 01:00",
    }
    feed = Feed(
        api, event(1, "27.11.2026 10:00"), event(2, "27.11.2026 10:00:05"), event(3, 1795770010)
    )
    outcome = loaded(feed, settings, cursor=cursor, **KEYED)
    assert outcome.cursor is not None
    assert (outcome.cursor.start_value, outcome.cursor.last_value) == (
        "2026-01-01T00:00:00Z",
        "2026-11-27T09:00:10Z",
    )
    assert feed.requested_ranges == [("01.01.2026 01:00:00", None)]


def test_rows_of_one_form_and_an_api_that_wants_another(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api, event(1, "27/11/2026"))
    cursor = {**DAYS, "convert": "epoch_seconds", "lag": 1}
    loaded(feed, settings, cursor=cursor, **KEYED)
    loaded(feed, settings, cursor=cursor, **KEYED)
    assert [start for start, _ in feed.requested_ranges] == ["1767225600", "1795651200"]


def test_a_cursor_inside_of_an_object_is_read_too(api: ApiServer, settings: Settings) -> None:
    feed = Feed(api, {"id": 1, "meta": {"at": "27/11/2026"}}, {"id": 2, "meta": {"at": None}})
    cursor = {**DAYS, "cursor_path": "meta.at", "on_cursor_value_missing": "include"}
    outcome = loaded(feed, settings, cursor=cursor, **KEYED)
    assert outcome.cursor is not None
    assert outcome.cursor.last_value == "2026-11-27"


@pytest.mark.parametrize("more", [{}, KEYED], ids=["append", "merge"])
def test_a_window_is_cut_by_times_that_rows_spell_otherwise(
    api: ApiServer, settings: Settings, more: dict[str, Any]
) -> None:
    feed = Feed(api, *(event(n, f"{n:02}/11/2026") for n in (1, 2, 3, 4, 20)))
    connector = feed.connector(cursor=DAYS, **more)
    load(connector, settings)
    for _ in range(2):
        outcome = load_window(connector, settings, window_of("2026-11-02", "2026-11-04"))["events"]
        assert (outcome.failure, outcome.rows_loaded) == (None, 2)
    assert feed.requested_ranges[-1] == ("02/11/2026", "04/11/2026")
    assert stored(settings) == [1, 2, 3, 4, 20]


def test_a_value_of_another_form_names_the_pattern_that_would_read_it(
    api: ApiServer, settings: Settings
) -> None:
    feed = Feed(api, event(1, "27/11/2026"), event(2, "28 Nov 2026"))
    failure = load(feed.connector(cursor=DAYS, **KEYED), settings)["events"].failure
    assert failure is not None
    assert "page 1" in failure.message
    assert '"28 Nov 2026" fits no format of cursor_format (%d/%m/%Y)' in failure.message
    assert "Add %d %b %Y to it" in failure.message


def test_text_without_an_order_names_the_pattern_that_would_read_it(
    api: ApiServer, settings: Settings
) -> None:
    feed = Feed(api, event(1, "27/11/2026"))
    failure = load(feed.connector(cursor={"initial_value": None}, **KEYED), settings)[
        "events"
    ].failure
    assert failure is not None
    assert 'Add "cursor_format": "%d/%m/%Y" to the cursor' in failure.message
