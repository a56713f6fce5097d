"""Resources with their defaults: keys, dispositions, cursors, parents and families."""

from typing import Any

import pytest

from restsource_dagster.connector.model import Disposition
from restsource_dagster_tests.connector.helpers import connector, from_corpus


def disposition(resource: Any, **parts: Any) -> Disposition:
    return connector(resources=[resource], **parts).resources[0].disposition


def test_a_string_resource_is_name_and_path() -> None:
    countries = connector(resources=["countries"]).resources[0]

    assert (countries.name, countries.endpoint.path, countries.method) == (
        "countries",
        "countries",
        "GET",
    )
    assert (countries.table, countries.table_name, countries.pointer) == (
        "countries",
        None,
        "/resources/0",
    )


def test_resources_override_defaults_and_lists_of_keys_are_tuples() -> None:
    defaults = from_corpus("defaults_merge")

    assert [resource.primary_key for resource in defaults.resources] == [
        ("id",),
        ("id",),
        ("x", "y"),
    ]


def test_columns_of_the_defaults_and_of_the_resource_are_merged() -> None:
    parsed = connector(
        resource_defaults={"columns": {"id": {"primary_key": True}}},
        resources=[{"name": "a", "columns": [{"name": "day", "primary_key": True}]}, "b"],
    )

    assert parsed.resource("a").primary_key == ("id", "day")
    assert parsed.resource("b").primary_key == ("id",)


def test_a_key_of_the_table_overrides_keys_of_columns() -> None:
    columns = {"id": {"primary_key": True}}
    parsed = connector(resources=[{"name": "a", "columns": columns, "primary_key": "other"}])

    assert parsed.resources[0].primary_key == ("other",)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"name": "a", "primary_key": "id"}, "merge"),
        ({"name": "a", "columns": {"id": {"primary_key": True}}}, "merge"),
        ({"name": "a", "endpoint": {"incremental": {"cursor_path": "ts"}}}, "append"),
        ({"name": "a"}, "replace"),
        ({"name": "a", "merge_key": "day"}, "replace"),
        ({"name": "a", "write_disposition": None}, "replace"),
    ],
)
def test_a_missing_write_disposition_is_derived(resource: Any, expected: str) -> None:
    derived = disposition(resource)

    assert (derived.value, derived.derived) == (expected, True)
    assert derived.reason.startswith(f"{expected}, because ")


def test_a_given_write_disposition_stays() -> None:
    given = disposition({"name": "a", "primary_key": "id", "write_disposition": "append"})
    from_defaults = disposition("a", resource_defaults={"write_disposition": "append"})
    scd2 = {"disposition": "merge", "strategy": "scd2"}

    assert (given.value, given.derived) == ("append", False)
    assert from_defaults.reason == "append, as the file says in `resource_defaults`"
    assert disposition({"name": "a", "write_disposition": scd2}).strategy == "scd2"


def test_below_an_incremental_ancestor_rows_are_appended() -> None:
    resources = [
        {"name": "a", "endpoint": {"path": "a", "incremental": {"cursor_path": "ts"}}},
        {"name": "b", "endpoint": "a/{resources.a.id}"},
        {"name": "c", "endpoint": "b/{resources.b.id}"},
    ]

    assert connector(resources=resources).resource("c").disposition.reason == (
        "append, because its parent a is incremental and it has no primary key"
    )


def test_an_incremental_param_is_a_cursor_with_a_start_param() -> None:
    cursor = from_corpus("incremental_param").resources[0].incremental

    assert cursor is not None
    assert (cursor.cursor_path, cursor.initial_value, cursor.start_param) == ("id", 0, "since")


def test_families_start_with_the_root_and_go_down() -> None:
    families = from_corpus("grandchildren").families

    assert [family.names for family in families] == [("a", "b", "c", "d")]
    assert from_corpus("grandchildren").family_of("c").root.name == "a"
    assert [family.names for family in from_corpus("billing").families] == [
        ("customers",),
        ("invoices",),
    ]


def test_an_unknown_resource_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"Did you mean `items`\? It has `items`"):
        connector().resource("itms")


def test_selected_is_true_unless_false() -> None:
    teams, members = from_corpus("selected_parent").resources

    assert (teams.selected, members.selected) == (False, True)
    assert members.parent == "teams"


def test_lines_are_filled_in_afterwards() -> None:
    located = connector(resources=["a", "b"]).with_lines({"/resources/1": 12})

    assert [resource.line for resource in located.resources] == [1, 12]
