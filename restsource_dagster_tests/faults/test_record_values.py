"""Values that JSON has and a table can't store: changed with a message, or refused by name."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from restsource_dagster.engine.http.json_body import DUPLICATE_KEY, object_with_duplicate_key
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.source.record_values import RecordSanitizer
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer

pytestmark = pytest.mark.faults(row=14)


def load_things(
    api: ApiServer, settings: Settings, response: Any, notes: Notes | None = None, **more: Any
) -> Outcome:
    api.answers["/things"] = response if isinstance(response, Answer) else Answer(response)
    thing = {"name": "things", "write_disposition": "replace", **more}
    return load(make_connector(api.url, thing), settings, observer=notes)["things"]


def load_each(
    api: ApiServer, settings: Settings, responses: Mapping[str, Any]
) -> dict[str, Outcome]:
    """Load each response as a resource of its own, by the table's name, in one connector."""
    api.answers |= {f"/{name}": Answer(response) for name, response in responses.items()}
    made = [{"name": name, "write_disposition": "replace"} for name in responses]
    return load(make_connector(api.url, *made), settings)


def things(settings: Settings, columns: str) -> list[tuple[Any, ...]]:
    return query(settings, f"SELECT {columns} FROM shop.things ORDER BY id")


def message(outcome: Outcome) -> str:
    assert outcome.failure is not None
    return outcome.failure.message


def raw(text: str) -> Answer:
    return Answer(text.encode())


def test_null_items_are_left_out_and_reported(api: ApiServer, settings: Settings) -> None:
    notes = Notes()
    outcome = load_things(api, settings, [{"id": 1}, None, {"id": 2}, None], notes)
    assert things(settings, "id") == [(1,), (2,)]
    assert (outcome.rows_loaded, outcome.records_received) == (2, 4)
    assert any("left out 2 null items" in line for line in notes.messages)


def test_records_beside_a_null_item_lose_nothing(api: ApiServer, settings: Settings) -> None:
    load_things(api, settings, raw('[null, {"id": 1180591620717411303424}]'))
    assert things(settings, "id") == [(Decimal(2**70),)]
    text = message(load_things(api, settings, raw('[null, {"id": 1, "id": 2}]')))
    assert "the key is there twice in one object" in text


WHOLE_NUMBERS: list[tuple[int, Any]] = [
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**63, Decimal(2**63)),
    (-(2**63) - 1, Decimal(-(2**63) - 1)),
    (2**70, Decimal(2**70)),
    (10**29 - 1, Decimal(10**29 - 1)),
    (10**40, str(10**40)),
]
"""What the API sends, and what the table has."""


def test_whole_numbers_of_any_size_keep_all_their_digits(
    api: ApiServer, settings: Settings
) -> None:
    responses = {
        f"things{at}": [{"id": 1, "n": number, "deep": {"list": [{"n": number}]}}]
        for at, (number, _) in enumerate(WHOLE_NUMBERS)
    }
    load_each(api, settings, responses)
    for at, (_, loaded) in enumerate(WHOLE_NUMBERS):
        assert query(settings, f"SELECT n FROM shop.things{at}") == [(loaded,)]
        assert query(settings, f"SELECT n FROM shop.things{at}__deep__list") == [(loaded,)]


def test_a_number_too_big_for_its_column_is_refused_by_name(
    api: ApiServer, settings: Settings
) -> None:
    text = message(load_things(api, settings, [{"id": 1, "n": 5}, {"id": 2, "n": 2**70}]))
    assert "resource things, page 1, row 2, field n: 1180591620717411303424 does not fit" in text
    assert '"columns": {"n": {"data_type": "decimal"}}' in text


def test_a_declared_decimal_takes_numbers_of_both_sizes(api: ApiServer, settings: Settings) -> None:
    declared: dict[str, Any] = {"columns": {"n": {"data_type": "decimal"}}}
    load_things(api, settings, [{"id": 1, "n": 5}, {"id": 2, "n": 2**70}], **declared)
    assert things(settings, "n") == [(Decimal(5),), (Decimal(2**70),)]


@pytest.mark.parametrize("text", ['[{"id": 1, "n": NaN}]', '[{"id": 1, "n": 1e999}]'])
def test_numbers_that_are_not_finite_are_refused(
    api: ApiServer, settings: Settings, text: str
) -> None:
    outcome = load_things(api, settings, raw(text))
    assert "resource things, page 1" in message(outcome)


