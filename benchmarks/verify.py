"""`python -m benchmarks.verify DATABASE`: run the queries on standard input in a DuckDB file or Postgres.

This is a process of its own, so that the measuring process stays small.
"""

import json
import sys
from typing import Any

import duckdb

__all__ = ["whole_child_table", "whole_table"]


def whole_table(table: str, rows: int) -> dict[str, int]:
    """Return queries, with their results, that prove that a table has each row once."""
    return {
        f"SELECT count(*) FROM {table}": rows,
        f"SELECT count(DISTINCT id) FROM {table}": rows,
    }


def whole_child_table(table: str, parent: str, rows: int) -> dict[str, int]:
    """Return queries that prove the same for a nested table of dlt, and that each row has its parent."""
    return {
        f"SELECT count(*) FROM {table}": rows,
        f"SELECT count(*) FROM {table} AS c JOIN {parent} AS p ON c._dlt_parent_id = p._dlt_id": rows,
    }


def _connect(database: str) -> Any:
    if not database.startswith("postgresql:"):
        return duckdb.connect(database, read_only=True)
    import psycopg

    return psycopg.connect(database, autocommit=True)


def main() -> None:
    """Print the results as JSON: per query, a number or the text of an error."""
    questions: list[str] = json.load(sys.stdin)
    answers: dict[str, int | str] = {}
    with _connect(sys.argv[1]) as connection:
        for question in questions:
            try:
                [[answers[question]]] = connection.execute(question).fetchall()
            except Exception as error:  # noqa: BLE001 - it is shown as the answer, whichever database has it
                answers[question] = str(error)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
