"""A small course of loads into each destination whose driver is here; docs/destinations.md has what it finds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dlt
import pytest

from restsource_dagster.engine.destination.warehouse import OtherDestination
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "destinations.md"
Read = Callable[[str], list[tuple[Any, ...]]]
"""Reads the ids and values of a table of the connector."""
FAMILIES: Mapping[str, dict[str, Any]] = {
    "append": {
        "endpoint": {
            "path": "append",
            "params": {"since": "{incremental.start_value}"},
            "incremental": {"cursor_path": "v", "initial_value": 0},
        },
    },
    "merge": {"primary_key": "id"},
    "replace": {},
}
"""The course: one family for each write disposition, all with a nested list."""


def documented(name: str) -> dict[str, str]:
    """What the table of the document says of a destination, by promise."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("|")
    ]
    header = rows[0]
    return {row[0]: row[header.index(name)] for row in rows[2:] if len(row) == len(header)}


def read_sql(name: str, folder: Path) -> Read:
    destination = OtherDestination(name).destination()
    reader = dlt.pipeline("reader", str(folder), destination=destination, dataset_name="shop")

    def read(table: str) -> list[tuple[Any, ...]]:
        with reader.sql_client() as client:
            place = client.make_qualified_table_name(table)
            return [tuple(row) for row in client.execute_sql(f"SELECT id, v FROM {place}") or ()]

    return read


def read_jsonl(dataset: Path) -> Read:
    def read(table: str) -> list[tuple[Any, ...]]:
        lines = [line for file in (dataset / table).glob("*.jsonl") for line in file.open()]
        return [(row["id"], row["v"]) for row in map(json.loads, lines)]

    return read


def read_delta(dataset: Path) -> Read:
    def read(table: str) -> list[tuple[Any, ...]]:
        from deltalake import DeltaTable

        rows = DeltaTable(str(dataset / table)).to_pyarrow_table().to_pylist()
        return [(row["id"], row["v"]) for row in rows]

    return read


@pytest.fixture(params=["DuckDB", "Postgres", "SQLite", "files", "Delta"])
def place(
    request: pytest.FixtureRequest,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[str, Settings, Read]:
    """A column of the document, the settings that load there, and what reads a table."""
    name, bucket = request.param, tmp_path / "bucket"
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", bucket.as_uri())
    monkeypatch.setenv("DESTINATION__SQLITE__DESTINATION_TYPE", "sqlalchemy")
    monkeypatch.setenv("DESTINATION__SQLITE__CREDENTIALS", f"sqlite:///{tmp_path / 'one.db'}")
    used = {"files": "filesystem", "Delta": "filesystem"}.get(name, name.lower())
    made = settings.model_copy(update={"destination": used})
    if name == "Postgres":
        url = request.getfixturevalue("postgres_url")
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", url)
    if name == "DuckDB":
        return name, made, lambda table: query(made, f"SELECT id, v FROM shop.{table}")
    if used == "filesystem":
        read = read_jsonl if name == "files" else read_delta
        return name, made, read(bucket / "shop")
    return name, made, read_sql(used, tmp_path / "reader")


def test_the_course_finds_what_the_document_says(
    place: tuple[str, Settings, Read], api: ApiServer, tmp_path: Path
) -> None:
    """Rows come, change, and get a new column; what is refused is refused before a row is written."""
    name, settings, read = place
    more = {"table_format": "delta"} if name == "Delta" else {}
    connector = make_connector(
        api.url, *({"name": each, **family, **more} for each, family in FAMILIES.items())
    )
    found: dict[str, str] = {}
    for rows in ([(1, 1), (2, 2)], [(2, 3), (3, 4)]):
        for family in FAMILIES:
            api.answers[f"/{family}"] = [
                {"id": i, "v": v, "lines": [{"id": i, "v": v}], **({"new": v} if v > 2 else {})}
                for i, v in rows
            ]
        for family, outcome in load(connector, settings).items():
            refused = outcome.failure is not None and "can't" in outcome.failure.message
            assert outcome.failure is None or refused, outcome.failure
            found[family] = "refused" if refused else "holds"
    expected = {
        "append": [(1, 1), (2, 2), (2, 3), (3, 4)],
        "merge": [(1, 1), (2, 3), (3, 4)],
        "replace": [(2, 3), (3, 4)],
    }
    for family, verdict in found.items():
        if verdict == "holds":
            for table in (family, f"{family}__lines"):
                assert sorted(read(table)) == expected[family], table
        else:
            assert not list((tmp_path / "bucket").rglob(f"{family}/*"))
    said = documented(name)
    assert {family: said[f"`{family}`"].split(" ")[0] for family in FAMILIES} == found
