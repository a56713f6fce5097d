"""The data or the file changes between runs: the table evolves, or the load is refused."""

from typing import Any

import pytest

from restsource_dagster.engine.errors import UnknownResourceError
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

changes_between_runs = pytest.mark.faults(row=17)
Row = dict[str, Any]


def run(api: ApiServer, settings: Settings, rows: list[Row], **resource: Any) -> Outcome:
    name = resource.setdefault("name", "things")
    path = resource.pop("path", "things")
    endpoint = {"path": path, **resource.pop("endpoint", {})}
    api.answers["/things"] = rows
    connector = make_connector(api.url, {**resource, "endpoint": endpoint})
    return load(connector, settings)[name]


def fine(outcome: Outcome) -> tuple[str, ...]:
    assert outcome.failure is None, outcome.failure
    return outcome.schema_changes


def refused(outcome: Outcome) -> str:
    assert outcome.failure is not None
    return outcome.failure.message


def things(settings: Settings, columns: str = "id, a", table: str = "things") -> list[Any]:
    return query(settings, f"SELECT {columns} FROM shop.{table} ORDER BY ALL")


MERGED = {"primary_key": "id"}
APPENDED = {"endpoint": {"incremental": {"cursor_path": "at"}}}


# --- the data -----------------------------------------------------------------------------------


@changes_between_runs
def test_a_first_load_says_that_the_table_is_new(api: ApiServer, settings: Settings) -> None:
    assert fine(run(api, settings, [{"id": 1}])) == ("table things is new",)
    assert fine(run(api, settings, [{"id": 1}])) == ()


@changes_between_runs
@pytest.mark.parametrize("hints", [MERGED, {"write_disposition": "append"}, {}])
def test_a_new_column_is_added_and_reported(api: ApiServer, settings: Settings, hints: Row) -> None:
    run(api, settings, [{"id": 1, "a": 1}], **hints)
    changes = fine(run(api, settings, [{"id": 2, "a": 2, "b": {"c": "x"}, "l": [1]}], **hints))
    assert changes == ("column things.b__c (text) is new", "table things__l is new")
    rows = things(settings, "id, a, b__c")
    assert rows == ([] if not hints else [(1, 1, None)]) + [(2, 2, "x")]


@changes_between_runs
@pytest.mark.parametrize("hints", [MERGED, {"write_disposition": "append"}])
def test_a_value_of_another_type_gets_a_column_beside_it(
    api: ApiServer, settings: Settings, hints: Row
) -> None:
    run(api, settings, [{"id": 1, "a": 1}], **hints)
    changes = fine(run(api, settings, [{"id": 2, "a": "x"}], **hints))
    assert changes == ("column things.a__v_text (text) is new: values of a that are not bigint",)
    assert things(settings, "id, a, a__v_text") == [(1, 1, None), (2, None, "x")]


@changes_between_runs
def test_a_column_that_is_gone_stays_and_is_empty_for_new_rows(
    api: ApiServer, settings: Settings
) -> None:
    run(api, settings, [{"id": 1, "a": 1}], **MERGED)
    assert fine(run(api, settings, [{"id": 2}], **MERGED)) == ()
    assert things(settings) == [(1, 1), (2, None)]


@changes_between_runs
def test_a_contract_refuses_a_change_and_the_table_stays_as_it_was(
    api: ApiServer, settings: Settings
) -> None:
    frozen = {"schema_contract": {"columns": "freeze"}, **MERGED}
    run(api, settings, [{"id": 1, "a": 1}], **frozen)
    text = refused(run(api, settings, [{"id": 2, "a": 2}, {"id": 3, "a": 3, "b": 1}], **frozen))
    assert "things" in text
    assert "b" in text
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'things'"
    assert ("b",) not in query(settings, columns)
    assert things(settings) == [(1, 1)]
    assert fine(run(api, settings, [{"id": 2, "a": 2}], **frozen)) == ()
    assert things(settings) == [(1, 1), (2, 2)]


# --- the file -----------------------------------------------------------------------------------


