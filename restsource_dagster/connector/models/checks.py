"""The `checks` of a resource: what Dagster verifies of its table after each load.

This block is not part of dlt's configuration.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.models.fields import (
    Duration,
    FileModel,
    Flag,
    by_kind,
    count_from_one,
    refuse_type,
    refuse_value,
)
from restsource_dagster.connector.time_formats import moved_by

__all__ = [
    "CheckSettings",
    "Checks",
    "CompletenessCheck",
    "FreshnessLimit",
    "LagCheck",
    "PrimaryKeyCheck",
    "RowsCheck",
    "SchemaDriftCheck",
    "duration_seconds",
]

Severity = Literal["warn", "error"]
_MOST_ROWS = 1_000_000_000_000


def _check_rows(value: Any) -> int:
    expected = f"a whole number from 0 to {_MOST_ROWS:,}"
    if isinstance(value, bool) or not isinstance(value, int):
        refuse_type(expected)
    return value if 0 <= value <= _MOST_ROWS else refuse_value(expected)


def _check_factor(value: Any) -> float:
    expected = "a number above 1 and up to 1,000,000"
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse_type(expected)
    # not `value <= 1`: NaN would pass
    return float(value) if 1 < value <= 1_000_000 else refuse_value(expected)


RowNumber = Annotated[
    int,
    PlainValidator(_check_rows),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": _MOST_ROWS}),
]
Factor = Annotated[
    float,
    PlainValidator(_check_factor),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 1, "maximum": 1_000_000}),
]


def duration_seconds(duration: str) -> float:
    """Return a length of time in seconds; a month is that of January, a year has 365 days."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return (moved_by(start, duration) - start).total_seconds()


def _refuse(field: str, message: str) -> None:
    # pydantic locates an error of a model at the model, so the error itself names the field.
    raise PydanticCustomError("rule", "{text}", {"field": field, "text": message})


class CheckSettings(FileModel):
    """What a failed check means."""

    severity: Severity = Field(
        default="warn", description="How Dagster shows a failed check: `warn` or `error`."
    )
    blocking: Flag = Field(
        default=False,
        description="`true`: if the check fails, the run fails after everything is loaded, and Dagster "
        "doesn't start what depends on the asset. Needs the severity `error`.",
    )

    @model_validator(mode="after")
    def _blocks_by_errors(self) -> Self:
        # Dagster blocks by errors only: a warning that says it blocks would not.
        if self.blocking and self.severity != "error":
            _refuse("blocking", 'Only an error blocks: add "severity": "error"')
        return self


class PrimaryKeyCheck(CheckSettings):
    """Looks for rows with the same primary key, and for keys that are null."""

    severity: Severity = Field(
        default="error", description="How Dagster shows a failed check: `warn` or `error`."
    )
    up_to_rows: RowNumber = Field(
        default=1_000_000,
        description="Maximum number of rows of a table that is searched as a whole. In a larger one, only "
        "the keys of the rows that were just loaded are looked for.",
    )


class CompletenessCheck(CheckSettings):
    """Compares the total that the API states with the rows that arrived."""

    counts: Literal["query", "table"] = Field(
        default="query",
        description="What the API's total counts. `query`: what was asked for, so as many records must "
        "arrive. `table`: all records, so the table must have as many rows.",
    )
    missing_up_to: RowNumber = Field(
        default=0, description="Maximum difference, in rows, that passes the check."
    )


class SchemaDriftCheck(CheckSettings):
    """Fails if a table has changed since the last run.

    A column is new, has values of another type, or has no more values, although each row had one before.
    """


class RowsCheck(CheckSettings):
    """Compares the rows of a load with those of the runs before.

    Needs five earlier runs. A difference of less than ten rows passes.
    """

    factor: Factor = Field(
        default=2.0,
        description="Fails if a load has more than this many times the rows of the largest of the last "
        "runs, or less than the smallest divided by it.",
    )
    runs: Annotated[int, *count_from_one(100)] = Field(
        default=20, description="Number of runs to compare with."
    )
    at_least: RowNumber | None = Field(
        default=None, description="Minimum number of rows of each load."
    )
    at_most: RowNumber | None = Field(
        default=None, description="Maximum number of rows of each load."
    )

    @model_validator(mode="after")
    def _leaves_a_range(self) -> Self:
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            _refuse("at_most", "`at_most` is less than `at_least`, so no load would pass")
        return self


class LagCheck(CheckSettings):
    """Fails if the newest row is too old. For resources whose cursor is a time."""

    at_most: Duration = Field(
        description="Maximum age of the newest row at the end of a load, such as `2h` or `1d`."
    )


class FreshnessLimit(FileModel):
    """The time within which a load must succeed. Dagster evaluates it if its instance has freshness on."""

    within: Duration = Field(
        description="Maximum time since the last successful load, such as `6h`; at least a minute."
    )

    @model_validator(mode="after")
    def _is_long_enough(self) -> Self:
        # https://docs.dagster.io/guides/observe/asset-freshness-policies
        if duration_seconds(self.within) < 60:
            _refuse("within", "Dagster looks once a minute: write `1m` or more")
        return self


def _kind(value: Any) -> str | None:
    return "#off" if value is False else "#on" if isinstance(value, dict) else None


_Off = Annotated[Literal[False], Tag("#off")]


def _or_false(example: str) -> Any:
    return by_kind(_kind, custom_error_message=f"`false`, or an object such as {example}")


class Checks(FileModel):
    """What is verified after each load. `false` turns a check off.

    The checks of a resource replace those of `resource_defaults` one by one.
    """

    primary_key: (
        Annotated[_Off | Annotated[PrimaryKeyCheck, Tag("#on")], _or_false('{"severity": "error"}')]
        | None
    ) = Field(
        default=None,
        description="The primary key is unique and not null. On by default in DuckDB and Postgres, for "
        "tables whose rows are merged or replaced.",
    )
    completeness: (
        Annotated[_Off | Annotated[CompletenessCheck, Tag("#on")], _or_false('{"counts": "table"}')]
        | None
    ) = Field(
        default=None,
        description="As many rows arrived as the API states. On by default; has a result only if the API "
        "states a total.",
    )
    schema_drift: (
        Annotated[
            _Off | Annotated[SchemaDriftCheck, Tag("#on")], _or_false('{"severity": "error"}')
        ]
        | None
    ) = Field(
        default=None,
        description="The columns are those of the last run. On by default.",
    )
    rows: (
        Annotated[_Off | Annotated[RowsCheck, Tag("#on")], _or_false('{"at_least": 1}')] | None
    ) = Field(
        default=None,
        description="The number of rows is similar to that of the runs before. On by default.",
    )
    lag: (
        Annotated[_Off | Annotated[LagCheck, Tag("#on")], _or_false('{"at_most": "2h"}')] | None
    ) = Field(default=None, description="The newest row is not too old. Off by default.")
    freshness: (
        Annotated[_Off | Annotated[FreshnessLimit, Tag("#on")], _or_false('{"within": "6h"}')]
        | None
    ) = Field(
        default=None,
        description="A load has succeeded lately. By default within three intervals of the schedule, at "
        "least an hour.",
    )

    def overridden_by(self, own: "Checks") -> "Checks":
        """These checks with those that another block gives in place of its own."""
        return Checks.of({**self.given, **own.given})
