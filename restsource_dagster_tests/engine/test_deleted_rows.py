"""Rows that the API says are deleted: they leave the table, or are marked in it."""

from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import ApiServer

CURSOR = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}


def contacts(mode: str, **fields: Any) -> dict[str, Any]:
    """Contacts with tags; a deleted one comes once more, and says so."""
    return {
        "name": f"contacts_{mode}",
        "primary_key": "id",
        "mode": mode,
        "nested": "tables",
        "deleted_when": '.state == "deleted"',
        "endpoint": {"path": "contacts", "paginator": "single_page", "incremental": CURSOR},
        **fields,
    }


def contact(key: int, at: int, state: str = "open") -> dict[str, Any]:
    return {"id": key, "at": at, "state": state, "tags": [f"{key}-a", f"{key}-b"]}


@pytest.mark.parametrize("strategy", ["delete-insert", "upsert"])
def test_a_record_that_says_it_is_deleted_takes_its_row_and_nested_rows_out(
    api: ApiServer, tmp_path: Path, strategy: str
) -> None:
    """Also one that the table never had, and one that was deleted and came back."""
    settings = make_settings(tmp_path)
    how = {"write_disposition": {"disposition": "merge", "strategy": strategy}}
    connector = make_connector(api.url, contacts("rows", **how), contacts("auto", **how))
    steps = [
        ([contact(1, 1), contact(2, 1), contact(3, 1)], [1, 2, 3], 0),
        ([contact(2, 2, "deleted"), contact(9, 2, "deleted")], [1, 3], 2),
        ([contact(2, 3), contact(3, 4, "deleted")], [1, 2], 1),
        # read again with the boundary of the cursor, and gone already
        ([contact(3, 4, "deleted")], [1, 2], 1),
    ]
    for answer, left, deleted in steps:
        api.answers["/contacts"] = answer
        for name, outcome in load(connector, settings).items():
            assert outcome.rows_deleted == deleted
            assert query(settings, f"SELECT id FROM shop.{name} ORDER BY 1") == [
                (key,) for key in left
            ]
            tags = query(settings, f"SELECT value FROM shop.{name}__tags ORDER BY 1")
            assert tags == [(f"{key}-{tag}",) for key in left for tag in "ab"]
    assert strategy == "upsert" or outcome.write_mode == "columns"


def test_a_deleted_row_that_is_marked_stays_with_the_time_of_the_run(
    api: ApiServer, tmp_path: Path
) -> None:
    """A row that comes back is as it was. Without `mark` later, the marked row leaves when it comes."""
    settings = make_settings(tmp_path)
    marked = make_connector(
        api.url, contacts("rows", on_delete="mark"), contacts("auto", on_delete="mark")
    )
    states = "SELECT id, state, _deleted_at IS NULL FROM shop.{} ORDER BY 1"
    api.answers["/contacts"] = [contact(1, 1), contact(2, 1)]
    load(marked, settings)
    api.answers["/contacts"] = [contact(1, 2, "deleted")]
    for name, outcome in load(marked, settings).items():
        assert query(settings, states.format(name)) == [
            (1, "deleted", False),
            (2, "open", True),
        ]
        assert outcome.rows_deleted == 1
    api.answers["/contacts"] = [contact(1, 3), contact(2, 3, "deleted")]
    for name in load(marked, settings):
        assert query(settings, states.format(name)) == [(1, "open", True), (2, "deleted", False)]
    removing = make_connector(api.url, contacts("rows"), contacts("auto"))
    for name in load(removing, settings):
        assert query(settings, states.format(name)) == [(1, "open", True)]


