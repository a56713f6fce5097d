"""Rows written as columns give the same tables as rows loaded one by one."""

from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.engine.columnar.cases import CASES
from restsource_dagster_tests.engine.columnar.comparing import (
    COLUMNS,
    PLAIN,
    THING,
    assert_written,
    compare,
    compare_resources,
    outcome_of,
)
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import ApiServer

MERGE = {"write_disposition": "merge", "primary_key": "id"}
HINTS: list[tuple[dict[str, Any], list[str]]] = [
    (MERGE, [COLUMNS, COLUMNS]),
    ({"write_disposition": "replace"}, [COLUMNS, COLUMNS]),
    (
        {**MERGE, "write_disposition": {"disposition": "merge", "strategy": "upsert"}},
        ["rows: its rows are identified by a hash of their content"] * 2,
    ),
    (
        {"columns": {"x": {"data_type": "decimal"}, "items": {"data_type": "json"}}},
        ["rows: x is decimal and got float"] * 2,
    ),
    (
        {"columns": {"at": {"data_type": "text"}, "id": {"data_type": "double"}}},
        [COLUMNS, COLUMNS],
    ),
    (
        {"schema_contract": {"columns": "discard_value"}},
        [COLUMNS, "rows: things has no column new"],
    ),
    ({"parallelized": True}, [COLUMNS, COLUMNS]),
]
RUNS = [
    [[PLAIN, {**PLAIN, "id": 2}]],
    [[{**PLAIN, "id": 2, "new": 1}, {**PLAIN, "x": 7.25}]],
]


def test_columns_and_rows_give_the_same_tables(api: ApiServer, tmp_path: Path) -> None:
    modes = compare_resources(
        api, tmp_path, {name: (runs, {}) for name, (runs, _) in CASES.items()}
    )
    for name, (_, expected) in CASES.items():
        assert_written(modes[name], expected)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_lists_below_max_table_nesting_stay_json(
    api: ApiServer, tmp_path: Path, levels: int
) -> None:
    record = {"id": 1, "o": {"p": {"q": [1]}}, "a": [{"b": [{"c": 1}], "d": {"e": 2}}], "n": [1]}
    assert_written(compare(api, tmp_path, [[[record]]], max_table_nesting=levels), [COLUMNS])


def test_hints_work_for_columns_as_for_rows(api: ApiServer, tmp_path: Path) -> None:
    modes = compare_resources(api, tmp_path, {str(hints): (RUNS, hints) for hints, _ in HINTS})
    for hints, expected in HINTS:
        assert_written(modes[str(hints)], expected)


def test_another_name_of_the_table_works_for_columns_as_for_rows(
    api: ApiServer, tmp_path: Path
) -> None:
    assert_written(compare(api, tmp_path, RUNS, table_name="other"), [COLUMNS, COLUMNS])


def test_columns_and_rows_are_refused_by_the_same_contracts(api: ApiServer, tmp_path: Path) -> None:
    frozen = {"schema_contract": {"tables": "freeze"}}
    assert compare(api, tmp_path, RUNS, **frozen) == [""]


def test_cursors_work_for_columns_as_for_rows(api: ApiServer, tmp_path: Path) -> None:
    rows = [{**PLAIN, "id": at, "at": f"2026-01-0{at}T00:00:00Z"} for at in range(1, 6)]
    cursor = {"cursor_path": "at", "initial_value": "2026-01-02T00:00:00Z"}
    endpoint = {**THING["endpoint"], "incremental": cursor}
    runs = [[rows[:3], rows[2:4]], [rows[2:]]]
    for name, hints in {"append": {}, "merge": MERGE}.items():
        modes = compare(api, tmp_path / name, runs, endpoint=endpoint, **hints)
        assert_written(modes, [COLUMNS, COLUMNS])


def test_an_outcome_says_how_rows_were_written(api: ApiServer, tmp_path: Path) -> None:
    odd, next_one = {**PLAIN, "x": "many"}, {**PLAIN, "id": 2}
    modes = [
        outcome_of(api, tmp_path / str(at), pages).write_mode
        for at, pages in enumerate(
            [[[PLAIN], [next_one]], [[odd, PLAIN]], [[PLAIN, next_one], [odd]]]
        )
    ]
    assert modes[0] == "columns"
    assert modes[1].startswith("rows: x is ")
    assert modes[2] == "columns for the first 2 rows, then rows: x is double and got str"


def test_mode_rows_loads_rows_one_by_one(api: ApiServer, tmp_path: Path) -> None:
    assert outcome_of(api, tmp_path, [[PLAIN]], mode="rows").write_mode == "rows"


def test_mode_columnar_keeps_nested_values_as_json(api: ApiServer, tmp_path: Path) -> None:
    outcome = outcome_of(api, tmp_path, [[PLAIN]], mode="columnar")
    assert (outcome.write_mode, outcome.nested_tables) == ("columns", {})
    assert query(make_settings(tmp_path), "SELECT items FROM shop.things") == [
        ('[{"sku":"a"},{"sku":"b"}]',)
    ]
