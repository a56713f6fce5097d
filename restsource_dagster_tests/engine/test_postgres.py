"""Loads into a real Postgres: exact values by COPY, and readers that never wait for a load."""

import threading
from pathlib import Path
from typing import Any, cast

import dlt
import psycopg
import pytest
from dlt.sources.rest_api import rest_api_source

from restsource_dagster.engine.destination.dlt_config import configure_dlt
from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.destinations import url_of
from restsource_dagster_tests.making import load, make_connector
from restsource_dagster_tests.servers.api import ApiServer

TEXTS = [
    "",
    " ",
    '"',
    "'",
    "\\",
    "\\N",
    "\\.",
    "NULL",
    "a,b",
    "a\nb",
    "a\r\nb",
    "\t",
    "é😀",
    "{}",
    "%s",
]
NUMBERS = [0.1, 1e300, 5e-324, 1 / 3, 2.0**53]
TIMES = ["2026-01-01T00:00:00Z", "2026-06-30T23:59:59.123456+02:00", "0001-01-01T00:00:00Z"]
JSONS: list[Any] = [{}, {"a": [1, None, 2]}, {"a b": '"'}, {"n": 1234567890123456789}]
PLAIN = {"name": "plain", "primary_key": "id"}
DECLARED = {
    "name": "declared",
    "write_disposition": "append",
    "columns": {
        "amount": {"data_type": "decimal", "precision": 20, "scale": 4},
        "exact": {"data_type": "decimal"},
        "wide": {"data_type": "wei"},
        "day": {"data_type": "date"},
        "moment": {"data_type": "time"},
        "bytes": {"data_type": "binary"},
        "json": {"data_type": "json"},
        "naive": {"data_type": "timestamp", "timezone": False},
        "short": {"data_type": "bigint", "precision": 16},
        "code": {"data_type": "text", "precision": 10},
    },
}
DECLARED_ROWS = [
    {
        "id": 1,
        "amount": "12345.6789",
        "exact": "0.000000001",
        "wide": str(2**200),
        "day": "2026-02-28",
        "moment": "23:59:59.5",
        "bytes": "AAH/",
        "json": {"k": ["v"]},
        "naive": "2026-01-01T01:02:03",
        "short": 32767,
        "code": "a\\b",
    },
    {"id": 2, "code": "", "json": [], "bytes": ""},
    {"id": 3, "amount": -0.5, "json": None, "short": -1},
]


def plain_rows() -> list[dict[str, Any]]:
    longest = max(len(TEXTS), len(NUMBERS), len(TIMES), len(JSONS))
    return [
        {
            "id": number,
            "text": TEXTS[number % len(TEXTS)] if number % 4 else None,
            "number": NUMBERS[number % len(NUMBERS)],
            "whole": (-1) ** number * (2**63 - 1 - number),
            "flag": number % 2 == 0,
            "at": TIMES[number % len(TIMES)],
            "place": JSONS[number % len(JSONS)],
            "lines": [
                {"n": n, "text": TEXTS[(number + n) % len(TEXTS)]} for n in range(number % 3)
            ],
        }
        for number in range(2 * longest)
    ]


def load_by_inserts(connector: Any, url: str, folder: Path) -> None:
    """Load with stock dlt and its own format for Postgres: SQL with all values."""
    configure_dlt()
    pipeline = dlt.pipeline(
        "stock",
        pipelines_dir=str(folder),
        destination=dlt.destinations.postgres(url),
        dataset_name="stock",
    )
    source = rest_api_source(cast("Any", rest_api_config(connector)), name="shop", section="shop")
    pipeline.run(source, loader_file_format="insert_values")


