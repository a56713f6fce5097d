"""The results as Markdown: the goals, then one table per case."""

from collections.abc import Iterator
from typing import Any

from benchmarks.measures import MEASURES

__all__ = ["circumstances", "goals_table", "markdown"]

Document = dict[str, Any]
_VERDICTS = {True: "met", False: "**not met**", None: "-"}


def markdown(document: Document) -> str:
    """Return the whole report."""
    parts = [circumstances(document), goals_table(document)]
    parts += [_case(case) for case in document["cases"]]
    return "\n\n".join(parts)


def circumstances(document: Document) -> str:
    """Return the machine, versions, commands and dates in a few lines."""
    machine, cases = document["machine"], document["cases"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    commands = ", ".join(f"`{text}`" for text in _distinct(case["command"] for case in cases))
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory'] / 2**30:.0f} GiB, "
        f"{machine['system']}; {versions}. Measured {', '.join(_distinct(c['date'] for c in cases))} by "
        f"{commands}."
    )


def goals_table(document: Document) -> str:
    """Return every goal with its figures: ratio of medians, and spread of the rounds' ratios."""
    goals = [goal for case in document["cases"] for goal in case["goals"]]
    rows = [
        f"| {goal['row']} | {goal['text']} | {MEASURES[goal['measure']].title} | {_aim(goal)} "
        f"| {_value(goal)} | {_spread(goal)} | {_also(goal)} | {_VERDICTS[goal['met']]} |"
        for goal in sorted(goals, key=lambda goal: int(goal["row"]))
    ]
    head = (
        "| # | what | by | goal | measured | spread | and by | |\n|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *rows])


def _aim(goal: Document) -> str:
    if goal["at_least"] is not None:
        return f"≥ {_written(goal, goal['at_least'])}"
    return "-" if goal["at_most"] is None else f"≤ {_written(goal, goal['at_most'])}"


def _value(goal: Document) -> str:
    return "-" if goal["value"] is None else _written(goal, goal["value"])


def _spread(goal: Document) -> str:
    if goal["spread"] is None:
        return "-"
    return " to ".join(_written(goal, bound) for bound in goal["spread"])


def _also(goal: Document) -> str:
    if goal["also_value"] is None:
        return ""
    return f"{MEASURES[goal['also']].title}: {goal['also_value']:.2f}x"


def _written(goal: Document, value: float) -> str:
    return MEASURES[goal["measure"]].written(value) if goal["to"] is None else f"{value:.3g}x"


def _case(case: Document) -> str:
    shown = [MEASURES[name] for name in case["shown"]]
    lines = [
        f"### {case['title']}",
        "",
        f"| | {' | '.join(measure.title for measure in shown)} |",
        f"|---|{'---|' * len(shown)}",
    ]
    for one in case["contestants"]:
        values = (
            MEASURES[name].written(one["median"][name]) if name in one["median"] else "-"
            for name in case["shown"]
        )
        lines.append(f"| {one['label']} | {' | '.join(values)} |")
    notes = list(_notes(case))
    return "\n".join([*lines, "", *notes] if notes else lines)


def _notes(case: Document) -> Iterator[str]:
    for one in case["contestants"]:
        if one["failure"]:
            yield f"- {one['label']}: not measured. {' '.join(one['failure'].split())}"
        elif one["note"]:
            yield f"- {one['label']}: {one['note']}."


def _distinct(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(values))