def test_what_a_condition_may_give(api: ApiServer, tmp_path: Path) -> None:
    """A time or an empty text says it, too. A value that may mean either is an error with its row."""
    settings = make_settings(tmp_path)

    def resource(name: str) -> dict[str, Any]:
        return {"name": name, "primary_key": "id", "deleted_when": ".gone"}

    names = ("times", "number", "digit", "no_time", "own")
    connector = make_connector(api.url, *map(resource, names))
    api.answers["/times"] = [{"id": 1, "gone": ""}, {"id": 2, "gone": "2026-01-01"}, {"id": 3}]
    api.answers["/number"] = [{"id": 1, "gone": False}, {"id": 2, "gone": 0}]
    # most records have these, so to take them for deleted would empty the table
    api.answers["/digit"] = [{"id": 1, "gone": "0"}]
    api.answers["/no_time"] = [{"id": 1, "gone": "0000-00-00 00:00:00"}]
    api.answers["/own"] = [{"id": 1, "_deleted_at": None}]
    outcomes = load(connector, settings)
    assert query(settings, "SELECT id FROM shop.times ORDER BY 1") == [(1,), (3,)]
    messages = {name: str(one.failure) for name, one in outcomes.items()}
    assert "page 1, row 2" in messages["number"]
    for name, verdict in (("number", "0"), ("digit", '"0"'), ("no_time", '"0000-00-00 00:00:00"')):
        assert f"the condition gives {verdict}" in messages[name]
        assert "what deleted records have, such as `.deleted == 1`" in messages[name]
    assert "_deleted_at" in messages["own"]


def keys_of(api: ApiServer, mode: str, on_delete: str) -> Any:
    """Items with tags and shops' items with a key of two columns, and a list of those that are deleted."""
    own: dict[str, Any] = {"mode": mode, "nested": "tables", "on_delete": on_delete}
    single: dict[str, Any] = {"paginator": "single_page"}
    items = {"name": "items", "primary_key": "id", "deletes_from": "deleted_items", **own}
    pairs = {
        "name": "pairs",
        "primary_key": ["site", "id"],
        "deletes_from": {"resource": "deleted_items", "fields": ["item.site", "id"]},
        **own,
    }
    deleted = {
        "name": "deleted_items",
        "write_disposition": "append",
        "mode": mode,
        "nested": "json",
        "endpoint": {**single, "incremental": CURSOR},
    }
    return make_connector(
        api.url, {**items, "endpoint": single}, {**pairs, "endpoint": single}, deleted
    )


def deleted_item(key: int, at: int) -> dict[str, Any]:
    return {"id": key, "at": at, "item": {"site": "a"}}


@pytest.mark.parametrize("mode", ["rows", "auto"])
def test_keys_in_another_resource_take_rows_out(api: ApiServer, tmp_path: Path, mode: str) -> None:
    """An item that is created anew with its old key stays, although the log has its deletion."""
    settings = make_settings(tmp_path)
    connector = keys_of(api, mode, "remove")
    items = [{"id": key, "tags": ["x"]} for key in range(1, 700)]
    api.answers["/items"] = items
    api.answers["/pairs"] = [{"site": site, "id": 1} for site in "ab"]
    api.answers["/deleted_items"] = [deleted_item(3, 0)]
    load(connector, settings)
    assert query(settings, "SELECT count(*) FROM shop.items") == [(699,)]
    api.answers["/items"] = api.answers["/pairs"] = []
    api.answers["/deleted_items"] = [deleted_item(key, 1) for key in (1, 2, *range(101, 601))]
    outcomes = load(connector, settings)
    assert outcomes["deleted_items"].rows_deleted_from == {"items": 502, "pairs": 1}
    assert query(settings, "SELECT count(*), min(id) FROM shop.items") == [(197, 3)]
    assert query(settings, "SELECT count(*) FROM shop.items__tags") == [(197,)]
    assert query(settings, "SELECT site FROM shop.pairs") == [("b",)]
    # the log of deletions is a table as any other
    assert query(settings, "SELECT count(*) FROM shop.deleted_items") == [(503,)]


