"""`python -m benchmarks.verify DATABASE`: ask a DuckDB file the questions on standard input.

A process of its own, so that the one that measures stays small.
"""

import json
import sys

import duckdb

__all__ = ["whole_child_table", "whole_table"]


def whole_table(table: str, rows: int) -> dict[str, int]:
    """Questions, with their right answers, that show that a table has each of the rows once."""
    return {
        f"SELECT count(*) FROM {table}": rows,
        f"SELECT count(DISTINCT id) FROM {table}": rows,
    }


def whole_child_table(table: str, parent: str, rows: int) -> dict[str, int]:
    """The same for a nested table of dlt's kind, whose rows must find their parents."""
    return {
        f"SELECT count(*) FROM {table}": rows,
        f"SELECT count(*) FROM {table} AS c JOIN {parent} AS p ON c._dlt_parent_id = p._dlt_id": rows,
    }


def main() -> None:
    """Print the answers as JSON: by question, a number or the text of an error."""
    questions: list[str] = json.load(sys.stdin)
    answers: dict[str, int | str] = {}
    with duckdb.connect(sys.argv[1], read_only=True) as connection:
        for question in questions:
            try:
                [[answers[question]]] = connection.execute(question).fetchall()
            except duckdb.Error as error:
                answers[question] = str(error)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
