"""The asset checks of a connector: their specs from the file, their results from what a run knows.

A result needs no request. It compares what the engine reports of a load with the file, with the table,
and with the materializations before. A check that has nothing to compare passes and
says so: Dagster takes a check without a result for one that was forgotten.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.models.checks import (
    CheckSettings,
    CompletenessCheck,
    FreshnessLimit,
    LagCheck,
    RowsCheck,
    duration_seconds,
)
from restsource_dagster.connector.models.schedule import IntervalSchedule
from restsource_dagster.connector.table_checks import checks_of
from restsource_dagster.orchestration.names import asset_key
from restsource_dagster.settings import Settings

if TYPE_CHECKING:  # the engine brings dlt, which only a run may import
    from restsource_dagster.engine.run.outcome import Outcome

__all__ = [
    "build_check_specs",
    "build_freshness_policy",
    "check_results",
    "filled_columns_metadata",
]

_FEWEST_RUNS = 5
"""With fewer runs before, the numbers of rows say nothing yet."""
_SMALL_DIFFERENCE = 10
"""Rows. A table of three rows may have six tomorrow."""
_FEWEST_ROWS = 20
"""With fewer rows in a load, a column without values says nothing."""
_FILLED_COLUMNS = "columns/always_filled"
"""Metadata: the columns that each row of the load has a value in."""
_DESCRIPTIONS = {
    "primary_key": "The primary key is unique and not null.",
    "completeness": "As many rows arrived as the API states.",
    "schema_drift": "The columns are those of the last run.",
    "rows": "The load has a usual number of rows.",
    "lag": "The newest row is not too old.",
}


def build_check_specs(
    connector: Connector, resource: Resource, settings: Settings
) -> list[dg.AssetCheckSpec]:
    """Return the specs of a resource's checks."""
    key = asset_key(connector.name, resource.name)
    loads_into = settings.for_destination(connector.destination).destination_type
    checks = checks_of(resource, loads_into, by_default=settings.default_checks)
    return [
        dg.AssetCheckSpec(name, asset=key, description=_DESCRIPTIONS[name], blocking=check.blocking)
        for name, check in checks.items()
    ]


def build_freshness_policy(connector: Connector, resource: Resource) -> dg.FreshnessPolicy | None:
    """Return within which time a load must succeed: as the file says, or three intervals of the schedule.

    None if the connector has no schedule and the file doesn't say. Dagster evaluates it if the instance has
    `freshness: {enabled: true}`: https://docs.dagster.io/guides/observe/asset-freshness-policies
    """
    given = resource.checks.freshness
    if isinstance(given, FreshnessLimit):
        return _policy(timedelta(seconds=duration_seconds(given.within)))
    # Only what the schedule loads is late without it.
    if given is False or not isinstance(connector.schedule, IntervalSchedule):
        return None
    return _policy(max(3 * connector.schedule.period, timedelta(hours=1)))


_policies: dict[timedelta, dg.FreshnessPolicy] = {}


def _policy(window: timedelta) -> dg.FreshnessPolicy:
    # Thousands of assets share a few policies.
    return _policies.setdefault(window, dg.FreshnessPolicy.time_window(fail_window=window))


def filled_columns_metadata(outcome: "Outcome") -> Mapping[str, Any]:
    """Return the columns that have a value in each new row, for the check of the next run."""
    facts = outcome.facts
    if facts is None or facts.new_rows < _FEWEST_ROWS:
        return {}
    always = [name for name, rows in facts.filled.items() if rows == facts.new_rows]
    return {_FILLED_COLUMNS: dg.MetadataValue.json(always)}


