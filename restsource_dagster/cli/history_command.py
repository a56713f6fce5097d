"""`restsource history`: which windows are loaded, going on, failed and missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from restsource_dagster.cli.connectors import find_connector
from restsource_dagster.cli.instance import PROJECT_HOME, find_home, open_instance
from restsource_dagster.cli.options import Configs, Json, Name, read_settings
from restsource_dagster.cli.output import print_json, say, standard_output
from restsource_dagster.config.problems import printable

if TYPE_CHECKING:  # they bring Dagster
    from restsource_dagster.orchestration.history.plans import HistoryPlan
    from restsource_dagster.orchestration.history.reconcile import Standing

__all__ = ["history", "merged"]

_STYLES = {"loaded": "green", "going on": "cyan", "failed": "red", "missing": "yellow"}


def history(
    name: Name,
    configs: Configs = None,
    as_json: Json = False,
) -> None:
    """Show how far the histories of a connector are: loaded, going on, failed and missing windows.

    Windows that meet are shown as one range, from its start up to but without its end, in UTC. Loaded
    means: under the present definition of the resource. What is known is what the Dagster instance
    knows: DAGSTER_HOME, or the folder .dagster of the project.

    Example: restsource history shop
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    home = find_home()
    if home is None:
        say(f"No runs to show: DAGSTER_HOME is not set, and there is no folder {PROJECT_HOME}.")

    from restsource_dagster.orchestration.history.plans import plans_of

    plans = plans_of(connector, settings)
    standings = _read(plans, home)
    stories = [_Story(plan, standings[plan.tag]) for plan in plans]
    if as_json:
        resources = [story.as_dict() for story in stories]
        print_json({"connector": connector.name, "histories": resources})
    elif stories:
        for story in stories:
            _print(standard_output(), story)
    else:
        standard_output().print(
            f"No resource of {connector.name} has a `backfill` block; see docs/backfill.md."
        )


def _read(plans: "Sequence[HistoryPlan]", home: Path | None) -> "Mapping[str, Standing]":
    from restsource_dagster.orchestration.history.reconcile import Standing
    from restsource_dagster.orchestration.history.standings import read_standings

    if home is None:
        return {plan.tag: Standing(plan.due(), frozenset(), frozenset()) for plan in plans}
    with open_instance(home) as instance:
        return read_standings(instance, plans)


def merged(plan: "HistoryPlan", keys: Sequence[str]) -> list[tuple[str, str, int]]:
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
class _Story:
    """How the history of a resource stands."""

    plan: "HistoryPlan"
    standing: "Standing"

    @property
    def parts(self) -> Mapping[str, list[str]]:
        """The windows by what became of them: all that are desired, and others that are going on."""
        standing = self.standing
        failed = [key for key in standing.missing if standing.failures.get(key)]
        return {
            "loaded": [key for key in standing.desired if key in standing.done],
            "going on": [key for key in sorted(standing.going_on) if _is_key(self.plan, key)],
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
            "windows": len(self.standing.desired),
            "attempts_failed": dict(self.standing.failures),
            "given_up": list(self.standing.given_up),
            **{
                name.replace(" ", "_"): {
                    "windows": len(keys),
                    "ranges": [
                        {"from": start, "to": end, "windows": number}
                        for start, end, number in merged(self.plan, keys)
                    ],
                }
                for name, keys in self.parts.items()
            },
        }


def _is_key(plan: "HistoryPlan", key: str) -> bool:
    try:
        plan.window(key)
    except ValueError:  # a range that somebody asked for, which is none of the windows
        return False
    return True


def _print(console: Console, story: _Story) -> None:
    backfill, total = story.plan.backfill, len(story.standing.desired)
    by_hand = "" if backfill.auto else ", loaded when asked for"
    title = Text(printable(story.plan.resource.name), "bold")
    windows = f"{total:,} {backfill.partition} window{'' if total == 1 else 's'}"
    console.print(title + Text(f"  {windows}{by_hand}", ""))
    for name, keys in story.parts.items():
        if keys:
            console.print(Text(f"  {name:8}  {len(keys):,}", _STYLES[name]))
        for start, end, number in merged(story.plan, keys):
            many = f"  ({number:,} windows)" if number > 1 else ""
            console.print(f"            {start} up to {end}{many}")
    for key in story.standing.given_up:
        times = story.standing.failures[key]
        again = f"restsource backfill {story.plan.connector.name} {story.plan.resource.name}"
        console.print(
            Text(f"  {key} failed {times} times and is left: retry it in the UI, or", "red")
        )
        start, end, _ = merged(story.plan, [key])[0]
        console.print(Text(f"    {again} --from {start} --to {end}", "red"))
