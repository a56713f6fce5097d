"""Tables: write dispositions and merge strategies, columns, contracts, nesting, formats."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from restsource_dagster_tests.agreement.rows import Result, Row, hint, page, refused

__all__ = ["ROWS"]

FIRST, AGAIN = (
    page({"id": 1, "n": 1}, {"id": 2, "n": 1}),
    page({"id": 2, "n": 2}, {"id": 3, "n": 2}),
)
APPENDED = [(1, 1), (2, 1), (2, 2), (3, 2)]
MERGED = [(1, 1), (2, 2), (3, 2)]
REPLACED = [(2, 2), (3, 2)]


def rows_of(result: Result) -> list[Any]:
    return result.table("id, n")


def loaded_twice(name: str, gives: Any, again: Any = AGAIN, see: Any = rows_of, **row: Any) -> Row:
    """Ids 1 and 2 are loaded, then 2 (changed) and 3."""
    about = {key: row.pop(key) for key in ("says", "fails", "endpoint") if key in row}
    return Row(name, answers=FIRST, again=again, gives=gives, see=see, resource=row, **about)


def disposition(name: str, gives: Any, again: Any = AGAIN, **options: Any) -> Row:
    given = {"disposition": "merge", **options}
    return loaded_twice(name, gives, again, primary_key="id", write_disposition=given)


def versions(result: Result) -> list[Any]:
    """The versions of scd2, and whether each is still valid."""
    return result.table("id, n, _dlt_valid_to is null")


def column(name: str, value: Any, see: Callable[[Result], Any], gives: Any, **hints: Any) -> Row:
    """A hint of the column `v`."""
    answers = page({"id": 1, "v": value})
    resource = {"columns": {"v": hints}, "write_disposition": "append"}
    return Row(f"column_{name}", {}, answers, gives, see, resource=resource)


def steps(name: str, step: Any, gives: Any, **hints: Any) -> Row:
    """What one processing step, or several, leave of two records."""
    given = {"processing_steps": step if isinstance(step, list) else [step], **hints}
    answers = page({"id": 1, "n": 2}, {"id": 2, "n": 3})
    return Row(f"steps_{name}", {}, answers, gives, rows_of, resource=given)


def sha(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def hmac_sha(text: bytes) -> str:
    return hmac.new(b"k", text, hashlib.sha256).hexdigest()


SHA_OF_2, SHA_OF_3, HMAC_OF_2, HMAC_OF_3 = sha(b"2"), sha(b"3"), hmac_sha(b"2"), hmac_sha(b"3")


def checked(name: str, gives: Any, **checks: Any) -> Row:
    """What the engine reads of a table for its checks: repeated keys, and columns with values."""
    hints = {"primary_key": "id", "write_disposition": "append", "checks": checks}
    return loaded_twice(name, gives, see=facts_of, **hints)


def facts_of(result: Result) -> Any:
    facts = result.outcome.facts
    return facts and (facts.key and facts.key.repeated, dict(facts.filled))


FLAGS = (
    "partition",
    "cluster",
    "unique",
    "sort",
    "primary_key",
    "merge_key",
    "row_key",
    "parent_key",
    "root_key",
    "variant",
    "hard_delete",
    "incremental",
)


def type_of(result: Result) -> Any:
    return result.table("typeof(v)")[0]


def changed(name: str, record: Any, gives: Any, **row: Any) -> Row:
    """A contract, and a record that doesn't keep to it in the second run."""
    return loaded_twice(f"contract_{name}", gives, page(record), lambda r: r.table(), **row)


NEW_COLUMN, NEW_TYPE = {"id": 3, "n": 1, "new": 1}, {"id": 3, "n": "text"}
NEW_TABLE = {"id": 3, "n": 1, "list": [{"a": 1}]}
NESTED = page({"id": 1, "list": [{"a": 1, "deep": [{"b": 1}]}]})


def nested(name: str, gives: Any, **row: Any) -> Row:
    """The tables that come of a list in a list."""

    def tables(result: Result) -> list[str]:
        return sorted(result.outcome.nested_tables)

    return Row(name, {}, NESTED, gives, tables, resource=row)


def table_hint(name: str, key: str, gives: Any, **hints: Any) -> Row:
    def of_table(result: Result) -> Any:
        assert result.outcome.load is not None, result.failure
        return result.outcome.load.pipeline.default_schema.get_table(name).get(key)

    return Row(name, {}, page(1), gives, of_table, resource=hints)


