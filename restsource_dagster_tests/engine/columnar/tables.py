"""Read the warehouse in a form that two ways of loading can be compared by."""

from collections import Counter
from typing import Any

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import query

__all__ = ["Dump", "dump"]

Dump = dict[str, tuple[dict[str, str], Counter[str]]]
"""By table: its columns with their types, and its rows with their parents' rows."""

_SCHEMA = "shop"


def dump(settings: Settings) -> Dump:
    """Return all tables of the connector. Row ids are replaced by the rows that they point to."""
    found = query(
        settings,
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        f"WHERE table_schema = '{_SCHEMA}' AND NOT starts_with(table_name, '_dlt') "
        "AND NOT starts_with(table_name, '_restsource')",
    )
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in found:
        columns.setdefault(table, {})[column] = kind
    rows = {table: _rows(settings, table) for table in columns}
    places = {row["_dlt_id"]: row for table in rows.values() for row in table}
    return {
        table: (columns[table], Counter(_whole(row, places) for row in rows[table]))
        for table in columns
    }


def _rows(settings: Settings, table: str) -> list[dict[str, Any]]:
    names = [
        name
        for (name,) in query(
            settings,
            "SELECT column_name FROM information_schema.columns "
            f"WHERE table_schema = '{_SCHEMA}' AND table_name = '{table}'",
        )
    ]
    listed = ", ".join(f'"{name}"' for name in names)
    values = query(settings, f'SELECT {listed} FROM {_SCHEMA}."{table}"')
    rows = [dict(zip(names, row, strict=True)) for row in values]
    ids = [row["_dlt_id"] for row in rows]
    assert len(set(ids)) == len(ids), f"row ids of {table} are not unique"
    return rows


def _whole(row: dict[str, Any], places: dict[str, dict[str, Any]]) -> str:
    """Return a row with its parent rows as text, and check its root id."""
    own = {name: value for name, value in sorted(row.items()) if not name.startswith("_dlt_")}
    parent = row.get("_dlt_parent_id")
    if parent is None:
        return repr(own)
    top = row
    while "_dlt_parent_id" in top:
        top = places[top["_dlt_parent_id"]]
    assert row.get("_dlt_root_id", top["_dlt_id"]) == top["_dlt_id"]
    return f"{own!r} at {row['_dlt_list_idx']} of {_whole(places[parent], places)}"
