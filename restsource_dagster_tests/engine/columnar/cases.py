"""Pages that can or can't be written as columns, and the write mode of their runs."""

from restsource_dagster_tests.engine.columnar.comparing import COLUMNS, PLAIN, Pages

__all__ = ["CASES"]

_AFTER_ONE = "columns for the first 1 rows, then rows: "

CASES: dict[str, tuple[list[Pages], list[str]]] = {
    "nothing special": ([[[PLAIN, {**PLAIN, "id": 2}], [{**PLAIN, "id": 3}]]], [COLUMNS]),
    "an integer in a column of floats": ([[[PLAIN, {**PLAIN, "x": 2}]]], [COLUMNS]),
    "a float in a column of integers": (
        [[[PLAIN, {**PLAIN, "id": 2.5}], [PLAIN]]],
        ["rows: id is bigint and got float"],
    ),
    "a text in a column of numbers": (
        [[[PLAIN], [{**PLAIN, "x": "many"}], [{**PLAIN, "x": "7"}]]],
        [_AFTER_ONE + "x is double and got str"],
    ),
    "a text in a column of times": (
        [[[PLAIN], [{**PLAIN, "at": "yesterday"}]]],
        [_AFTER_ONE + "at is timestamp"],
    ),
    "a time finer than microseconds": (
        [[[PLAIN, {**PLAIN, "at": "2026-01-01T00:00:00.1234567Z"}]]],
        ["rows: at is timestamp"],
    ),
    "times with and without a zone": (
        [[[PLAIN, {**PLAIN, "at": "2026-01-01 10:00"}]]],
        ["rows: at is timestamp"],
    ),
    "an object in a column of numbers": ([[[PLAIN], [{**PLAIN, "x": {"a": 1}}]]], [COLUMNS]),
    "a column that comes late": (
        [[[PLAIN], [{**PLAIN, "new": True}], [PLAIN]], [[PLAIN]]],
        [COLUMNS, COLUMNS],
    ),
    "a table that comes late": ([[[{"id": 1}], [PLAIN]], [[{"id": 2}]]], [COLUMNS, COLUMNS]),
    "a column that is null at first": ([[[{"id": 1, "a": None}], [{"id": 2, "a": 5}]]], [COLUMNS]),
    "a column that is always null": ([[[{"id": 1, "a": None, "b": {"c": None}}]]], [COLUMNS]),
    "a number beyond 64 bits": (
        [[[PLAIN], [{**PLAIN, "big": 2**70}]]],
        [_AFTER_ONE + "big is decimal and got Decimal"],
    ),
    "a number that 64 bits hold only without a sign": (
        [
            [[PLAIN], [{**PLAIN, "id": 2, "big": 2**63}]],
            [[{**PLAIN, "id": 3}], [{**PLAIN, "id": 4, "items": [{"sku": "c", "n": 2**64 - 1}]}]],
        ],
        [_AFTER_ONE + "big is decimal", _AFTER_ONE + "n is decimal"],
    ),
    "lists of numbers, of lists and of both": (
        [
            [[{"id": 1, "a": [1, 2], "b": ["x", None]}], [{"id": 2, "a": [[1], [2]]}]],
            [[{"id": 3, "a": [3], "b": [{"c": 1}, 2]}]],
        ],
        [_AFTER_ONE + "the items of things__a are", "rows: the items of things__b are"],
    ),
    "tables below tables": (
        [[[{"id": 1, "a": [{"b": [{"c": [1, 2]}, {"c": []}]}, {"b": []}]}, {"id": 2, "a": []}]]],
        [COLUMNS],
    ),
    "two fields that get one column name": (
        [[[PLAIN], [{"id": 1, "myName": 1, "my_name": 1}]]],
        [_AFTER_ONE + "two fields become my_name"],
    ),
    "other names for columns": (
        [[[{"Order ID": 1, "größe": 2, "a.b": 3, "_x_": 4, "1st": 5}]]],
        [COLUMNS],
    ),
    "an object without fields": ([[[{"id": 1, "a": {}}, {"id": 2, "a": {"b": 1}}]]], [COLUMNS]),
    "a first value of another type than the rest": (
        [[[{"id": 1, "a": None}, {"a": False, "b": "x"}, {"a": "y", "b": 2, "c": [{"d": 1}]}]]],
        ["rows: a is bool and got bool, str"],
    ),
    "records of no fields": ([[[{}, PLAIN, {}]]], [COLUMNS]),
    "records that are no objects": ([[["a", "b"], ["c"]]], ["rows: a record is no object"]),
}
"""By name: the pages of each run, and how the write mode of each run begins."""