TYPES = (
    ("text", "1", "VARCHAR"),
    ("double", 1, "DOUBLE"),
    ("bool", True, "BOOLEAN"),
    ("timestamp", "2024-01-01T00:00:00Z", "TIMESTAMP WITH TIME ZONE"),
    ("bigint", 1, "BIGINT"),
    ("binary", "YQ==", "BLOB"),
    ("json", {"a": 1}, "JSON"),
    ("decimal", 1, "DECIMAL(38,9)"),
    ("wei", 1, "DECIMAL(38,0)"),
    ("date", "2024-01-01", "DATE"),
    ("time", "10:03:00", "TIME"),
)
HINTS = {
    **dict.fromkeys(("partition", "cluster", "unique", "sort"), True),
    **dict.fromkeys(("row_key", "parent_key", "root_key", "variant", "incremental"), True),
    "description": "of all",
}
REFERENCE = {"columns": ["id"], "referenced_table": "skip", "referenced_columns": ["id"]}
REFERENCES = [
    {**REFERENCE, "label": "of", "table": "references"},
    *(
        {**REFERENCE, "cardinality": f"{one}_to_{other}"}
        for one, other in (
            *(("zero", each) for each in ("one", "many")),
            *(("one", each) for each in ("zero", "one", "many")),
            *(("many", each) for each in ("zero", "one", "many")),
        )
    ),
]
ROWS = (
    loaded_twice("append", APPENDED, write_disposition="append"),
    loaded_twice("merge", MERGED, write_disposition="merge", primary_key="id"),
    loaded_twice("replace", REPLACED, write_disposition="replace"),
    loaded_twice("by_key", MERGED, primary_key="id"),
    loaded_twice("by_keys", APPENDED, primary_key=["id", "n"]),
    Row(
        "by_key_in_an_object",
        {"data_selector": "items"},
        page({"user": {"id": 1}, "id": 7}),
        again=page({"user": {"id": 1}, "id": 8}),
        gives=[8],
        resource={"primary_key": "user.id"},
    ),
    checked("checks", ((((2,), 2),), {"id": 2, "n": 2}), primary_key={}),
    checked("checks_of_columns", (None, {"id": 2, "n": 2})),
    checked("checks_off", None, schema_drift=False),
    loaded_twice("asset_options", MERGED, primary_key="id", asset={"owners": ["team:data"]}),
    refused("asset_of_nobody", resource={"asset": {"owners": ["data"]}}),
    refused("checks_without_key", resource={"checks": {"primary_key": {}}}),
    refused("by_key_in_json", resource={"primary_key": "user.id", "nested": "json"}),
    loaded_twice("by_default", REPLACED),
    loaded_twice("disposition_null", REPLACED, write_disposition=None),
    refused("skip", resource={"write_disposition": "skip"}),
    refused("skip_as_object", resource={"write_disposition": {"disposition": "skip"}}),
    refused("skip_nested", resource={"nested_hints": {"l": {"write_disposition": "skip"}}}),
    *(
        loaded_twice(f"{name}_as_object", gives, write_disposition={"disposition": name}, **more)
        for name, gives, more in (
            ("append", APPENDED, {}),
            ("merge", MERGED, {"primary_key": "id"}),
            ("replace", REPLACED, {}),
        )
    ),
    refused("merge_without_key", resource={"write_disposition": "merge"}),
    loaded_twice("merge_key", MERGED, write_disposition="merge", merge_key="id"),
    loaded_twice("merge_keys", APPENDED, write_disposition="merge", merge_key=["id", "n"]),
    disposition("delete_insert", MERGED, strategy="delete-insert"),
    disposition("deduplicated", MERGED, strategy="delete-insert", deduplicated=True),
    disposition("not_deduplicated", MERGED, strategy="delete-insert", deduplicated=False),
    disposition(
        "source_filter", [(1, 1), (2, 2)], strategy="delete-insert", source_filter="id < 3"
    ),
    disposition(
        "destination_scope",
        [(2, 1), (2, 2), (3, 2)],
        strategy="delete-insert",
        destination_scope="id < 2",
    ),
    disposition("upsert", MERGED, strategy="upsert"),
    disposition("upsert_filter", [(1, 1), (2, 2)], strategy="upsert", source_filter="id < 3"),
    *(
        disposition(
            f"upsert_unchanged_{value}".lower(),
            MERGED,
            strategy="upsert",
            skip_unchanged_rows=value,
        )
        for value in (True, False)
    ),
    *(
        disposition(
            f"{strategy}_row_version",
            gives,
            strategy=strategy,
            skip_unchanged_rows=True,
            row_version_column_name="n",
        )
        for strategy, gives in (("upsert", MERGED), ("cdc", REPLACED))
    ),
    disposition("cdc", REPLACED, strategy="cdc"),
    disposition("cdc_filter", [(2, 2)], strategy="cdc", source_filter="id < 3"),
    disposition("cdc_scope", REPLACED, strategy="cdc", destination_scope="id < 2"),
    disposition("cdc_unchanged", REPLACED, strategy="cdc", skip_unchanged_rows=False),
    refused(
        "cdc_with_a_cursor",
        endpoint={"incremental": {"cursor_path": "n"}},
        resource={
            "primary_key": "id",
            "write_disposition": {"disposition": "merge", "strategy": "cdc"},
        },
    ),
    disposition("insert_only", [(1, 1), (2, 1), (3, 2)], strategy="insert-only"),
    *(
        refused(
            f"{strategy.replace('-', '_')}_without_key",
            resource={"write_disposition": {"disposition": "merge", "strategy": strategy}},
        )
        for strategy in ("delete-insert", "upsert", "insert-only", "cdc")
    ),
    refused(
        "strategy_unknown",
        resource={
            "primary_key": "id",
            "write_disposition": {"disposition": "merge", "strategy": "x"},
        },
    ),
    Row(
        "scd2",
        {},
        FIRST,
        [(1, 1, False), (2, 1, False), (2, 2, True), (3, 2, True)],
        versions,
        again=AGAIN,
        resource={"write_disposition": {"disposition": "merge", "strategy": "scd2"}},
    ),
    *(
        Row(
            f"scd2_{name}",
            {},
            FIRST,
            gives,
            versions,
            again=AGAIN,
            resource={
                "write_disposition": {"disposition": "merge", "strategy": "scd2", name: value}
            },
        )
        for name, value, gives in (
            ("source_filter", "id < 3", [(1, 1, False), (2, 1, False), (2, 2, True)]),
            (
                "destination_scope",
                "id < 2",
                [(1, 1, False), (2, 1, True), (2, 2, True), (3, 2, True)],
            ),
            ("row_version_column_name", "id", [(1, 1, False), (2, 1, True), (3, 2, True)]),
        )
    ),
    Row(
        "scd2_columns",
        {},
        FIRST,
        [(1, True), (2, True), (2, False), (3, False)],
        lambda r: r.table("id, till is not null", order="id, since"),
        again=AGAIN,
        resource={
            "write_disposition": {
                "disposition": "merge",
                "strategy": "scd2",
                "validity_column_names": ["since", "till"],
            }
        },
    ),
    Row(
        "scd2_active",
        {},
        FIRST,
        ["9999-12-31", "9999-12-31"],
        lambda r: r.table("strftime(_dlt_valid_to at time zone 'UTC', '%Y-%m-%d')"),
        resource={
            "write_disposition": {
                "disposition": "merge",
                "strategy": "scd2",
                "active_record_timestamp": "9999-12-31",
            }
        },
    ),
    Row(
        "scd2_boundary",
        {},
        FIRST,
        ["2024-01-01", "2024-01-01"],
        lambda r: r.table("strftime(_dlt_valid_from at time zone 'UTC', '%Y-%m-%d')"),
        resource={
            "write_disposition": {
                "disposition": "merge",
                "strategy": "scd2",
                "boundary_timestamp": "2024-01-01",
            }
        },
    ),
    refused(
        "scd2_no_time",
        resource={
            "write_disposition": {
                "disposition": "merge",
                "strategy": "scd2",
                "boundary_timestamp": "yesterday",
            }
        },
    ),
    # columns
    Row(
        "columns_of_each_type",
        {},
        page({"id": 1, **{kind: value for kind, value, _ in TYPES}}),
        [kind for _, _, kind in TYPES],
        lambda r: list(r.table(", ".join(f'typeof("{kind}"), 0' for kind, _, _ in TYPES))[0][::2]),
        resource={"columns": {kind: {"data_type": kind} for kind, _, _ in TYPES}},
    ),
    column("type_null", 1, type_of, "BIGINT", data_type=None),
    column("precision", 1, type_of, "DECIMAL(10,2)", data_type="decimal", precision=10, scale=2),
    column(
        "no_zone",
        "2024-01-01T00:00:00",
        type_of,
        "TIMESTAMP",
        data_type="timestamp",
        timezone=False,
    ),
    column(
        "zone",
        "2024-01-01T00:00:00Z",
        type_of,
        "TIMESTAMP WITH TIME ZONE",
        data_type="timestamp",
        timezone=True,
    ),
    column("nullable", None, lambda r: r.table("v"), [None], data_type="text", nullable=True),
    Row(
        "column_not_nullable",
        {},
        page({"id": 1, "v": None}),
        fails="not nullable",
        resource={"columns": {"v": {"data_type": "text", "nullable": False}}},
    ),
    Row(
        "columns_with_hints",
        {},
        page({"id": 1, **{f"v_{name}": 1 for name in HINTS}}),
        HINTS,
        lambda r: {name: r.column(f"v_{name}").get(name) for name in HINTS},
        resource={
            "write_disposition": "append",
            "columns": {
                f"v_{name}": {"data_type": "bigint", name: value} for name, value in HINTS.items()
            },
        },
    ),
    column("nothing", 1, type_of, "BIGINT", data_type="bigint", **dict.fromkeys(FLAGS, False)),
    loaded_twice("column_primary_key", MERGED, columns={"id": {"primary_key": True}}),
    loaded_twice(
        "column_merge_key", MERGED, columns={"id": {"merge_key": True}}, write_disposition="merge"
    ),
    loaded_twice(
        "column_hard_delete",
        [(1, 1)],
        page({"id": 2, "n": 2, "gone": True}),
        primary_key="id",
        columns={"gone": {"data_type": "bool", "hard_delete": True}},
    ),
    *(
        Row(
            f"column_dedup_{order}",
            {},
            page({"id": 1, "n": 1}, {"id": 1, "n": 3}, {"id": 1, "n": 2}),
            [(1, n)],
            rows_of,
            resource={"primary_key": "id", "columns": {"n": {"dedup_sort": order}}},
        )
        for order, n in (("asc", 1), ("desc", 3))
    ),
    Row(
        "columns_as_list",
        {},
        page({"id": 1, "v": 1}),
        "VARCHAR",
        type_of,
        resource={"columns": [{"name": "v", "data_type": "text"}]},
    ),
    refused("column_type", resource={"columns": {"v": {"data_type": "varchar"}}}),
    refused("column_field", resource={"columns": {"v": {"type": "text"}}}),
    refused("column_no_name", resource={"columns": [{"data_type": "text"}]}),
    # contracts
    changed("evolve", NEW_COLUMN, [3], schema_contract="evolve"),
    changed("null", NEW_COLUMN, [3], schema_contract=None),
    changed("freeze", NEW_COLUMN, None, schema_contract="freeze", fails="freeze"),
    changed("discard_row", NEW_COLUMN, [], schema_contract="discard_row"),
    changed("discard_value", NEW_COLUMN, [3], schema_contract="discard_value"),
    *(
        changed(
            f"{entity}_{mode}",
            record,
            gives,
            schema_contract={entity: mode},
            **({"fails": "freeze"} if mode == "freeze" else {}),
        )
        for entity, record in (
            ("tables", NEW_TABLE),
            ("columns", NEW_COLUMN),
            ("data_type", NEW_TYPE),
        )
        for mode, gives in (
            ("evolve", [3]),
            ("freeze", None),
            ("discard_value", [3]),
            ("discard_row", [3] if entity == "tables" else []),
        )
    ),
    refused("contract_unknown", resource={"schema_contract": "frozen"}),
    # tables of their own
    Row(
        "table_name",
        {},
        page(1),
        [1],
        lambda r: r.table(table="other"),
        resource={"table_name": "other"},
    ),
    *(
        Row(
            f"nested_hints_{form}",
            {},
            page({"id": 1, "l": [{"n": 1}]}),
            "VARCHAR",
            lambda result: result.table("typeof(n)", table=f"{result.name}__l")[0],
            resource={"nested_hints": {"l": {"columns": columns}}},
        )
        for form, columns in (
            ("by_name", {"n": {"data_type": "text"}}),
            ("as_list", [{"name": "n", "data_type": "text"}]),
        )
    ),
    column("extension", 1, hint("v", "x-own"), "kept", **{"x-own": "kept"}),
    column("extension_typed", 1, hint("v", "x-own"), 5, **{"x-own": 5, "data_type": "bigint"}),
    refused("nested_hints_no_name", resource={"nested_hints": {"l": {"columns": [{}]}}}),
    nested("nesting", ["nesting__list", "nesting__list__deep"]),
    nested(
        "nesting_tables", ["nesting_tables__list", "nesting_tables__list__deep"], nested="tables"
    ),
    nested("nesting_json", [], nested="json"),
    nested("nesting_0", [], max_table_nesting=0),
    nested("nesting_1", ["nesting_1__list"], max_table_nesting=1),
    *(
        Row(
            f"mode_{mode}",
            {},
            page(1),
            written,
            lambda result: result.outcome.write_mode.split(":")[0].split(",")[0].split(" ")[0],
            resource={"mode": mode},
        )
        for mode, written in (
            ("auto", "columns"),
            ("columnar", "columns"),
            ("rows", "rows"),
            (None, "columns"),
        )
    ),
    table_hint("references", "references", REFERENCES[-1:], references=REFERENCES),
    refused("reference_half", resource={"references": [{"columns": ["id"]}]}),
    Row("steps_none", {}, page(1), [1], resource={"processing_steps": []}),
    Row(
        "defaults",
        {},
        page(1),
        "all",
        lambda result: result.seen[0].query.get("q"),
        file={"resource_defaults": {"endpoint": {"params": {"q": "all"}}}},
    ),
    *(
        Row(f"parallelized_{value}".lower(), {}, page(1), [1], resource={"parallelized": value})
        for value in (True, False, None)
    ),
    *(
        Row(f"selected_{value}".lower(), {}, page(1), [1], resource={"selected": value})
        for value in (True, False, None)
    ),
    steps("filter", {"filter": ".id > 1"}, [(2, 3)]),
    steps("map", {"map": "{id, n: (.n * 2)}"}, [(1, 4), (2, 6)]),
    steps("yield_map", {"yield_map": "., (.id += 10)"}, [(1, 2), (2, 3), (11, 2), (12, 3)]),
    steps("rename", {"rename": {"id": "n", "n": "id"}}, [(2, 1), (3, 2)]),
    steps(
        "drop", {"drop": ["id"]}, [(None, 2), (None, 3)], columns={"id": {"data_type": "bigint"}}
    ),
    steps("hash", {"hash": ["n"]}, [(1, SHA_OF_2), (2, SHA_OF_3)]),
    steps(
        "hash_with_key",
        {"hash": {"fields": ["n"], "key": "k"}},
        [(1, HMAC_OF_2), (2, HMAC_OF_3)],
    ),
    steps("parse_json", {"parse_json": ["n"]}, [(1, 2), (2, 3)]),
    steps("several", [{"filter": ".id > 1"}, {"drop": ["x"]}], [(2, 3)]),
    loaded_twice(
        "deleted_when", MERGED[::2], primary_key="id", deleted_when=".id == 2 and .n == 2"
    ),
    loaded_twice(
        "deleted_rows_leave",
        MERGED[::2],
        primary_key="id",
        deleted_when=".id == 2 and .n == 2",
        on_delete="remove",
    ),
    loaded_twice(
        "deleted_rows_marked",
        [(1, True), (2, False), (3, True)],
        see=lambda result: result.table("id, _deleted_at is null"),
        primary_key="id",
        deleted_when=".id == 2 and .n == 2",
        on_delete="mark",
    ),
    # none is due at the first load
    loaded_twice("sweep", MERGED, primary_key="id", sweep={"every": "1d"}),
    refused("sweep_of_no_key", resource={"sweep": {"every": "1d"}}),
    refused("deletes_from_nobody", resource={"primary_key": "id", "deletes_from": "nobody_here"}),
    refused("deleted_rows_of_no_condition", resource={"primary_key": "id", "on_delete": "mark"}),
    refused("deleted_rows_of_no_key", resource={"deleted_when": ".id"}),
    refused(
        "deleted_rows_appended",
        resource={"primary_key": "id", "write_disposition": "append", "deleted_when": ".gone"},
    ),
    refused("deleted_when_a_name", resource={"primary_key": "id", "deleted_when": "gone"}),
    refused("steps", resource={"processing_steps": [{"filter": "x("}]}),
    refused("steps_null", resource={"processing_steps": None}),
    refused("step_of_no_name", resource={"processing_steps": [{}]}),
    refused("step_of_two_names", resource={"processing_steps": [{"drop": ["x"], "map": "."}]}),
    refused("step_environment", resource={"processing_steps": [{"map": "$ENV"}]}),
    refused("step_without_fields", resource={"processing_steps": [{"drop": []}]}),
    refused("step_hash_no_key", resource={"processing_steps": [{"hash": {"fields": ["n"]}}]}),
    refused(
        "step_drops_the_key",
        resource={"primary_key": "id", "processing_steps": [{"drop": ["id"]}]},
    ),
    *(
        Row(
            f"file_format_{name}".replace("-", "_"),
            {},
            page(1),
            [1],
            resource={"file_format": name},
        )
        for name in (
            "preferred",
            "jsonl",
            "typed-jsonl",
            "insert_values",
            "parquet",
            "csv",
            "reference",
            "model",
            None,
        )
    ),
    *(
        Row(f"table_format_{name}".lower(), {}, page(1), [1], resource={"table_format": name})
        for name in ("iceberg", "delta", "hive", "native", None)
    ),
)
