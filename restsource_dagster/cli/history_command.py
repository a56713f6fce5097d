"""`restsource history`: which partitions of backfills are loaded, in progress, failed or missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from restsource_dagster.cli.common import (
    find_connector,
    find_dagster_home,
    open_instance,
    read_settings,
)
from restsource_dagster.cli.options import ConfigsOption, JsonOption, NameArgument
from restsource_dagster.cli.output import print_json, result_console
from restsource_dagster.connector.validation.diagnostics import printable

if TYPE_CHECKING:  # both import Dagster
    from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
    from restsource_dagster.orchestration.backfills.backfill_status import BackfillStatus

__all__ = ["history", "merge_partitions"]

_STYLES = {"loaded": "green", "in progress": "cyan", "failed": "red", "missing": "yellow"}


def history(
    name: NameArgument,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the backfills of a connector: partitions that are loaded, in progress, failed or missing.

    Adjacent partitions are shown as one range, in UTC, without its end. A partition counts as loaded
    if it was loaded under the current definition of the resource. The Dagster instance knows that:
    DAGSTER_HOME, or the folder .dagster of the project.

    Example: restsource history shop
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    home = find_dagster_home("No runs to show")

    from restsource_dagster.orchestration.backfills.backfill_plan import read_backfill_plans

    plans = read_backfill_plans(connector, settings)
    statuses = _read_statuses(plans, home)
    reports = [_BackfillReport(plan, statuses[plan.tag]) for plan in plans]
    if as_json:
        resources = [report.as_dict() for report in reports]
        # Scripts read this document, so it keeps the name `histories`.
        print_json({"connector": connector.name, "histories": resources})
    elif reports:
        for report in reports:
            _print_backfill(result_console(), report)
    else:
        result_console().print(
            f"No resource of {connector.name} has a `backfill` block; see docs/backfill.md."
        )


def _read_statuses(
    plans: "Sequence[BackfillPlan]", home: Path | None
) -> "Mapping[str, BackfillStatus]":
    from restsource_dagster.orchestration.backfills.backfill_status import (
        BackfillStatus,
        read_backfill_statuses,
    )

    if home is None:
        return {
            plan.tag: BackfillStatus(plan.due_keys(), frozenset(), frozenset()) for plan in plans
        }
    with open_instance(home) as instance:
        return read_backfill_statuses(instance, plans)


def merge_partitions(plan: "BackfillPlan", keys: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return the ranges of adjacent partitions, newest first: start, end and number of partitions."""
    ranges: list[tuple[str, str, int]] = []
    for window in sorted((plan.partition(key) for key in keys), key=lambda each: each.start):
        start, end = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (window.start, window.end))
        if ranges and ranges[-1][1] == start:
            first, _, number = ranges.pop()
            ranges.append((first, end, number + 1))
        else:
            ranges.append((start, end, 1))
    return ranges[::-1]


@dataclass(frozen=True)
class _BackfillReport:
    """The state of a resource's backfill."""

    plan: "BackfillPlan"
    status: "BackfillStatus"

    @property
    def keys_by_state(self) -> Mapping[str, list[str]]:
        """The partition keys by state: all that the file wants, and others that are in progress."""
        status = self.status
        failed = [key for key in status.missing if status.failures.get(key)]
        return {
            "loaded": [key for key in status.desired if key in status.loaded],
            "in progress": [
                key for key in sorted(status.in_progress) if _is_partition_key(self.plan, key)
            ],
            "failed": failed,
            "missing": [key for key in status.missing if key not in failed],
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        backfill = self.plan.backfill
        return {
            "resource": self.plan.resource.name,
            "partition": backfill.partition,
            "auto": backfill.auto,
            "windows": len(self.status.desired),
            "attempts_failed": dict(self.status.failures),
            "given_up": list(self.status.given_up),
            **{
                name.replace(" ", "_"): {
                    "windows": len(keys),
                    "ranges": [
                        {"from": start, "to": end, "windows": number}
                        for start, end, number in merge_partitions(self.plan, keys)
                    ],
                }
                for name, keys in self.keys_by_state.items()
            },
        }


def _is_partition_key(plan: "BackfillPlan", key: str) -> bool:
    try:
        plan.partition(key)
    except ValueError:  # a window of `restsource backfill` that is no partition
        return False
    return True


def _print_backfill(console: Console, report: _BackfillReport) -> None:
    backfill, total = report.plan.backfill, len(report.status.desired)
    manual = "" if backfill.auto else ", loaded only when you start them"
    title = Text(printable(report.plan.resource.name), "bold")
    partitions = f"{total:,} {backfill.partition} partition{'' if total == 1 else 's'}"
    console.print(title + Text(f"  {partitions}{manual}", ""))
    for name, keys in report.keys_by_state.items():
        if keys:
            console.print(Text(f"  {name:11}  {len(keys):,}", _STYLES[name]))
        for start, end, number in merge_partitions(report.plan, keys):
            many = f"  ({number:,} partitions)" if number > 1 else ""
            console.print(f"               {start} up to {end}{many}")
    for key in report.status.given_up:
        times = report.status.failures[key]
        again = f"restsource backfill {report.plan.connector.name} {report.plan.resource.name}"
        console.print(
            Text(
                f"  {key} failed {times} times and is not tried again: retry it in the UI, or run",
                "red",
            )
        )
        start, end, _ = merge_partitions(report.plan, [key])[0]
        console.print(Text(f"    {again} --from {start} --to {end}", "red"))
