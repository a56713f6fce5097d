"""Which windows are asked for, over any order of runs, failures, kills, edits and restarts."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from restsource_dagster.orchestration.backfills.backfill_status import (
    BackfillStatus,
    choose_next_partitions,
)

THREE = ("2024-03-01", "2024-02-01", "2024-01-01")


def standing(**changes: object) -> BackfillStatus:
    return BackfillStatus(**{"desired": THREE, "done": set(), "going_on": set(), **changes})  # type: ignore[arg-type]


def test_the_newest_window_comes_first() -> None:
    assert choose_next_partitions(standing()).windows == THREE[:1]
    assert choose_next_partitions(standing(max_parallel=2)).windows == THREE[:2]


def test_nothing_is_asked_for_while_a_live_run_waits() -> None:
    found = choose_next_partitions(standing(live=True))
    assert found.windows == ()
    assert found.words == "0 of 3 windows loaded, waiting for the live run"


def test_a_window_that_somebody_else_asked_for_takes_a_place() -> None:
    assert choose_next_partitions(standing(going_on={"2019-01-01"})).windows == ()


def test_a_window_that_failed_too_often_is_left_and_the_next_one_is_asked_for() -> None:
    found = choose_next_partitions(standing(failures={THREE[0]: 3}))
    assert found.windows == THREE[1:2]
    assert found.words == "0 of 3 windows loaded, 1 failed 3 times, 1 asked for"


def test_a_window_that_failed_less_often_is_asked_for_again() -> None:
    assert choose_next_partitions(standing(failures={THREE[0]: 2})).windows == THREE[:1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"done": set(THREE)}, "3 of 3 windows loaded"),
        (
            {"done": {THREE[0]}, "going_on": {THREE[1]}},
            "1 of 3 windows loaded, 1 going on",
        ),
        (
            {"desired": THREE[:1], "failures": {THREE[0]: 1}, "max_attempts": 1},
            "0 of 1 window loaded, 1 failed once",
        ),
    ],
)
def test_the_tick_says_how_it_stands(changes: dict[str, object], words: str) -> None:
    assert choose_next_partitions(standing(**changes)).words == words


@dataclass
class Run:
    window: str
    definition: int
    attempt: int
    state: str = "going on"


class Machine(RuleBasedStateMachine):
    """Dagster's memory, which is all that the reconciler has, and what may happen to it."""

    @initialize(
        windows=st.integers(1, 6), max_parallel=st.integers(1, 3), max_attempts=st.integers(1, 3)
    )
    def start(self, windows: int, max_parallel: int, max_attempts: int) -> None:
        self.oldest, self.newest = 10 - windows, 10
        self.max_parallel, self.max_attempts = max_parallel, max_attempts
        self.definition, self.live = 0, False
        self.runs: list[Run] = []
        self.loaded: dict[str, int] = {}
        self.keys: set[tuple[str, int, int]] = set()

    @property
    def going_on(self) -> list[Run]:
        return [run for run in self.runs if run.state == "going on"]

    @property
    def desired(self) -> list[str]:
        return [f"{day:02}" for day in range(self.newest - 1, self.oldest - 1, -1)]

    def look(self) -> BackfillStatus:
        failures = Counter(
            run.window
            for run in self.runs
            if run.state == "failed" and run.definition == self.definition
        )
        return BackfillStatus(
            desired=self.desired,
            done={key for key, under in self.loaded.items() if under == self.definition},
            going_on={run.window for run in self.going_on},
            failures=failures,
            max_parallel=self.max_parallel,
            max_attempts=self.max_attempts,
            live=self.live,
        )

    def ask_for(self, window: str) -> None:
        ended = sum(run.window == window and run.state != "going on" for run in self.runs)
        key = (window, self.definition, ended)
        assert key not in self.keys, "a run key must let a new attempt through"
        self.keys.add(key)
        self.runs.append(Run(window, self.definition, ended))

    @rule(created=st.integers(0, 5))
    def tick(self, created: int) -> None:
        """One look; the daemon may be killed when it has created the first few runs."""
        before = self.look()
        asked = choose_next_partitions(before).windows
        assert not (asked and self.live)
        assert not before.going_on & set(asked)
        assert not before.done & set(asked)
        assert list(asked) == sorted(asked, reverse=True)
        left = [key for key in before.missing if key not in before.given_up]
        assert list(asked) == left[: len(asked)]
        for window in asked[:created]:
            self.ask_for(window)

    @precondition(lambda self: self.going_on)
    @rule(which=st.integers(0, 9), end=st.sampled_from(["done", "done", "failed"]))
    def end_run(self, which: int, end: str) -> None:
        self.finish(self.going_on[which % len(self.going_on)], end)

    def finish(self, run: Run, end: str) -> None:
        run.state = end
        if end == "done":
            self.loaded[run.window] = run.definition

    @rule()
    def live_run_comes_or_goes(self) -> None:
        self.live = not self.live

    @rule(definition=st.integers(0, 2))
    def change_the_definition(self, definition: int) -> None:
        self.definition = definition

    @precondition(lambda self: self.oldest > 0)
    @rule()
    def move_the_start(self) -> None:
        self.oldest -= 1

    @invariant()
    def at_most_max_parallel_and_never_two_of_one_window(self) -> None:
        windows = [run.window for run in self.going_on]
        assert len(windows) == len(set(windows)) <= self.max_parallel

    def teardown(self) -> None:
        """From here on everything works, so everything that was not given up gets loaded once."""
        if not hasattr(self, "runs"):
            return
        self.live = False
        before = len(self.runs)
        for _ in range(100):
            for run in self.going_on:
                self.finish(run, "done")
            asked = choose_next_partitions(self.look()).windows
            if not asked:
                break
            for window in asked:
                self.ask_for(window)
        end = self.look()
        assert set(end.missing) == set(end.given_up)
        assert all(end.failures[key] >= self.max_attempts for key in end.given_up)
        fresh = Counter(run.window for run in self.runs[before:])
        assert set(fresh.values()) <= {1}
        assert choose_next_partitions(end).windows == ()


TestAnyOrderOfEvents = Machine.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