def test_sixty_levels_of_objects_become_one_column(api: ApiServer, settings: Settings) -> None:
    value: Any = 7
    for _ in range(60):
        value = {"a": value}
    assert load_things(api, settings, [{"id": 1, **value}]).rows_loaded == 1
    assert things(settings, "__".join("a" * 60)) == [(7,)]


def test_sixty_levels_of_lists_become_nested_tables(api: ApiServer, settings: Settings) -> None:
    value: Any = 7
    for _ in range(60):
        value = [{"a": value}]
    outcome = load_things(api, settings, [{"id": 1, "a": value}])
    assert len(outcome.nested_tables) == 60
    assert query(settings, f"SELECT a FROM shop.things__{'__'.join('a' * 60)}") == [(7,)]


def test_excessive_nesting_is_refused_by_name(api: ApiServer, settings: Settings) -> None:
    value: Any = 7
    for _ in range(300):
        value = {"a": value}
    text = message(load_things(api, settings, [{"id": 1}, {"id": 2, "b": value}]))
    assert "resource things, page 1, row 2, field b.a.a: it is nested deeper" in text


def test_nesting_that_no_parser_accepts_is_an_error_not_a_crash(
    api: ApiServer, settings: Settings
) -> None:
    outcome = load_things(api, settings, raw("[" * 100_000 + "]" * 100_000))
    assert "resource things, page 1" in message(outcome)


def test_five_thousand_columns_are_loaded(api: ApiServer, settings: Settings) -> None:
    row = {"id": 1, **{f"c{number}": number for number in range(5_000)}}
    assert load_things(api, settings, [row]).rows_loaded == 1
    assert things(settings, "c0, c2500, c4999") == [(0, 2500, 4999)]


def test_mixed_types_keep_every_value(api: ApiServer, settings: Settings) -> None:
    values = [1, "a", 1.5, True, [1, 2], {"y": 3}, None]
    load_things(api, settings, [{"id": n, "x": value} for n, value in enumerate(values)])
    columns = "x, x__v_text, x__v_double, x__v_bool, x__y"
    assert things(settings, columns) == [
        (1, None, None, None, None),
        (None, "a", None, None, None),
        (None, None, 1.5, None, None),
        (None, None, None, True, None),
        (None, None, None, None, None),
        (None, None, None, None, 3),
        (None, None, None, None, None),
    ]
    assert query(settings, "SELECT value FROM shop.things__x ORDER BY value") == [(1,), (2,)]


SAME_COLUMN: list[tuple[dict[str, Any], str]] = [
    ({"Id": 1, "id": 2, "ID": 3}, "id"),
    ({"id": 1, "userName": "a", "user_name": "b"}, "user_name"),
    ({"id": 1, "é": 1, "ü": 2}, "ü"),
    ({"id": 1, "deep": {"a b": 1, "a-b": 2}}, "deep.a-b"),
    ({"id": 1, "list": [{"A": 1}, {"A": 1, "a": 2}]}, "list.a"),
]
"""A row, and the field that becomes the column of another one."""


def test_two_fields_that_become_one_column_are_refused_by_name(
    api: ApiServer, settings: Settings
) -> None:
    responses = {f"things{at}": [{"id": 7}, row] for at, (row, _) in enumerate(SAME_COLUMN)}
    outcomes = load_each(api, settings, responses)
    for at, (_, field) in enumerate(SAME_COLUMN):
        text = message(outcomes[f"things{at}"])
        assert f"resource things{at}, page 1, row 2, field {field}: " in text
        assert "would both become the column" in text


def test_two_spellings_of_one_value_are_one_column(api: ApiServer, settings: Settings) -> None:
    load_things(api, settings, [{"id": 1, "ID": 1}, {"id": 2, "ID": 2}])
    assert things(settings, "id") == [(1,), (2,)]


def test_two_spellings_in_different_rows_are_one_column(api: ApiServer, settings: Settings) -> None:
    load_things(api, settings, [{"id": 1, "userName": "a"}, {"id": 2, "user_name": "b"}])
    assert things(settings, "user_name") == [("a",), ("b",)]


