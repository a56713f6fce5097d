"""What a materialization shows: rows, the incremental cursor, requests, the table's columns."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.outcome import Column, CursorMove, Outcome

__all__ = ["materialization_metadata", "table_schema"]


def materialization_metadata(outcome: "Outcome") -> Mapping[str, Any]:
    """The metadata of one resource's load.

    Numbers are numbers, so that Dagster plots them; a cursor is a timestamp where it is one.
    """
    # The UI shows them in this order: rows and cursor first.
    metadata: dict[str, Any] = {"rows_loaded": outcome.rows_loaded}
    if outcome.row_count is not None:
        metadata["dagster/row_count"] = outcome.row_count
    if outcome.cursor:
        metadata |= _cursor_metadata(outcome.cursor)
    if outcome.cursor_set:
        old, new = outcome.cursor_set
        metadata |= {
            "incremental/set_from": _cursor_value(old),
            "incremental/set_to": _cursor_value(new),
        }
    if outcome.window:
        start, end = outcome.window
        metadata |= {"window/start": _cursor_value(start), "window/end": _cursor_value(end)}
    metadata |= {
        "seconds": round(outcome.seconds, 3),
        "http/requests": outcome.usage.requests,
        "http/retries": outcome.usage.retries,
        "http/bytes": outcome.usage.bytes,
        "dagster/table_name": f"{outcome.dataset}.{outcome.table}",
        "dagster/column_schema": table_schema(outcome.columns),
    }
    if outcome.nested_tables:
        metadata["rows_loaded/nested"] = dg.MetadataValue.json(dict(outcome.nested_tables))
    if outcome.promised is not None:
        metadata |= {"api/total": outcome.promised, "api/received": outcome.received}
    metadata["written_as"] = outcome.written
    if outcome.schema_changes:
        metadata["schema_changes"] = dg.MetadataValue.json(list(outcome.schema_changes))
    if outcome.skipped:
        metadata["skipped_parents"] = dg.MetadataValue.json(list(outcome.skipped))
    return metadata


def _cursor_metadata(cursor: "CursorMove") -> Mapping[str, Any]:
    metadata: dict[str, Any] = {
        "incremental/cursor_path": cursor.cursor_path,
        "incremental/start_value": _cursor_value(cursor.start_value),
        "incremental/last_value": _cursor_value(cursor.last_value),
    }
    if cursor.lag_seconds is not None:
        metadata["incremental/lag_seconds"] = float(cursor.lag_seconds)
    return metadata


def _cursor_value(value: Any) -> Any:
    if value is None:
        return dg.MetadataValue.null()
    if isinstance(value, datetime) and value.tzinfo is not None:
        return dg.MetadataValue.timestamp(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, int | float) else str(value)


def table_schema(columns: "tuple[Column, ...]") -> dg.TableSchema:
    """A table's columns in Dagster's words."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.data_type,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, other=list(column.hints)
                ),
            )
            for column in columns
        ]
    )
