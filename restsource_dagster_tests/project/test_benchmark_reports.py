"""What the benchmarks report is what was measured, and the documents show it."""

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import medians, ratios, reached
from benchmarks.model import Bench, Case, Contestant, Goal, Sample
from benchmarks.plot import svg
from benchmarks.publish import DOCUMENT, PLOT, published, with_results
from benchmarks.report import goals_table, markdown
from benchmarks.results import LATEST, OtherCircumstancesError, case_document, merged, read_results
from benchmarks.runner import Measured

AROUND: dict[str, Any] = {
    "machine": {"processor": "A Processor", "cores": 2, "memory": 2**34, "system": "Linux 6"},
    "versions": {"python": "3.11.7", "dlt": "1.31.0"},
}
seconds = st.floats(min_value=0.01, max_value=1_000)


def walls(*values: float) -> list[Sample]:
    return [{"wall": value} for value in values]


def test_a_measure_that_a_round_lacks_has_no_median() -> None:
    assert medians([{"wall": 1.0, "cpu": 2.0}, {"wall": 3.0}, {"wall": 2.0}]) == {"wall": 2.0}


@pytest.mark.parametrize(
    ("limits", "met"),
    [
        ({"at_least": 2.0}, True),
        ({"at_least": 2.1}, False),
        ({"at_most": 2.0}, True),
        ({"at_most": 1.9}, False),
        ({}, None),
    ],
)
def test_a_goal_is_met_at_its_very_limit(limits: dict[str, Any], met: bool | None) -> None:
    goal = Goal(1, "twice as fast", "wall", "slow", "fast", **limits)
    standing = reached(goal, {"slow": walls(4, 6, 2), "fast": walls(2, 2, 2)})
    assert (standing.value, standing.spread, standing.met) == (2.0, (1.0, 3.0), met)


def test_a_goal_without_a_second_contestant_is_about_the_measure_itself() -> None:
    goal = Goal(1, "at most three seconds", "wall", "it", at_most=3)
    standing = reached(goal, {"it": walls(2, 3, 5)})
    assert (standing.value, standing.spread, standing.met) == (3, (2, 5), True)


@pytest.mark.parametrize("missing", [{"slow": []}, {"fast": []}, {}])
def test_a_goal_that_was_not_measured_is_neither_met_nor_missed(missing: dict[str, Any]) -> None:
    samples = {"slow": walls(1), "fast": walls(1)} | missing if missing else {}
    standing = reached(Goal(1, "", "wall", "slow", "fast", at_least=1), samples)
    assert (standing.value, standing.spread, standing.met) == (None, None, None)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=9), st.floats(0.1, 10))
def test_a_slower_clock_changes_no_ratio(rounds: list[tuple[float, float]], pace: float) -> None:
    def standing(pace: float) -> Sequence[float]:
        samples = {
            "a": walls(*(a * pace for a, _ in rounds)),
            "b": walls(*(b * pace for _, b in rounds)),
        }
        found = reached(Goal(1, "", "wall", "a", "b"), samples)
        assert found.value is not None
        assert found.spread is not None
        return [found.value, *found.spread]

    assert standing(pace) == pytest.approx(standing(1))


@given(st.lists(seconds, min_size=1, max_size=9))
def test_nothing_is_faster_than_itself(values: list[float]) -> None:
    assert ratios(walls(*values), walls(*values), "wall") == [1.0] * len(values)


def document(*names: str, wall: float = 1.0, failure: str | None = None) -> dict[str, Any]:
    """Results of cases in which B takes two times as long as A."""

    def run(bench: Bench) -> Sample:
        raise NotImplementedError(bench)

    a, b = (Contestant(letter, letter.upper(), "ours", run) for letter in "ab")
    cases = []
    for name in names:
        goal = Goal(1, "faster than b", "wall", "b", "a", at_least=2, also="cpu")
        case = Case(name, f"Case {name}", (a, b), (goal,), shown=("wall", "cpu", "rss"))
        cost = {"wall": wall, "cpu": wall, "rss": 2e8}
        double = {measure: 2 * value for measure, value in cost.items()}
        measured = [Measured(a, [cost] * 2, failure), Measured(b, [double] * 2)]
        if failure:
            measured[0].samples.clear()
        cases.append(case_document(case, measured, command="python -m benchmarks"))
    return merged(None, cases, **AROUND)


def test_new_results_take_the_place_of_those_of_the_same_case() -> None:
    old, new = document("one", "two"), document("three", "one", wall=5)
    both = merged(old, new["cases"], **AROUND)
    assert [case["name"] for case in both["cases"]] == ["one", "two", "three"]
    walls_of_a = [case["contestants"][0]["median"]["wall"] for case in both["cases"]]
    assert walls_of_a == [5, 1, 5]


def test_results_of_other_versions_are_not_mixed() -> None:
    newer = AROUND | {"versions": {"python": "3.11.8"}}
    with pytest.raises(OtherCircumstancesError, match="two: measured on another machine"):
        merged(document("one", "two"), document("one")["cases"], **newer)
    whole = merged(document("one"), document("one")["cases"], **newer)
    assert whole["versions"] == {"python": "3.11.8"}


def test_the_report_shows_ratio_spread_and_verdict() -> None:
    assert "| 1 | faster than b | wall | ≥ 2x | 2x | 2x to 2x | CPU: 2.00x | met |" in goals_table(
        document("one")
    )


def test_the_report_says_why_something_was_not_measured() -> None:
    text = markdown(document("one", failure="it is\nnot installed"))
    assert "| A | - | - | - |" in text
    assert "- A: not measured. it is not installed" in text
    assert "| 1 | faster than b | wall | ≥ 2x | - | - |  | - |" in text


def test_the_plot_has_a_bar_for_each_contestant_that_was_measured() -> None:
    tree = ElementTree.fromstring(svg(document("one", "two")))  # noqa: S314 - our own
    bars = [
        one for one in tree.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "15"
    ]
    assert [float(bar.get("width", 0)) for bar in bars] == [215, 430, 215, 430]


def test_results_are_written_between_the_markers_and_nowhere_else() -> None:
    text = "before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n"
    written = with_results(text, "new")
    assert written == text.replace("old", "new")
    assert published(written) == "new"


def test_the_document_shows_the_latest_results() -> None:
    results = read_results(LATEST)
    assert results is not None
    assert published(DOCUMENT.read_text(encoding="utf-8")) == markdown(results)
    assert PLOT.read_text(encoding="utf-8") == svg(results)