@changes_between_runs
@pytest.mark.parametrize("hints", [MERGED, APPENDED, {}])
def test_a_renamed_resource_has_a_table_of_its_own_with_all_rows(
    api: ApiServer, settings: Settings, hints: Row
) -> None:
    rows = [{"id": 1, "a": 1, "at": 1}, {"id": 2, "a": 2, "at": 2}]
    run(api, settings, rows, **hints)
    outcome = run(api, settings, rows, name="stuff", **hints)
    assert fine(outcome) == ("table stuff is new",)
    assert things(settings, table="stuff") == things(settings) == [(1, 1), (2, 2)]


@changes_between_runs
@pytest.mark.parametrize("hints", [{**MERGED, **APPENDED}, APPENDED], ids=["merge", "append"])
def test_a_renamed_table_gets_all_rows_not_only_those_since_the_cursor(
    api: ApiServer, settings: Settings, hints: Row
) -> None:
    rows = [{"id": 1, "a": 1, "at": 1}, {"id": 2, "a": 2, "at": 2}]
    run(api, settings, rows, **hints)
    run(api, settings, rows, table_name="stuff", **hints)
    assert things(settings, table="stuff") == [(1, 1), (2, 2)]
    run(api, settings, [*rows, {"id": 3, "a": 3, "at": 3}], table_name="stuff", **hints)
    assert things(settings, table="stuff") == [(1, 1), (2, 2), (3, 3)]


@changes_between_runs
def test_another_primary_key_merges_by_it_from_now_on(api: ApiServer, settings: Settings) -> None:
    run(api, settings, [{"id": 1, "a": 1}, {"id": 2, "a": 2}], primary_key="id")
    changes = fine(run(api, settings, [{"id": 9, "a": 2}], primary_key="a"))
    assert changes == ("the primary key of things is a now, was id",)
    assert things(settings) == [(1, 1), (9, 2)]
    changes = fine(run(api, settings, [{"id": 9, "a": 3}], primary_key=["id", "a"]))
    assert changes == ("the primary key of things is id, a now, was a",)
    assert things(settings) == [(1, 1), (9, 2), (9, 3)]


@changes_between_runs
def test_another_write_disposition_works_with_nested_tables(
    api: ApiServer, settings: Settings
) -> None:
    hints: dict[str, Row] = {"append": {"write_disposition": "append"}, "replace": {}}
    hints["merge"] = MERGED
    pairs = {f"{before}_{after}": (before, after) for before in hints for after in hints}
    old = [{"id": 1, "a": 1, "l": [{"v": 1}]}, {"id": 2, "a": 2, "l": [{"v": 2}]}]
    new = [{"id": 2, "a": 3, "l": [{"v": 3}, {"v": 4}]}]
    for run_number, rows in enumerate((old, new)):
        api.answers.update({f"/{name}": rows for name in pairs})
        given = [{"name": name, **hints[pair[run_number]]} for name, pair in pairs.items()]
        outcomes = load(make_connector(api.url, *given), settings)
    expected = {
        "append": [(1, 1), (2, 2), (2, 3)],
        "replace": [(2, 3)],
        "merge": [(1, 1), (2, 3)],
    }
    lists = {
        "append": [(1, 1), (2, 2), (2, 3), (2, 4)],
        "replace": [(2, 3), (2, 4)],
        "merge": [(1, 1), (2, 3), (2, 4)],
    }
    for name, (before, after) in pairs.items():
        told = f"{name} is loaded by {after} now, was {before}"
        assert (told in fine(outcomes[name])) == (before != after)
        assert things(settings, table=name) == expected[after], name
        joined = query(
            settings,
            f"SELECT t.id, l.v FROM shop.{name}__l l JOIN shop.{name} t "
            "ON t._dlt_id = l._dlt_parent_id ORDER BY ALL",
        )
        assert joined == lists[after], name
        assert query(settings, f"SELECT count(*) FROM shop.{name}__l") == [(len(joined),)]


@changes_between_runs
@pytest.mark.parametrize("before", [{}, {**MERGED, **APPENDED}, MERGED])
def test_appending_to_a_table_that_was_loaded_otherwise_is_refused(
    api: ApiServer, settings: Settings, before: Row
) -> None:
    rows = [{"id": 1, "a": 1, "at": 1}, {"id": 2, "a": 2, "at": 2}]
    run(api, settings, rows, **before)
    text = refused(run(api, settings, rows, **APPENDED))
    assert "resource things: the table things has rows from before it was appended to" in text
    assert things(settings) == [(1, 1), (2, 2)]


