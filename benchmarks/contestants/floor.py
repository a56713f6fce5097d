"""Hand-written floors: the minimum that loads this API's pages into exactly these tables.

Such a script is hard to maintain and survives no failure. It shows how much of the cost comes from
the data itself. The parameter `parse` sets how pages become rows, `batch` how many at a time:

- `pyarrow`: pyarrow.json with given types parses; DuckDB inserts from the Arrow table;
- `duckdb`: DuckDB casts the text of the pages to its own types;
- `orjson`: orjson creates dicts, pyarrow a struct column of them;
- `files`: pages become files, and at the end DuckDB's `read_json` reads all of them.

`nested` is `json` (an object and a list as JSON columns) or `tables` (the object's fields as columns,
the list as a table of its own).
"""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.json as arrow_json
import requests

from benchmarks.contestants.clock import Clock, read_orders
from benchmarks.contestants.floor_tables import (
    CUSTOMER,
    LINE,
    PLAIN,
    create_tables,
    insert,
    struct_type,
)

_ARROW = {
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "TIMESTAMPTZ": pa.timestamp("us"),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}
_TEXT_TIMES = {**_ARROW, "TIMESTAMPTZ": pa.string()}


def _pages(url: str) -> Iterator[bytes]:
    session = requests.Session()
    number = pages = 1
    while number <= pages:
        body = session.get(url, params={"page": number}, timeout=60).content
        if number == 1:
            pages = orjson.loads(body)["total_pages"]
        yield body
        number += 1


def _batches(pages: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while batch := list(islice(pages, size)):
        yield batch


def _arrow_type(kinds: dict[str, Any], *, nested: bool) -> pa.StructType:
    def struct(columns: dict[str, str]) -> pa.StructType:
        return pa.struct([(name, kinds[kind]) for name, kind in columns.items()])

    customer, lines = (
        (struct(CUSTOMER), pa.list_(struct(LINE))) if nested else (pa.string(), pa.string())
    )
    return pa.struct([*struct(PLAIN), pa.field("customer", customer), pa.field("lines", lines)])


def _by_pyarrow(batch: list[bytes], *, json: bool) -> tuple[pa.Table, dict[str, str]]:
    schema = pa.schema([("data", pa.list_(_arrow_type(_ARROW, nested=True)))])
    table = arrow_json.read_json(
        io.BytesIO(b"\n".join(batch)),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=1 << 30),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema),
    )
    rows = pa.concat_arrays([chunk.flatten() for chunk in table["data"].chunks])
    texts = {"customer": "to_json(r.customer)", "lines": "to_json(r.lines)"} if json else {}
    return pa.table({"r": rows}), texts


def _by_orjson(batch: list[bytes], *, json: bool) -> tuple[pa.Table, dict[str, str]]:
    rows = [row for body in batch for row in orjson.loads(body)["data"]]
    for row in rows if json else ():
        row["customer"] = orjson.dumps(row["customer"]).decode()
        row["lines"] = orjson.dumps(row["lines"]).decode()
    return pa.table({"r": pa.array(rows, _arrow_type(_TEXT_TIMES, nested=not json))}), {}


def _load_batch(
    database: duckdb.DuckDBPyConnection, batch: list[bytes], parse: str, *, json: bool
) -> None:
    if parse == "duckdb":
        pages = pa.table({"body": [body.decode() for body in batch]})
        rows = f"SELECT unnest((body->'data')::{struct_type(json=json)}[]) AS r FROM pages"
        database.register("pages", pages)
        database.execute(f"CREATE OR REPLACE TEMP TABLE parsed AS {rows}")
        texts: dict[str, str] = {}
    else:
        table, texts = {"pyarrow": _by_pyarrow, "orjson": _by_orjson}[parse](batch, json=json)
        database.register("parsed", table)
    for statement in insert("parsed", json=json, **texts):
        database.execute(statement)


def _load_files(database: duckdb.DuckDBPyConnection, folder: Path, *, json: bool) -> None:
    columns = f"{{data: '{struct_type(json=json)}[]'}}"
    rows = (
        f"SELECT unnest(data) AS r FROM read_json('{folder}/*.page', columns={columns}, "
        "format='unstructured', maximum_object_size=100000000)"
    )
    database.execute(f"CREATE TEMP TABLE parsed AS {rows}")
    for statement in insert("parsed", json=json):
        database.execute(statement)


def main() -> None:
    """Load the API once."""
    orders = read_orders()
    clock = Clock()
    json, folder = orders["nested"] == "json", Path(orders["folder"])
    database = duckdb.connect(orders["database"])
    database.execute("SET TimeZone = 'UTC'")
    for statement in create_tables(json=json):
        database.execute(statement)
    pages = _pages(f"{orders['base_url']}orders/page")
    if orders["parse"] == "files":
        for number, body in enumerate(pages):
            (folder / f"{number}.page").write_bytes(body)
        _load_files(database, folder, json=json)
    else:
        for batch in _batches(pages, orders["batch"]):
            _load_batch(database, batch, orders["parse"], json=json)
    database.close()
    clock.stop(orders)


if __name__ == "__main__":
    main()