@dataclass(frozen=True)
class _Verdict:
    """What a check found. `metadata` are numbers to plot, and the rows or values that fail it."""

    passed: bool
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Load:
    """A load that is checked, and the materializations before it, which are read when they are needed."""

    instance: dg.DagsterInstance
    key: dg.AssetKey
    resource: Resource
    outcome: "Outcome"
    _earlier: list[Mapping[str, Any]] | None = None

    def earlier(self, runs: int) -> list[Mapping[str, Any]]:
        """Return the metadata of at most so many earlier live loads, the newest first."""
        if self._earlier is None:
            # once for all checks of a load
            records = self.instance.fetch_materializations(self.key, limit=max(runs, 20)).records
            found = [record.asset_materialization for record in records]
            metadata = [{k: v.value for k, v in each.metadata.items()} for each in found if each]
            # A window and a changed cursor bring other rows than the run after the last one.
            self._earlier = [
                each
                for each in metadata
                if not {"window/start", "incremental/set_from", "left_as_it_is"} & each.keys()
            ]
        return self._earlier[:runs]


def check_results(
    context: dg.AssetExecutionContext,
    connector: Connector,
    outcome: "Outcome",
    settings: Settings,
    *,
    is_usual: bool,
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of a resource's checks after a load; log each that failed.

    `is_usual` is False for a load whose number of rows says nothing: a window or a full refresh.
    """
    # nothing was loaded, so there is nothing to check
    resource = connector.resource(outcome.resource)
    key = asset_key(connector.name, resource.name)
    load = _Load(context.instance, key, resource, outcome)
    loads_into = settings.for_destination(connector.destination).destination_type
    checks = checks_of(resource, loads_into, by_default=settings.default_checks)
    wanted = {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
    for name, check in checks.items():
        # a person may have chosen some of the checks
        if name not in wanted:
            continue
        verdict = _verdict(load, name, check, is_usual=is_usual)
        if not verdict.passed:
            context.log.warning(f"{resource.name}: the check {name} failed: {verdict.text}")
        yield dg.AssetCheckResult(
            passed=verdict.passed,
            asset_key=key,
            check_name=name,
            severity=dg.AssetCheckSeverity[check.severity.upper()],
            description=verdict.text,
            metadata=verdict.metadata,
        )


def _verdict(load: _Load, name: str, check: CheckSettings, *, is_usual: bool) -> _Verdict:
    """Return what a check found, or why it has nothing to compare."""
    if load.outcome.left_as_it_is:
        return _Verdict(True, "Not compared: the table was left as it is.")
    if name == "rows" and not is_usual:
        return _Verdict(True, "Not compared: a window or a full refresh has other rows than usual.")
    return _VERDICTS[name](load, check) or _Verdict(True, f"Not compared: {_NOTHING[name]}.")


_NOTHING = {
    "primary_key": "the destination can't be asked for keys",
    "completeness": "the API states no total of what was asked for",
    "lag": "no row with a time is known yet",
}
"""What is missing if a check has nothing to compare."""


def _primary_key(load: _Load, _: CheckSettings) -> _Verdict | None:
    key = load.outcome.facts.key if load.outcome.facts else None
    if key is None:
        return None
    where = "the table" if key.of_whole_table else "the table, among the keys of the new rows"
    metadata: dict[str, Any] = {"repeated_keys": key.repeated_keys, "rows_without_key": key.nulls}
    if key.repeated:
        header = f"| {' | '.join(key.columns)} | rows |\n|{'---|' * (len(key.columns) + 1)}"
        lines = [f"| {' | '.join(map(_cell, values))} | {n} |" for values, n in key.repeated]
        metadata["repeated"] = dg.MetadataValue.md("\n".join([header, *lines]))
    problems = []
    if key.repeated_keys:
        values, rows = key.repeated[0]
        example = ", ".join(f"{c} = {v}" for c, v in zip(key.columns, values, strict=True))
        problems.append(f"{key.repeated_keys} keys have several rows, such as {example}: {rows}")
    if key.nulls:
        problems.append(f"{key.nulls} rows have no key: {', '.join(key.columns)} is null")
    text = "; ".join(problems) or f"Each key is there once in {where}."
    return _Verdict(not problems, text, metadata)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")[:100]


def _completeness(load: _Load, check: CheckSettings) -> _Verdict | None:
    outcome = load.outcome
    of_table = isinstance(check, CompletenessCheck) and check.counts == "table"
    arrived = outcome.row_count if of_table else outcome.records_received
    if outcome.stated_total is None or arrived is None:
        return None
    difference = outcome.stated_total - arrived
    allowed = check.missing_up_to if isinstance(check, CompletenessCheck) else 0
    what = f"the table has {arrived}" if of_table else f"{arrived} arrived"
    return _Verdict(
        abs(difference) <= allowed,
        f"The API states {outcome.stated_total} rows, and {what}.",
        {"api/total": outcome.stated_total, "rows": arrived, "difference": difference},
    )


def _schema_drift(load: _Load, _: CheckSettings) -> _Verdict:
    outcome = load.outcome
    changes = [change for change in outcome.schema_changes if change != _is_new(outcome.table)]
    changes += [f"column {outcome.table}.{name} has no values any more" for name in _vanished(load)]
    if not changes:
        return _Verdict(passed=True, text="The columns are those of the last run.")
    listed = dg.MetadataValue.md("\n".join(f"- {change}" for change in changes))
    return _Verdict(False, "; ".join(changes), {"changes": listed, "changed": len(changes)})


def _is_new(table: str) -> str:
    """The engine's sentence about the first load of a table, which is no drift."""
    return f"table {table} is new"


def _vanished(load: _Load) -> Sequence[str]:
    """Return the columns without a value in this load that had one in each row of the last comparable."""
    facts = load.outcome.facts
    if facts is None or facts.new_rows < _FEWEST_ROWS:
        return ()
    empty = [name for name, rows in facts.filled.items() if rows == 0]
    if not empty:
        return ()
    known = (each[_FILLED_COLUMNS] for each in load.earlier(20) if _FILLED_COLUMNS in each)
    before = set(next(known, ()))
    return [name for name in empty if name in before]


def _rows(load: _Load, check: CheckSettings) -> _Verdict | None:
    settings = check if isinstance(check, RowsCheck) else RowsCheck()
    rows = load.outcome.rows_loaded
    if settings.at_least is not None and rows < settings.at_least:
        return _Verdict(False, f"{rows} rows, and at least {settings.at_least} are expected.")
    if settings.at_most is not None and rows > settings.at_most:
        return _Verdict(False, f"{rows} rows, and at most {settings.at_most} are expected.")
    before = [int(each["rows_loaded"]) for each in load.earlier(settings.runs)]
    if len(before) < _FEWEST_RUNS:
        text = f"{rows} rows. They are compared once there are {_FEWEST_RUNS} earlier runs."
        return _Verdict(True, text, {"rows": rows})
    fewest, most = min(before), max(before)
    # both: a factor says little of three rows, and a difference little of a million
    few = rows < fewest / settings.factor and fewest - rows >= _SMALL_DIFFERENCE
    many = rows > most * settings.factor and rows - most >= _SMALL_DIFFERENCE
    word = "too few" if few else "too many" if many else "a usual number"
    text = f"{rows} rows are {word}: the last {len(before)} runs had {fewest} to {most}."
    return _Verdict(not (few or many), text, {"rows": rows, "fewest": fewest, "most": most})


def _lag(load: _Load, check: CheckSettings) -> _Verdict | None:
    cursor = load.outcome.cursor
    if cursor is None or cursor.lag_seconds is None or not isinstance(check, LagCheck):
        return None
    seconds = float(cursor.lag_seconds)
    text = f"The newest row, {cursor.last_value}, is {timedelta(seconds=round(seconds))} old; up to {check.at_most} is allowed."
    return _Verdict(seconds <= duration_seconds(check.at_most), text, {"lag_seconds": seconds})


_VERDICTS: Mapping[str, Callable[[_Load, CheckSettings], _Verdict | None]] = {
    "primary_key": _primary_key,
    "completeness": _completeness,
    "schema_drift": _schema_drift,
    "rows": _rows,
    "lag": _lag,
}