@changes_between_runs
def test_another_cursor_on_an_appended_table_is_refused(api: ApiServer, settings: Settings) -> None:
    rows = [{"id": 1, "a": 1, "at": 1}]
    run(api, settings, rows, **APPENDED)
    other = {"endpoint": {"incremental": {"cursor_path": "id"}}}
    assert "the table things has rows from before" in refused(run(api, settings, rows, **other))
    assert things(settings) == [(1, 1)]


@changes_between_runs
def test_another_cursor_on_a_merged_table_starts_over(api: ApiServer, settings: Settings) -> None:
    rows = [{"id": 1, "a": 1, "at": 1}, {"id": 2, "a": 2, "at": 2}]
    run(api, settings, rows, **MERGED, **APPENDED)
    other = {"endpoint": {"incremental": {"cursor_path": "id"}}}
    fine(run(api, settings, [*rows, {"id": 3, "a": 3, "at": 0}], **MERGED, **other))
    assert things(settings) == [(1, 1), (2, 2), (3, 3)]


# --- runs without rows, without a table, without a resource -------------------------------------


@pytest.mark.faults(row=15)
def test_two_loads_in_one_process_and_one_without_rows_are_reported_correctly(
    api: ApiServer, settings: Settings
) -> None:
    first = run(api, settings, [{"id": 1, "a": 1}], **MERGED)
    second = run(api, settings, [{"id": 1, "a": 1}], **MERGED)
    none = run(api, settings, [], **MERGED)
    counts = [(outcome.rows_loaded, outcome.row_count) for outcome in (first, second, none)]
    assert counts == [(1, 1), (1, 1), (0, 1)]
    assert [column.name for column in none.columns][:2] == ["id", "a"]


@pytest.mark.faults(row=15)
def test_a_replaced_table_is_emptied_by_an_empty_response(
    api: ApiServer, settings: Settings
) -> None:
    run(api, settings, [{"id": 1, "l": [1]}])
    assert run(api, settings, []).row_count == 0
    assert query(settings, "SELECT count(*) FROM shop.things__l") == [(0,)]


@pytest.mark.faults(row=3)
@pytest.mark.parametrize("hints", [MERGED, {"write_disposition": "append"}, {}])
def test_an_empty_response_creates_the_table_if_its_columns_are_declared(
    api: ApiServer, settings: Settings, hints: Row
) -> None:
    columns = {"id": {"data_type": "bigint", "nullable": False}, "a": {"data_type": "text"}}
    outcome = run(api, settings, [], columns=columns, **hints)
    assert (outcome.failed, outcome.rows_loaded, outcome.row_count) == (False, 0, 0)
    assert things(settings) == []
    fine(run(api, settings, [{"id": 1, "a": "x"}], columns=columns, **hints))
    assert things(settings) == [(1, "x")]
    run(api, settings, [], columns=columns, **hints)
    assert things(settings) == ([(1, "x")] if hints else [])


@pytest.mark.faults(row=3)
def test_a_dependent_of_no_parents_has_its_declared_table(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = []
    lines = {
        "name": "lines",
        "columns": {"n": {"data_type": "bigint"}},
        "endpoint": "orders/{resources.orders.id}/lines",
    }
    outcome = load(make_connector(api.url, "orders", lines), settings)["lines"]
    assert (outcome.failed, outcome.row_count) == (False, 0)
    assert query(settings, "SELECT n FROM shop.lines") == []


@pytest.mark.faults(row=15)
def test_a_run_of_a_removed_resource_is_refused_and_names_the_existing_ones(
    api: ApiServer, settings: Settings
) -> None:
    connector = make_connector(api.url, "things", "stuff")
    with pytest.raises(UnknownResourceError, match="has no resource gone; it has things, stuff"):
        load(connector, settings, resources=["things", "gone"])
    assert api.seen == []


@pytest.mark.faults(row=15)
def test_the_table_of_a_removed_resource_stays(api: ApiServer, settings: Settings) -> None:
    api.answers |= {"/things": [{"id": 1}], "/stuff": [{"id": 1}]}
    load(make_connector(api.url, "things", "stuff"), settings)
    load(make_connector(api.url, "stuff"), settings)
    assert things(settings, "id") == [(1,)]