def contents(url: str, schema: str) -> dict[str, Any]:
    """The columns with their types and the rows, as texts, of each table with rows of the API."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, udt_name, numeric_precision, numeric_scale, "
            "character_maximum_length FROM information_schema.columns WHERE table_schema = %s "
            "AND NOT starts_with(table_name, '_') AND NOT starts_with(column_name, '_dlt') "
            "ORDER BY 1, 2",
            [schema],
        ).fetchall()
        found: dict[str, Any] = {}
        for table in sorted({table for table, *_ in columns}):
            own = [column for column in columns if column[0] == table]
            names = ", ".join(f'"{name}"::text' for _, name, *_ in own)
            rows = connection.execute(f'SELECT {names} FROM "{schema}"."{table}"').fetchall()
            found[table] = [[column[1:] for column in own], sorted(rows, key=repr)]
        return found


@pytest.mark.parametrize("destination", ["postgres"], indirect=True)
def test_values_by_copy_are_those_that_inserts_store(
    api: ApiServer, settings: Settings, tmp_path: Path
) -> None:
    _, url = url_of(settings.data_dir)
    api.answers |= {"/plain": plain_rows(), "/declared": DECLARED_ROWS}
    for mode in ("auto", "rows"):
        connector = make_connector(
            api.url, *({**one, "mode": mode} for one in (PLAIN, DECLARED)), name=mode
        )
        outcomes = load(connector, settings)
        assert [outcome.failure for outcome in outcomes.values()] == [None, None]
        assert outcomes["plain"].rows_loaded == outcomes["plain"].row_count == len(plain_rows())
        assert outcomes["plain"].write_mode.startswith("columns" if mode == "auto" else "rows")
    load_by_inserts(connector, url, tmp_path / "stock")
    stock = contents(url, "stock")
    assert set(stock) >= {"plain", "declared"}
    for mode in ("auto", "rows"):
        ours = contents(url, mode)
        for table, expected in stock.items():
            assert ours[table] == expected, (mode, table)


@pytest.mark.parametrize("destination", ["postgres"], indirect=True)
def test_a_reader_of_a_replaced_table_sees_one_load_and_never_waits(
    api: ApiServer, settings: Settings
) -> None:
    """It reads the nested table first, which would deadlock with a TRUNCATE of the root table."""

    _, url = url_of(settings.data_dir)

    def answer(version: int) -> None:
        api.answers["/orders"] = [
            {"id": number, "v": version, "lines": [{"v": version}] * 2} for number in range(300)
        ]

    connector = make_connector(api.url, {"name": "orders", "max_table_nesting": 1})
    answer(0)
    load(connector, settings)
    loading, seen = threading.Event(), set()

    def read() -> None:
        with psycopg.connect(url) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SET lock_timeout = '5s'")
            reader.commit()
            while not loading.is_set():
                lines = reader.execute("SELECT v, count(*) FROM shop.orders__lines GROUP BY 1")
                found = tuple(lines.fetchall())
                orders = reader.execute("SELECT v, count(*) FROM shop.orders GROUP BY 1")
                seen.add((found, tuple(orders.fetchall())))
                reader.commit()

    thread = threading.Thread(target=read)
    thread.start()
    for version in (1, 2, 3):
        answer(version)
        assert load(connector, settings)["orders"].failure is None
    loading.set()
    thread.join()
    assert len(seen) > 1
    assert seen <= {(((version, 600),), ((version, 300),)) for version in range(4)}


@pytest.mark.parametrize("destination", ["postgres"], indirect=True)
@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_a_text_that_postgres_can_not_store_is_refused_with_its_table_and_line(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    """dlt's inserts leave the character NUL out of texts without a word."""
    connector = make_connector(
        api.url, {"name": "notes", "write_disposition": "append", "mode": mode}
    )
    api.answers["/notes"] = [{"id": 1, "text": "a"}]
    assert load(connector, settings)["notes"].failure is None
    api.answers["/notes"] = [{"id": 2, "text": "b"}, {"id": 3, "text": "c\0d"}]
    failure = load(connector, settings)["notes"].failure
    assert failure is not None
    assert failure.resource == "notes"
    assert "0x00" in failure.message
    assert "COPY notes, line 2" in failure.message
    api.answers["/notes"] = [{"id": 2, "text": "b"}]
    assert load(connector, settings)["notes"].row_count == 2
