"""Resets of resources."""

import traceback
from typing import Any

import pytest

from restsource_dagster.engine.errors import IngestError, UnknownResourceError
from restsource_dagster.engine.run.reset import dependents_of, reset_resources
from restsource_dagster.settings import Settings
from restsource_dagster_tests.engine.windowed import Events, day, load_window, stored, window_of
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer

PARTS: dict[str, Any] = {
    "name": "parts",
    "primary_key": "n",
    "endpoint": "events/{resources.events.id}/parts",
}


def tables(settings: Settings) -> set[str]:
    sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop'"
    return {row[0] for row in query(settings, sql) if not row[0].startswith("_")}


@pytest.fixture
def events(api: ApiServer) -> Events:
    api.answers |= {"/countries": [{"code": "DE"}], "/events/1/parts": [{"n": 1}]}
    api.answers["/events/2/parts"] = [{"n": 2}]
    return Events(api, {"id": 1, "at": day(1), "tags": ["a"]}, {"id": 2, "at": day(2), "tags": []})


def test_a_reset_drops_the_tables_and_the_cursor_and_all_rows_are_loaded_again(
    events: Events, settings: Settings
) -> None:
    connector = events.connector("countries")
    load(connector, settings)
    assert set(reset_resources(connector, ["events"], settings)) == {"events", "events__tags"}
    assert tables(settings) == {"countries"}
    outcomes = load(connector, settings)
    assert events.requested_ranges[-1] == (day(1), None)
    assert not any(outcome.failed for outcome in outcomes.values())
    assert stored(settings) == [1, 2]


def test_a_reset_without_names_drops_everything(events: Events, settings: Settings) -> None:
    connector = events.connector("countries", PARTS)
    load(connector, settings)
    dropped = reset_resources(connector, None, settings)
    assert set(dropped) == {"events", "events__tags", "parts", "countries"}
    assert tables(settings) == set()
    load(connector, settings)
    assert stored(settings, "n", "parts") == [1, 2]


def test_dependents_that_are_not_reset_are_named_and_stay_correct(
    events: Events, settings: Settings
) -> None:
    connector, notes = events.connector(PARTS), Notes()
    load(connector, settings)
    reset_resources(connector, ["events"], settings, notes)
    assert dependents_of(connector, "events") == ("parts",)
    assert any("parts depends on events and keeps its rows" in line for line in notes.messages)
    load(connector, settings)
    assert stored(settings) == [1, 2]
    assert stored(settings, "n", "parts") == [1, 2]


def test_a_reset_drops_tables_that_only_windows_have_loaded(
    events: Events, settings: Settings
) -> None:
    connector = events.connector(primary_key="id")
    load_window(connector, settings, window_of(day(1), day(3)))
    assert set(reset_resources(connector, ["events"], settings)) == {"events", "events__tags"}
    load_window(connector, settings, window_of(day(2), day(3)))
    assert stored(settings) == [2]
    load(connector, settings)
    assert stored(settings) == [1, 2]


def test_a_reset_of_a_connector_that_loaded_nothing_drops_nothing(
    events: Events, settings: Settings
) -> None:
    assert reset_resources(events.connector(), None, settings) == ()


def test_an_unknown_resource_is_refused(events: Events, settings: Settings) -> None:
    with pytest.raises(UnknownResourceError, match="no resource event;"):
        reset_resources(events.connector(), ["event"], settings)


def test_no_credential_of_the_destination_is_in_an_error_of_a_reset(
    events: Events, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sup3rs3cret"
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", f"{secret}://bucket")
    environment = {"DESTINATION__FILESYSTEM__CREDENTIALS__AWS_SECRET_ACCESS_KEY": secret}
    elsewhere = settings.model_copy(update={"destination": "filesystem"})
    with pytest.raises(IngestError) as caught:
        reset_resources(events.connector(), None, elsewhere, environment=environment)
    shown = "".join(traceback.format_exception(caught.value))
    assert secret not in shown
    assert "[secret]" in shown
