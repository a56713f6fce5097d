"""The rows of a preview as tables, and what they show of the key and the cursor."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
from dlt.common.schema import Schema

from restsource_dagster.connector.cursor_format import CursorValueError, detect_cursor_format
from restsource_dagster.connector.model import Resource
from restsource_dagster.engine.destination.tables import read_loaded_columns
from restsource_dagster.engine.dlt_compat import (
    column_identifier,
    get_nested_tables,
    table_identifier,
)
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.cursor_overrides import cursor_column
from restsource_dagster.engine.plan.resource_plan import ResourcePlan
from restsource_dagster.engine.preview.previewed import (
    PreviewedCursor,
    PreviewedKey,
    PreviewedTable,
)

__all__ = [
    "PreviewTables",
    "RedactedValues",
    "Rows",
    "previewed_cursor",
    "previewed_key",
    "problems_of_key",
]

_SHOWN_DUPLICATES = 3
_OWN_COLUMNS = "_dlt_"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RedactedValues:
    """Replaces secrets in the texts of a JSON value."""

    redactor: Redactor

    def __call__(self, value: Any) -> Any:
        """Return the value without secrets."""
        if isinstance(value, Mapping):
            return {self.redactor(str(key)): self(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self(item) for item in value]
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        hidden = self.redactor(text)
        return value if hidden == text else hidden


@dataclass(frozen=True)
class PreviewTables:
    """The normalized tables of a family: dlt's schema, and all rows by table."""

    schema: Schema
    rows: Mapping[str, Rows]

    @classmethod
    def of(cls, pipeline: dlt.Pipeline) -> "PreviewTables":
        """Read them from the load package that dlt has made."""
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for load_id in pipeline.list_normalized_load_packages():
            for job in pipeline.get_load_package_info(load_id).jobs["new_jobs"]:
                if job.job_file_info.file_format == "jsonl":
                    lines = Path(job.file_path).read_text(encoding="utf-8").splitlines()
                    table = rows.setdefault(job.job_file_info.table_name, [])
                    table.extend(json.loads(line) for line in lines if line)
        # without a row dlt has made no schema
        if not pipeline.default_schema_name:
            return cls(Schema(pipeline.pipeline_name), rows)
        return cls(pipeline.default_schema, rows)

    def rows_of(self, resource: Resource) -> Rows:
        """Return the rows of a resource's own table."""
        return self.rows.get(table_identifier(self.schema, resource.table), ())

    def previewed(
        self, resource: Resource, max_rows: int, redacted: RedactedValues
    ) -> Sequence[PreviewedTable]:
        """Return a resource's table and those of its nested lists."""
        own = table_identifier(self.schema, resource.table)
        if own not in self.schema.tables:
            return [PreviewedTable(own, (), 0)]
        nested = [str(one["name"]) for one in get_nested_tables(self.schema.tables, own)]
        return [
            PreviewedTable(
                name,
                tuple(
                    one
                    for one in read_loaded_columns(self.schema, name)
                    if not one.name.startswith(_OWN_COLUMNS)
                ),
                len(self.rows.get(name, ())),
                tuple(
                    {
                        key: redacted(value)
                        for key, value in row.items()
                        if not key.startswith(_OWN_COLUMNS)
                    }
                    for row in self.rows.get(name, ())[:max_rows]
                ),
            )
            # dlt counts the table itself among its nested ones
            for name in dict.fromkeys([own, *nested])
        ]


def previewed_key(
    resource: Resource, rows: Rows, tables: PreviewTables, redacted: RedactedValues
) -> PreviewedKey | None:
    """Return whether the primary key is unique in these rows; None without a key or a row."""
    if not resource.primary_key or not rows:
        return None
    names = [column_identifier(tables.schema, name) for name in resource.primary_key]
    versions: dict[str, set[str]] = {}
    for row in rows:
        key = json.dumps([row.get(name) for name in names], default=str)
        values = {name: value for name, value in row.items() if not name.startswith(_OWN_COLUMNS)}
        # a row may come twice, as at the end of one query and the start of the next
        versions.setdefault(key, set()).add(json.dumps(values, sort_keys=True, default=str))
    several = [key for key, rows_of_key in versions.items() if len(rows_of_key) > 1]
    shown = tuple(redacted.redactor(text[1:-1]) for text in several[:_SHOWN_DUPLICATES])
    return PreviewedKey(tuple(names), not several, shown)


def problems_of_key(resource: Resource, key: PreviewedKey | None) -> Iterator[str]:
    """Yield that rows would replace one another. Versions of a row share its key on purpose."""
    disposition = resource.disposition
    has_versions = disposition.strategy in ("scd2", "cdc") or any(
        one.dedup_sort for one in resource.hints.columns_by_name.values()
    )
    if key is None or key.is_unique or disposition.value != "merge" or has_versions:
        return
    yield (
        f"primary_key {', '.join(key.columns)} is not unique: different rows have "
        f"{'; '.join(key.duplicates)}, and only one of each would be stored"
    )


def previewed_cursor(
    plan: ResourcePlan | None,
    rows: Rows,
    tables: PreviewTables | None,
    start: Any,
    redacted: RedactedValues,
) -> PreviewedCursor | None:
    """Return the range of a resource's cursor; `start` is where a root's was set to, None for nowhere."""
    if plan is None or plan.incremental is None:
        return None
    path = str(plan.incremental.cursor_path)
    # `--from` moves the cursors of roots only
    if plan.resource.parent is not None or start is None:
        start = plan.incremental.initial_value
    field_name = cursor_column(path)
    values: list[Any] = []
    if field_name and tables:
        column = column_identifier(tables.schema, field_name)
        values = [row[column] for row in rows if row.get(column) is not None]
    lowest, highest = _range_of(values)
    return PreviewedCursor(path, redacted(start), redacted(lowest), redacted(highest))


def _range_of(values: Sequence[Any]) -> tuple[Any, Any]:
    """Return the lowest and the highest cursor value; None for values that have no common order."""
    try:
        form = detect_cursor_format(values[0]) if values else None
        if form is None:
            return None, None
        return min(values, key=form.comparison_key), max(values, key=form.comparison_key)
    except (CursorValueError, TypeError, ValueError):
        return None, None
