"""`restsource history`: which windows are loaded, going on, failed and missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from restsource_dagster.cli.common import (
    PROJECT_DAGSTER_HOME,
    ConfigsOption,
    JsonOption,
    NameArgument,
    find_connector,
    find_dagster_home,
    open_instance,
    read_settings,
)
from restsource_dagster.cli.output import print_json, print_notice, result_console
from restsource_dagster.connector.validation.diagnostics import printable

if TYPE_CHECKING:  # they bring Dagster
    from restsource_dagster.orchestration.backfills.backfill_plan import BackfillPlan
    from restsource_dagster.orchestration.backfills.backfill_status import BackfillStatus

__all__ = ["history", "merge_partitions"]

_STYLES = {"loaded": "green", "going on": "cyan", "failed": "red", "missing": "yellow"}


def history(
    name: NameArgument,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far the histories of a connector are: loaded, going on, failed and missing windows.

    Windows that meet are shown as one range, from its start up to but without its end, in UTC. Loaded
    means: under the present definition of the resource. What is known is what the Dagster instance
    knows: DAGSTER_HOME, or the folder .dagster of the project.

    Example: restsource history shop
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    home = find_dagster_home()
    if home is None:
        print_notice(
            f"No runs to show: DAGSTER_HOME is not set, and there is no folder {PROJECT_DAGSTER_HOME}."
        )

    from restsource_dagster.orchestration.backfills.backfill_plan import read_backfill_plans

    plans = read_backfill_plans(connector, settings)
    standings = _read_statuses(plans, home)
    stories = [_BackfillReport(plan, standings[plan.tag]) for plan in plans]
    if as_json:
        resources = [story.as_dict() for story in stories]
        print_json({"connector": connector.name, "histories": resources})
    elif stories:
        for story in stories:
            _print_backfill(result_console(), story)
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
        return {plan.tag: BackfillStatus(plan.due(), frozenset(), frozenset()) for plan in plans}
    with open_instance(home) as instance:
        return read_backfill_statuses(instance, plans)


def merge_partitions(plan: "BackfillPlan", keys: Sequence[str]) -> list[tuple[str, str, int]]:
    """The ranges that windows make up, newest first: start, end and how many windows it is."""
    ranges: list[tuple[str, str, int]] = []
    for window in sorted((plan.window(key) for key in keys), key=lambda each: each.start):
        start, end = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (window.start, window.end))
        if ranges and ranges[-1][1] == start:
            first, _, number = ranges.pop()
            ranges.append((first, end, number + 1))
        else:
            ranges.append((start, end, 1))
    return ranges[::-1]


@dataclass(frozen=True)
class _BackfillReport:
    """How the history of a resource stands."""

    plan: "BackfillPlan"
    status: "BackfillStatus"

    @property
    def parts(self) -> Mapping[str, list[str]]:
        """The windows by what became of them: all that are desired, and others that are going on."""
        standing = self.status
        failed = [key for key in standing.missing if standing.failures.get(key)]
        return {
            "loaded": [key for key in standing.desired if key in standing.done],
            "going on": [
                key for key in sorted(standing.going_on) if _is_partition_key(self.plan, key)
            ],
            "failed": failed,
            "missing": [key for key in standing.missing if key not in failed],
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
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
                for name, keys in self.parts.items()
            },
        }


def _is_partition_key(plan: "BackfillPlan", key: str) -> bool:
    try:
        plan.window(key)
    except ValueError:  # a range that somebody asked for, which is none of the windows
        return False
    return True


def _print_backfill(console: Console, story: _BackfillReport) -> None:
    backfill, total = story.plan.backfill, len(story.status.desired)
    by_hand = "" if backfill.auto else ", loaded when asked for"
    title = Text(printable(story.plan.resource.name), "bold")
    windows = f"{total:,} {backfill.partition} window{'' if total == 1 else 's'}"
    console.print(title + Text(f"  {windows}{by_hand}", ""))
    for name, keys in story.parts.items():
        if keys:
            console.print(Text(f"  {name:8}  {len(keys):,}", _STYLES[name]))
        for start, end, number in merge_partitions(story.plan, keys):
            many = f"  ({number:,} windows)" if number > 1 else ""
            console.print(f"            {start} up to {end}{many}")
    for key in story.status.given_up:
        times = story.status.failures[key]
        again = f"restsource backfill {story.plan.connector.name} {story.plan.resource.name}"
        console.print(
            Text(f"  {key} failed {times} times and is left: retry it in the UI, or", "red")
        )
        start, end, _ = merge_partitions(story.plan, [key])[0]
        console.print(Text(f"    {again} --from {start} --to {end}", "red"))