@pytest.mark.parametrize("field", ["_dlt_id", "_dlt_load_id", "_DLT_Id"])
def test_fields_with_the_names_of_dlts_own_are_refused(
    api: ApiServer, settings: Settings, field: str
) -> None:
    text = message(load_things(api, settings, [{"id": 1, field: "x"}]))
    assert f"row 1, field {field}: names that start with _dlt_" in text


def test_a_nul_in_a_text_is_kept(api: ApiServer, settings: Settings) -> None:
    load_things(api, settings, [{"id": 1, "s": "a\0b"}])
    assert things(settings, "s") == [("a\0b",)]


def test_a_lone_surrogate_is_replaced_and_reported(api: ApiServer, settings: Settings) -> None:
    notes = Notes()
    load_things(api, settings, raw(r'[{"id": 1, "s": "a\ud83d", "t": "\ud83d\ude00"}]'), notes)
    assert things(settings, "s, t") == [("a\ufffd", "\U0001f600")]
    assert any("things: s has half a character" in line for line in notes.messages)


def test_a_lone_surrogate_in_a_name_is_refused(api: ApiServer, settings: Settings) -> None:
    text = message(load_things(api, settings, raw(r'[{"id": 1, "a\ud83d": 1}]')))
    assert "row 1, field a\ufffd" in text


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[{"id": 0}, {"id": 1, "id": 2}]', "id"),
        ('[{"id": 0}, {"id": 1, "deep": {"a": 1, "a": null}}]', "deep.a"),
        ('[{"id": 0}, {"id": 1, "list": [{"a": 1, "a": 2}]}]', "list.a"),
    ],
)
def test_a_duplicate_key_is_refused_by_name(
    api: ApiServer, settings: Settings, text: str, field: str
) -> None:
    assert (f"resource things, page 1, row 2, field {field}: the key is there twice") in message(
        load_things(api, settings, raw(text))
    )


def test_a_duplicate_key_outside_of_the_records_does_not_matter(
    api: ApiServer, settings: Settings
) -> None:
    response = raw('{"meta": {"a": 1, "a": 2}, "data": [{"id": 1, "x": 2, "x": 2}]}')
    load_things(api, settings, response, endpoint={"path": "things", "data_selector": "data"})
    assert things(settings, "id, x") == [(1, 2)]


def test_a_refused_row_leaves_the_table_as_it_was(api: ApiServer, settings: Settings) -> None:
    load_things(api, settings, [{"id": 1}])
    load_things(api, settings, [{"id": 2, "Id": 3}])
    assert things(settings, "id") == [(1,)]


def test_a_field_of_the_parent_never_overwrites_one_of_the_child(
    api: ApiServer, settings: Settings
) -> None:
    api.answers |= {"/orders": [{"id": 1}], "/orders/1/lines": [{"n": 1, "_orders_id": 9}]}
    lines = {
        "name": "lines",
        "include_from_parent": ["id"],
        "endpoint": "orders/{resources.orders.id}/lines",
    }
    outcome = load(make_connector(api.url, "orders", lines), settings)["lines"]
    assert "resource lines, row 1, field _orders_id: the record has 9 there" in message(outcome)


def test_records_that_are_no_objects_are_loaded_as_values(
    api: ApiServer, settings: Settings
) -> None:
    load_things(api, settings, ["a", "b", 2**70])
    assert query(settings, "SELECT value FROM shop.things WHERE value IS NOT NULL") == [
        ("a",),
        ("b",),
        (str(2**70),),
    ]


def test_an_object_without_duplicate_keys_is_parsed_as_it_is() -> None:
    text = '{"a": [{"b": 1, "c": {"d": null}}], "e": "f"}'
    assert json.loads(text, object_pairs_hook=object_with_duplicate_key) == json.loads(text)
    doubled = json.loads('{"a": 1, "a": 2}', object_pairs_hook=object_with_duplicate_key)
    assert doubled == {"a": 2, DUPLICATE_KEY: "a"}


def test_sanitizing_plain_records_changes_nothing() -> None:
    records: list[Any] = [{"id": 1, "s": "ü", "f": 1.5, "n": None, "o": {"l": [1, "a", []]}}]
    copy = json.loads(json.dumps(records))
    assert (
        RecordSanitizer("things", str.lower, lambda _: None, Redactor()).sanitize(records, 1)
        == copy
    )
