"""Several resources load into one table: one asset each, one row for each key."""

from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.errors import ResourceError
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.reset import reset_resources
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import Notes, connector_of
from restsource_dagster_tests.making import load, query
from restsource_dagster_tests.servers.api import ApiServer, Seen


def deal(number: int, status: str, at: int) -> dict[str, Any]:
    return {"id": number, "status": status, "at": at, "tags": [f"{number}{status}"]}


def deals(api: ApiServer, mode: str, **more: Any) -> Connector:
    """Pipedrive's live deals, by a cursor, and the deleted ones, with another path between them."""
    return connector_of(
        api.url,
        {
            "name": "deals",
            "mode": mode,
            "primary_key": "id",
            "endpoint": {"path": "deals", "incremental": {"cursor_path": "at"}},
            **more,
        },
        "users",
        {
            "name": "deleted_deals",
            "mode": mode,
            "table_name": "deals",
            "primary_key": ["id"],
            "write_disposition": "merge",
            "endpoint": {"path": "deals", "params": {"status": "deleted"}},
            **more,
        },
    )


def answer(api: ApiServer, live: Any, deleted: Any) -> None:
    def by_status(seen: Seen) -> Any:
        return deleted if seen.query.get("status") == "deleted" else live

    api.answers |= {"/deals": by_status, "/users": [{"id": 1}]}


def rows(settings: Settings) -> list[Any]:
    return query(settings, "select id, status from shop.deals order by all")


@pytest.mark.parametrize(("strategy", "mode"), [("delete-insert", "auto"), ("upsert", "rows")])
def test_a_row_that_moves_from_one_resource_to_another_is_one_row(
    api: ApiServer, settings: Settings, mode: str, strategy: str
) -> None:
    disposition = {"disposition": "merge", "strategy": strategy}
    connector = deals(api, mode, write_disposition=disposition)
    answer(api, [deal(1, "open", 1), deal(2, "won", 2)], [deal(3, "deleted", 1)])
    first = load(connector, settings)
    assert [outcome.failure for outcome in first.values() if outcome.failure] == []
    assert (first["deals"].rows_loaded, first["deleted_deals"].rows_loaded) == (2, 1)
    assert first["deleted_deals"].row_count == 3
    assert rows(settings) == [(1, "open"), (2, "won"), (3, "deleted")]
    answer(api, [deal(1, "lost", 4)], [deal(2, "deleted", 3)])
    notes = Notes()
    second = load(connector, settings, observer=notes)
    assert [outcome.failure for outcome in second.values() if outcome.failure] == []
    assert rows(settings) == [(1, "lost"), (2, "deleted"), (3, "deleted")]
    tags = query(settings, "select value from shop.deals__tags order by all")
    assert tags == [("1lost",), ("2deleted",), ("3deleted",)]
    # the two don't take settings of the table from each other
    assert notes.texts == []
    assert [outcome.schema_changes for outcome in second.values()] == [(), (), ()]
    # one alone leaves the other's rows and cursor
    answer(api, [deal(4, "open", 5)], [])
    load(connector, settings, resources=["deleted_deals"])
    assert rows(settings) == [(1, "lost"), (2, "deleted"), (3, "deleted")]
    third = load(connector, settings)
    assert third["deals"].cursor is not None
    assert third["deals"].cursor.start_value == 4
    assert rows(settings) == [(1, "lost"), (2, "deleted"), (3, "deleted"), (4, "open")]


def test_what_is_loaded_later_is_requested_later(api: ApiServer, settings: Settings) -> None:
    """A deal is restored while the live ones are read: the deleted ones are requested after them."""
    state = {"deleted": True}

    def live(_: Seen) -> Any:
        state["deleted"] = False
        return [deal(1, "open", 1)]

    def by_status(seen: Seen) -> Any:
        if seen.query.get("status") != "deleted":
            return live(seen)
        return [deal(1, "deleted", 1)] if state["deleted"] else []

    api.answers |= {"/deals": by_status, "/users": [{"id": 1}]}
    load(deals(api, "auto"), settings)
    assert rows(settings) == [(1, "open")]
    asked = [seen.query.get("status") for seen in api.asked("/deals")]
    assert asked == [None, "deleted"]


def test_what_would_undo_the_loads_of_another_resource_is_refused(
    api: ApiServer, settings: Settings
) -> None:
    connector = deals(api, "auto")
    answer(api, [deal(1, "open", 1)], [deal(2, "deleted", 1)])
    load(connector, settings)
    with pytest.raises(ResourceError, match="rows of deleted_deals, too"):
        list(ingest(connector, settings=settings, environment={}, full_refresh=["deals"]))
    with pytest.raises(ResourceError, match="Reset deleted_deals, deals together"):
        reset_resources(connector, ["deleted_deals"], settings)
    assert rows(settings) == [(1, "open"), (2, "deleted")]
    dropped = reset_resources(connector, ["deals", "deleted_deals"], settings)
    assert set(dropped) == {"deals", "deals__tags"}
    load(connector, settings)
    assert rows(settings) == [(1, "open"), (2, "deleted")]