@pytest.mark.parametrize("lag", [0, 5])
def test_a_deletion_that_is_listed_again_does_not_remove_a_row_that_came_back(
    api: ApiServer, tmp_path: Path, lag: int
) -> None:
    """An API sends the last deletion again, as its time is not before the cursor. It may come with new ones."""
    settings, single = make_settings(tmp_path), {"paginator": "single_page"}
    key = {"primary_key": "id"}
    items = {**key, "name": "items", "deletes_from": "deleted_items"}
    connector = make_connector(
        api.url,
        {**items, "endpoint": {**single, "incremental": CURSOR}},
        {
            **key,
            "name": "deleted_items",
            "endpoint": {**single, "incremental": {**CURSOR, "lag": lag} if lag else CURSOR},
        },
    )

    def left(items: list[tuple[int, int]], deleted: list[tuple[int, int]]) -> list[int]:
        for path, rows in (("/items", items), ("/deleted_items", deleted)):
            api.answers[path] = [{"id": one, "at": at} for one, at in rows]
        load(connector, settings)
        return [one for (one,) in query(settings, "SELECT id FROM shop.items ORDER BY 1")]

    assert left([(1, 1), (2, 1), (3, 1)], []) == [1, 2, 3]
    assert left([], [(1, 2)]) == [2, 3]
    assert left([(1, 3), (2, 4)], [(1, 2)]) == [1, 2, 3]
    # item 1 is not asked for any more: the cursor of items is past it
    assert left([(2, 4)], [(1, 2)]) == [1, 2, 3]
    assert left([(2, 4)], [(1, 2), (3, 2)]) == [1, 2]
    assert left([(2, 4)], [(3, 2), (1, 5)]) == [2]


@pytest.mark.on_destinations
def test_rows_that_another_resource_names_are_marked_once(api: ApiServer, tmp_path: Path) -> None:
    """A row that comes again is not deleted any more. A table without the column gets it first."""
    settings = make_settings(tmp_path)
    marked = "SELECT id, _deleted_at IS NOT NULL FROM shop.items ORDER BY 1"
    api.answers["/items"] = [{"id": 1}, {"id": 2}]
    api.answers["/pairs"] = [{"site": "a", "id": 1}]
    api.answers["/deleted_items"] = []
    load(keys_of(api, "auto", "remove"), settings)
    connector = keys_of(api, "auto", "mark")
    api.answers["/items"] = [{"id": 2}]
    api.answers["/deleted_items"] = [deleted_item(1, 1)]
    failure = load(connector, settings)["deleted_items"].failure
    assert "has no column _deleted_at yet" in str(failure)
    for again in (1, 0):
        outcomes = load(connector, settings)
        assert outcomes["deleted_items"].rows_deleted_from == {"items": again, "pairs": again}
        assert query(settings, marked) == [(1, True), (2, False)]
    api.answers["/items"] = [{"id": 1}]
    api.answers["/deleted_items"] = [deleted_item(2, 2)]
    load(connector, settings)
    assert query(settings, marked) == [(1, False), (2, True)]


def test_a_record_without_the_key_of_a_deleted_row_is_an_error(
    api: ApiServer, tmp_path: Path
) -> None:
    """Its row is named, and nothing is removed."""
    settings = make_settings(tmp_path)
    api.answers["/items"] = [{"id": 1}]
    api.answers["/pairs"] = []
    api.answers["/deleted_items"] = [deleted_item(1, 1), {"id": None, "at": 1}]
    outcomes = load(keys_of(api, "auto", "remove"), settings)
    assert "page 1, row 2" in str(outcomes["deleted_items"].failure)
    assert query(settings, "SELECT id FROM shop.items") == [(1,)]


def test_a_field_with_a_point_in_its_name_holds_a_part_of_the_key(
    api: ApiServer, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path)
    api.answers["/items"] = []
    api.answers["/pairs"] = [{"site": "a", "id": 1}, {"site": "b", "id": 1}]
    api.answers["/deleted_items"] = []
    load(keys_of(api, "auto", "remove"), settings)
    api.answers["/pairs"] = []
    api.answers["/deleted_items"] = [{"id": 1, "item.site": "a", "at": 1}]
    assert load(keys_of(api, "auto", "remove"), settings)["deleted_items"].failure is None
    assert query(settings, "SELECT site FROM shop.pairs") == [("b",)]
