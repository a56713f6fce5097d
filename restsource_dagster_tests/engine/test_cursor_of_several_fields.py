"""A cursor that is the first of several fields that has a value: `"cursor_path": ["updated_at", "created_at"]`."""

from datetime import UTC, datetime
from typing import Any

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.engine.windowed import KEYED, day, live_state, load_window, window_of
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

FIELDS = ["updated_at", "created_at"]
NOW = datetime(2024, 1, 20, tzinfo=UTC)


def row(number: int, created: str, updated: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "created_at": created, "updated_at": updated, **more}


def users(api: ApiServer, path: Any = FIELDS, **more: Any) -> Connector:
    return make_connector(api.url, users_resource("users", path, **more))


def users_resource(name: str, path: Any = FIELDS, **more: Any) -> dict[str, Any]:
    """A resource at the path of its name, whose cursor is at `path` in its records."""
    cursor = {
        "cursor_path": path,
        "initial_value": day(1),
        "start_param": "since",
        **more.pop("cursor", {}),
    }
    endpoint = {"path": name, "incremental": cursor, "paginator": "single_page"}
    return {"name": name, "endpoint": endpoint, **more}


def asked(api: ApiServer) -> list[str]:
    return [seen.query["since"] for seen in api.seen]


def test_the_first_field_with_a_value_is_the_cursor(api: ApiServer, settings: Settings) -> None:
    """One connector has an appended and a merged resource in both modes."""
    made = {
        f"{kind}_{mode}": {"mode": mode, **more}
        for mode in ("rows", "auto")
        for kind, more in {"append": {}, "merge": KEYED}.items()
    }
    first = [row(1, day(2), day(5)), row(2, day(6)), {"id": 3, "created_at": day(4)}]
    connector = make_connector(api.url, *(users_resource(name, **made[name]) for name in made))
    api.answers |= {f"/{name}": first for name in made}
    outcomes = load(connector, settings)
    api.answers |= {f"/{name}": [row(2, day(6)), row(4, day(1), day(7))] for name in made}
    later = load(connector, settings)
    for name in made:
        assert outcomes[name].failure is None
        cursor = outcomes[name].cursor
        assert cursor is not None
        assert (cursor.cursor_path, cursor.last_value) == ("updated_at|created_at", day(6)), name
        cursor = later[name].cursor
        assert cursor is not None
        assert (cursor.start_value, cursor.last_value) == (day(6), day(7)), name
        assert [seen.query["since"] for seen in api.asked(f"/{name}")] == [day(1), day(6)], name
        found = query(settings, f"SELECT id FROM shop.{name} ORDER BY id")
        assert found == [(n,) for n in (1, 2, 3, 4)], name


def test_fields_of_any_depth_and_form_are_read(api: ApiServer, settings: Settings) -> None:
    path = ["meta.changed", "created", "'first seen'"]
    cursor = {"cursor_format": ["%d/%m/%Y", "%d.%m.%Y"], "initial_value": "01/01/2024"}
    connector = users(api, path, cursor=cursor, **KEYED)
    api.answers["/users"] = [
        {"id": 1, "meta": {"changed": "05/01/2024"}, "created": "04.01.2024"},
        {"id": 2, "meta": {"changed": None}, "created": "06.01.2024"},
        {"id": 3, "first seen": "02.01.2024"},
    ]
    outcome = load(connector, settings)["users"]
    assert outcome.failure is None
    assert outcome.cursor is not None
    assert outcome.cursor.last_value == "2024-01-06"
    sql = "SELECT meta__changed::varchar, created::varchar FROM shop.users ORDER BY id"
    assert query(settings, sql) == [
        ("2024-01-05", "2024-01-04"),
        (None, "2024-01-06"),
        (None, None),
    ]
    load(connector, settings)
    assert asked(api) == ["01/01/2024", "06/01/2024"]


def test_a_row_without_any_of_them_is_told(api: ApiServer, settings: Settings) -> None:
    api.answers["/users"] = [row(1, day(2)), {"id": 2}]
    failure = load(users(api, **KEYED), settings)["users"].failure
    assert failure is not None
    assert "row 2, field updated_at|created_at" in failure.message


def test_of_two_versions_of_a_row_the_newer_by_either_field_stays(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/users"] = [
        row(1, day(2), day(9), name="new"),
        row(1, day(2), name="old"),
    ]
    load(users(api, **KEYED), settings)
    assert query(settings, "SELECT name FROM shop.users") == [("new",)]


def test_windows_end_at_the_cursor_of_several_fields(api: ApiServer, settings: Settings) -> None:
    api.answers["/users"] = lambda seen: [
        one
        for one in (row(1, day(2), day(12)), row(2, day(3)))
        if seen.query["since"] <= (one["updated_at"] or one["created_at"]) < seen.query["until"]
    ]
    cursor = {"end_param": "until", "window": {"size": "10d"}}
    connector = users(api, cursor=cursor, **KEYED)
    outcomes = list(ingest(connector, settings=settings, environment={}, started=NOW))
    assert [outcome.rows_loaded for outcome in outcomes] == [2]
    assert asked(api) == [day(1), day(11)]
    assert query(settings, "SELECT id FROM shop.users ORDER BY id") == [(1,), (2,)]


def test_another_list_starts_anew_and_a_list_of_one_is_that_one(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/users"] = [row(1, day(2), day(5))]
    for path in ("updated_at", ["updated_at"], FIELDS, FIELDS, FIELDS[::-1]):
        outcome = load(users(api, path, **KEYED), settings)["users"]
        assert outcome.failure is None
    # rows that have only the other field were never seen by the cursor before
    assert asked(api) == [day(1), day(5), day(1), day(5), day(1)]
    assert live_state(settings)
    outcome = load(users(api, FIELDS, write_disposition="append"), settings)["users"]
    assert query(settings, "SELECT count(*) FROM shop.users") == [(1,)]


def test_a_backfill_and_a_cursor_that_a_person_sets_go_by_the_first_field_with_a_value(
    api: ApiServer, settings: Settings
) -> None:
    connector = users(api, cursor={"end_param": "until"}, **KEYED)
    api.answers["/users"] = [row(1, day(2), day(5)), row(2, day(3)), row(3, day(1))]
    outcome = load_window(connector, settings, window_of(day(2), day(4)), resource="users")["users"]
    assert (outcome.failure, outcome.rows_loaded) == (None, 1)
    outcomes = ingest(connector, settings=settings, environment={}, set_cursor={"users": day(4)})
    assert [one.failure for one in outcomes] == [None]
    assert asked(api)[-1] == day(4)
    assert query(settings, "SELECT id FROM shop.users ORDER BY id") == [(1,), (2,), (3,)]
