"""A parent's rows are written as columns and also reach its dependents."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster_tests.engine.columnar.comparing import COLUMNS, PLAIN, THING, serve
from restsource_dagster_tests.engine.columnar.tables import Dump, dump
from restsource_dagster_tests.making import load, make_connector, make_settings
from restsource_dagster_tests.servers.api import ApiServer

IDS = range(1, 6)
THINGS = [{**PLAIN, "id": at, "name": f"thing {at}"} for at in IDS]
PAGES = [THINGS[:2], THINGS[2:4], THINGS[4:]]
NOTES: dict[str, Any] = {
    "name": "notes",
    "write_disposition": "append",
    "include_from_parent": ["id", "name"],
    "endpoint": {"path": "things/{resources.things.id}/notes", "data_selector": "data"},
}
MARKS: dict[str, Any] = {
    "name": "marks",
    "write_disposition": "append",
    "endpoint": {"path": "notes/{resources.notes.note}/marks", "data_selector": "data"},
}


@pytest.fixture
def family(api: ApiServer) -> ApiServer:
    """Things with two notes each, which have a mark each."""
    serve(api, PAGES)
    for at in IDS:
        numbers = [at * 10 + 1, at * 10 + 2]
        notes = [{"note": number, "words": ["a", "b"]} for number in numbers]
        api.answers[f"/things/{at}/notes"] = {"data": notes}
        for number in numbers:
            api.answers[f"/notes/{number}/marks"] = {"data": [{"stars": number % 5}]}
    return api


def loaded(
    api: ApiServer, folder: Path, mode: str, **chosen: Any
) -> tuple[dict[str, Outcome], Dump, Counter[str]]:
    """Return the outcomes, the tables, and the number of requests by URL."""
    before = len(api.seen)
    resources = [{**one, "mode": mode} for one in (THING, NOTES, MARKS)]
    settings = make_settings(folder / mode)
    outcomes = load(make_connector(api.url, *resources), settings, **chosen)
    assert [outcome.failure for outcome in outcomes.values()] == [None] * len(outcomes)
    return outcomes, dump(settings), Counter(f"{it.path} {it.query}" for it in api.seen[before:])


def test_a_parent_and_its_dependents_are_written_as_columns(
    family: ApiServer, tmp_path: Path
) -> None:
    rows, rows_tables, rows_asked = loaded(family, tmp_path, "rows")
    columns, columns_tables, columns_asked = loaded(family, tmp_path, "auto")
    assert {name: outcome.write_mode for name, outcome in columns.items()} == {
        "things": COLUMNS,
        "notes": COLUMNS,
        "marks": COLUMNS,
    }
    assert columns_tables == rows_tables
    assert columns_asked == rows_asked
    assert set(columns_asked.values()) == {1}
    counts = {name: outcome.rows_loaded for name, outcome in columns.items()}
    assert counts == {"things": 5, "notes": 10, "marks": 10}
    assert counts == {name: outcome.rows_loaded for name, outcome in rows.items()}


def test_dependents_get_the_rows_that_are_not_written_as_columns(
    family: ApiServer, tmp_path: Path
) -> None:
    odd = [*PAGES[:1], [{**PAGES[1][0], "x": "many"}, PAGES[1][1]], *PAGES[2:]]
    serve(family, odd)
    _, rows_tables, rows_asked = loaded(family, tmp_path, "rows")
    columns, columns_tables, columns_asked = loaded(family, tmp_path, "auto")
    mode = columns["things"].write_mode
    assert re.match("columns for the first 2 rows, then rows: x is double and got", mode)
    assert [columns[name].write_mode for name in ("notes", "marks")] == [COLUMNS, COLUMNS]
    assert (columns_tables, columns_asked) == (rows_tables, rows_asked)


def test_a_parent_that_is_not_selected_is_read_and_not_written(
    family: ApiServer, tmp_path: Path
) -> None:
    _, rows_tables, rows_asked = loaded(family, tmp_path, "rows", resources=["marks"])
    columns, columns_tables, columns_asked = loaded(family, tmp_path, "auto", resources=["marks"])
    assert {name: outcome.write_mode for name, outcome in columns.items()} == {"marks": COLUMNS}
    assert list(columns_tables) == ["marks"]
    assert (columns_tables, columns_asked) == (rows_tables, rows_asked)


def test_the_pages_of_a_parent_have_no_table_of_their_own(
    family: ApiServer, tmp_path: Path
) -> None:
    outcomes, tables, _ = loaded(family, tmp_path, "auto")
    assert set(outcomes) == {"things", "notes", "marks"}
    assert set(tables) == {"things", "things__items", "notes", "notes__words", "marks"}
