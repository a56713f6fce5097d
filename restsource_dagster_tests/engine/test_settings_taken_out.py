"""A setting that is taken out of the file is as if it had never been there."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.table_hints import (
    Cdc,
    Column,
    DeleteInsert,
    InsertOnly,
    NestedHints,
    Scd2,
    TableHints,
    Upsert,
)
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

Hints = dict[str, Any]

ROW = {"v": 1, "z": "a", "day": "m", "gone": False, "made": "2026-01-01T00:00:00Z"}
FIRST = [
    {"id": 1, **ROW, "l": [{"n": 1, "p": 1}]},
    {"id": 2, **ROW, "z": "b", "l": [{"n": 2, "p": 1}]},
]
"""Rows of which every setting below leaves the same table."""
SECOND = [
    {"id": 1, "v": 2, "z": None, "day": "m", "gone": True, "new": 5, "l": [{"n": 3, "p": None}]},
    {"id": 3, "v": "text", "day": None, "gone": True, "made": "2025-01-01T00:00:00Z", "l": []},
]
"""Rows that the settings below would change, leave out or refuse."""
KEY = {"primary_key": "id"}
FROZEN = {"schema_contract": {"columns": "freeze"}}
COLUMNS = "id, v, v__v_text, z, day, gone, new, made"


def merge(strategy: str, **options: Any) -> Hints:
    return {"write_disposition": {"disposition": "merge", "strategy": strategy, **options}}


def column(name: str, **hints: Any) -> Hints:
    return {"columns": {name: hints}}


def nested(**hints: Any) -> Hints:
    return {"nested_hints": {"l": hints}}


SETTINGS: Mapping[str, Hints] = {
    "primary_key": {"primary_key": ["id", "v"]},
    "another primary_key": {"primary_key": "z", "write_disposition": "append"},
    "merge_key": {"merge_key": "day"},
    "write_disposition": {"write_disposition": "append"},
    "schema_contract": FROZEN,
    "schema_contract by entity": {
        "schema_contract": {"columns": "discard_row", "data_type": "freeze"}
    },
    "file_format": {"file_format": "parquet"},
    "references": {
        "references": [{"columns": ["v"], "referenced_table": "o", "referenced_columns": ["w"]}]
    },
    "strategy": merge("insert-only"),
    "deduplicated": merge("delete-insert", deduplicated=True),
    "source_filter": merge("delete-insert", source_filter="v < 2"),
    "destination_scope": merge("delete-insert", destination_scope="day = 'm'"),
    "upsert": merge("upsert"),
    "upsert source_filter": merge("upsert", source_filter="v < 2"),
    "skip_unchanged_rows": merge("upsert", skip_unchanged_rows=True),
    "row_version_column_name": merge(
        "upsert", skip_unchanged_rows=True, row_version_column_name="z"
    ),
    "scd2": merge("scd2"),
    "active_record_timestamp": merge("scd2", active_record_timestamp="9999-12-31T00:00:00Z"),
    "boundary_timestamp": merge("scd2", boundary_timestamp="2026-01-01T00:00:00Z"),
    "validity_column_names": merge("scd2", validity_column_names=["since", "until"]),
    "scd2 row version": merge("scd2", row_version_column_name="id"),
    "nullable": column("z", nullable=False),
    "hard_delete": column("gone", hard_delete=True),
    "dedup_sort": column("v", dedup_sort="asc"),
    "column primary_key": column("v", primary_key=True),
    "column merge_key": column("day", merge_key=True),
    "description": column("z", description="a letter"),
    "extensions": column("z", **{"x-owner": "ann"}),
    **{
        hint: column("z", **{hint: True})
        for hint in ("unique", "sort", "partition", "cluster", "incremental")
    },
    "nested_hints columns": nested(columns={"p": {"name": "p", "nullable": False}}),
    "nested_hints schema_contract": nested(**FROZEN),
    "nested_hints write_disposition": nested(write_disposition="merge"),
    "nested_hints references": nested(
        references=[{"columns": ["n"], "referenced_table": "o", "referenced_columns": ["w"]}]
    ),
}
NOT_TAKEN_OUT = {
    "data_type": "the column in the database has it",
    "precision": "the column in the database has it",
    "scale": "the column in the database has it",
    "timezone": "the column in the database has it",
    "table_format": "the table in the destination has it",
    "max_table_nesting": "a column of JSON stays one; see the test below",
    "nested_hints": "the settings in it stand here",
    "columns": "the settings in it stand here",
    "table_name": "another table",
    "name": "another column",
    "disposition": "the write disposition",
    "variant": "dlt makes it",
    "row_key": "dlt makes it",
    "parent_key": "dlt makes it",
    "root_key": "dlt makes it",
    "parent_table_name": "a nested table stays below its parent",
}


def test_every_setting_of_a_table_is_taken_out_below() -> None:
    models = (TableHints, Column, NestedHints, DeleteInsert, InsertOnly, Upsert, Scd2, Cdc)
    fields = {field for model in models for field in model.model_fields}
    tried = {word for name in SETTINGS for word in name.split()}
    assert fields - tried - NOT_TAKEN_OUT.keys() == set()


def test_a_setting_that_is_taken_out_is_as_if_it_had_never_been_there(
    api: ApiServer, settings: Settings
) -> None:
    """Both leave the same rows, and nothing of it in the schema that the destination stores.

    Every other resource is in each of the modes: settings are taken out before rows are read.
    """
    names = {f"r{number}": setting for number, setting in enumerate(SETTINGS)}
    modes = {"never_auto": "auto", "never_rows": "rows"}
    modes |= {name: ("auto", "rows")[number % 2] for number, name in enumerate(names)}
    given = {name: {**SETTINGS[setting], "mode": modes[name]} for name, setting in names.items()}
    never = {name: resource(name, mode=mode) for name, mode in modes.items()}
    first = {**never, **{name: resource(name, **hints) for name, hints in given.items()}}
    api.answers.update({f"/{name}": FIRST for name in modes})
    succeed(make_connector(api.url, *first.values()), settings)
    api.answers.update({f"/{name}": SECOND for name in modes})
    outcomes = succeed(make_connector(api.url, *never.values()), settings)
    expected = {mode: found(outcomes[f"never_{mode}"], settings) for mode in ("auto", "rows")}
    assert all(one["rows"] for one in expected.values())
    assert {
        setting: shown
        for name, setting in names.items()
        if (shown := found(outcomes[name], settings)) != expected[modes[name]]
    } == {}


def resource(name: str, **hints: Any) -> Hints:
    endpoint = {"path": name, "data_selector": "$", "paginator": "single_page"}
    return {"name": name, "endpoint": endpoint, **KEY, **hints}


def succeed(connector: Connector, settings: Settings) -> dict[str, Outcome]:
    outcomes = load(connector, settings)
    assert [outcome.failure for outcome in outcomes.values() if outcome.failure] == []
    return outcomes


def found(outcome: Outcome, settings: Settings) -> dict[str, Any]:
    """The rows of a resource, and the hints of its tables without what only a setting makes."""
    name = outcome.resource
    assert outcome.load is not None
    tables = {
        table: {**hints, "columns": dict(sorted(_hints(hints["columns"])))}
        for table, hints in outcome.load.pipeline.default_schema.tables.items()
        if table == name or table.startswith(f"{name}__")
    }
    return {
        "rows": query(settings, f"SELECT {COLUMNS} FROM shop.{name} ORDER BY ALL"),
        "nested": query(settings, f"SELECT n, p FROM shop.{name}__l ORDER BY ALL"),
        "hints": json.loads(json.dumps(tables).replace(f'"{name}', '"name')),
    }


def _hints(columns: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, hints in columns.items():
        if name not in ("since", "until", "_dlt_valid_from", "_dlt_valid_to"):
            yield name, {hint: value for hint, value in hints.items() if value not in (None, False)}


def run(api: ApiServer, settings: Settings, answer: Any, **hints: Any) -> Outcome:
    api.answers["/things"] = answer
    return succeed(make_connector(api.url, resource("things", **hints)), settings)["things"]


def test_a_setting_that_is_taken_out_is_told(api: ApiServer, settings: Settings) -> None:
    run(api, settings, FIRST, merge_key="day", **FROZEN)
    outcome = run(api, settings, FIRST)
    assert outcome.schema_changes == (
        "schema_contract of things is no longer in the file, and no longer in force",
        "merge_key of things.day is no longer in the file, and no longer in force",
    )
    outcome = run(api, settings, FIRST, **column("z", nullable=False))
    assert outcome.schema_changes == ()
    assert run(api, settings, FIRST).schema_changes == (
        "nullable of things.z is no longer in the file, and no longer in force",
    )


def test_a_setting_is_out_of_force_though_no_row_comes(api: ApiServer, settings: Settings) -> None:
    run(api, settings, FIRST, **column("gone", hard_delete=True))
    run(api, settings, [])
    run(api, settings, SECOND)
    assert query(settings, "SELECT id FROM shop.things ORDER BY 1") == [(1,), (2,), (3,)]


def test_a_setting_of_a_dependent_resource_is_taken_out(api: ApiServer, settings: Settings) -> None:
    api.answers["/things"] = [{"id": 1}]
    lines = {
        "name": "lines",
        "primary_key": "n",
        "endpoint": {"path": "things/{resources.things.id}/lines", "data_selector": "$"},
    }
    for hints, answer in (
        (column("gone", hard_delete=True, data_type="bool"), [{"n": 1, "gone": False}]),
        ({}, [{"n": 1, "gone": True}, {"n": 2, "gone": True}]),
    ):
        api.answers["/things/1/lines"] = answer
        connector = make_connector(api.url, {"name": "things", **KEY}, {**lines, **hints})
        assert load(connector, settings)["lines"].failure is None
    assert query(settings, "SELECT n, gone FROM shop.lines ORDER BY 1") == [(1, True), (2, True)]


def test_max_table_nesting_that_is_taken_out_leaves_columns_of_json(
    api: ApiServer, settings: Settings
) -> None:
    run(api, settings, [{"id": 1, "l": [1]}], max_table_nesting=0)
    outcome = run(api, settings, [{"id": 2, "l": [2], "k": [3]}])
    assert outcome.nested_tables == {"things__k": 1}
    assert query(settings, "SELECT id, l FROM shop.things ORDER BY 1") == [(1, "[1]"), (2, "[2]")]


@pytest.mark.parametrize("own_key_first", [True, False])
def test_a_nested_table_that_gets_or_loses_a_key_of_its_own_is_refused(
    api: ApiServer, settings: Settings, own_key_first: bool
) -> None:
    hints = [nested(primary_key="n"), {}]
    first, second = hints if own_key_first else reversed(hints)
    run(api, settings, FIRST, **first)
    connector = make_connector(api.url, resource("things", **second))
    failure = load(connector, settings)["things"].failure
    assert failure is not None
    assert "things__l" in failure.message
    assert "table_name" in failure.message
