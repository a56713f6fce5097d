"""A key may be a field inside of an object: `account.id`, in the column `account__id`."""

from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import failure_of
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

in_both_modes = pytest.mark.parametrize("mode", ["auto", "rows"])
PAGED = {"paginator": {"type": "page_number", "total_path": None}}
CURSOR = {"incremental": {"cursor_path": "at"}}


def row(account: Any, number: int, **more: Any) -> dict[str, Any]:
    return {"account": {"id": account, "name": f"n{account}"}, "id": number, **more}


def in_pages(*pages: Any) -> Any:
    def answer(seen: Seen) -> Any:
        number = int(seen.query["page"])
        return pages[number] if number < len(pages) else []

    return answer


def keys(settings: Settings, table: str, columns: str = "account__id, id") -> list[Any]:
    return query(settings, f'select {columns} from shop."{table}" order by all')


@in_both_modes
def test_rows_are_merged_by_a_key_inside_of_an_object(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    """`both` has a second key beside it; `deep` is two objects down; a row comes twice in one load."""
    connector = make_connector(
        api.url,
        {"name": "one", "mode": mode, "primary_key": "account.id", "endpoint": {**PAGED, **CURSOR}},
        {"name": "both", "mode": mode, "primary_key": ["account.id", "id"]},
        {"name": "deep", "mode": mode, "primary_key": "meta.ids.value"},
        {
            "name": "upserted",
            "mode": mode,
            "primary_key": "account.id",
            "write_disposition": {"disposition": "merge", "strategy": "upsert"},
            "endpoint": PAGED,
        },
    )
    api.answers |= {
        "/one": in_pages([row(1, 1, at=1), row(2, 1, at=2)], [row(1, 2, at=3)]),
        "/both": [row(1, 1), row(1, 2), row(2, 1)],
        "/deep": [{"meta": {"ids": {"value": "a"}}, "n": 1}],
        "/upserted": in_pages([row(1, 1)], [row(1, 1), row(2, 2)]),
    }
    first = load(connector, settings)
    assert [outcome.failure for outcome in first.values() if outcome.failure] == []
    assert keys(settings, "one") == [(1, 2), (2, 1)]
    api.answers |= {
        "/one": in_pages([row(2, 9, at=4)]),
        "/both": [row(1, 2, new=True), row(3, 1)],
        "/deep": [{"meta": {"ids": {"value": "a"}}, "n": 2}],
        "/upserted": in_pages([row(2, 5)]),
    }
    second = load(connector, settings)
    assert [outcome.failure for outcome in second.values() if outcome.failure] == []
    assert keys(settings, "one") == [(1, 2), (2, 9)]
    assert keys(settings, "both") == [(1, 1), (1, 2), (2, 1), (3, 1)]
    assert keys(settings, "deep", "meta__ids__value, n") == [("a", 2)]
    assert keys(settings, "upserted") == [(1, 1), (2, 5)]


@in_both_modes
def test_rows_that_come_twice_are_stored_once_by_a_key_inside_of_an_object(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    """In a replaced table, and in one that is appended to with a cursor; also in a later run."""
    connector = make_connector(
        api.url,
        {
            "name": "replaced",
            "mode": mode,
            "primary_key": "account.id",
            "write_disposition": "replace",
            "endpoint": PAGED,
        },
        {
            "name": "appended",
            "mode": mode,
            "primary_key": "account.id",
            "write_disposition": "append",
            "endpoint": {**PAGED, **CURSOR},
        },
    )
    api.answers |= {
        "/replaced": in_pages([row(1, 1), row(2, 1)], [row(2, 1), row(3, 1)]),
        "/appended": in_pages([row(1, 1, at=1), row(2, 1, at=2)], [row(2, 1, at=2)]),
    }
    for _ in range(2):
        outcomes = load(connector, settings)
        assert [outcome.failure for outcome in outcomes.values() if outcome.failure] == []
    assert keys(settings, "replaced") == [(1, 1), (2, 1), (3, 1)]
    assert keys(settings, "appended") == [(1, 1), (2, 1)]


@in_both_modes
def test_a_dependent_takes_a_key_inside_of_an_object(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    connector = make_connector(
        api.url,
        {"name": "users", "mode": mode, "primary_key": "account.id"},
        {
            "name": "notes",
            "mode": mode,
            "primary_key": "note.id",
            "endpoint": "users/{resources.users.account.id}/notes",
        },
    )
    api.answers |= {"/users": [row(7, 1)], "/users/7/notes": [{"note": {"id": 5}}]}
    for _ in range(2):
        outcomes = load(connector, settings)
        assert [outcome.failure for outcome in outcomes.values() if outcome.failure] == []
    assert keys(settings, "notes", "note__id") == [(5,)]


@in_both_modes
def test_a_row_without_the_key_is_refused_by_its_place(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    connector = make_connector(
        api.url,
        *({"name": name, "mode": mode, "primary_key": "account.id"} for name in ("a", "b", "c")),
        {"name": "flat", "mode": mode, "primary_key": "account_id"},
    )
    api.answers |= {
        "/a": [row(1, 1), {"account": {}, "id": 2}],
        "/b": [row(1, 1), {"account": None, "id": 2}],
        "/c": [{"account.id": 1}],
        "/flat": [{"account.id": 1}],
    }
    outcomes = load(connector, settings)
    for name in "ab":
        assert "page 1, row 2, field account.id: it has no value" in failure_of(outcomes[name])
    assert 'write "account_id"' in failure_of(outcomes["c"])
    assert outcomes["flat"].rows_loaded == 1
