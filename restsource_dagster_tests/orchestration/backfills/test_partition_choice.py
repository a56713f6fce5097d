"""Which partitions are requested, over any order of runs, failures, kills, edits and restarts."""

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


def status(**changes: object) -> BackfillStatus:
    return BackfillStatus(**{"desired": THREE, "loaded": set(), "in_progress": set(), **changes})  # type: ignore[arg-type]


def test_the_newest_partition_comes_first() -> None:
    assert choose_next_partitions(status()).partition_keys == THREE[:1]
    assert choose_next_partitions(status(max_parallel=2)).partition_keys == THREE[:2]


def test_nothing_is_requested_while_a_live_run_waits() -> None:
    found = choose_next_partitions(status(has_live_run=True))
    assert found.partition_keys == ()
    assert found.text == "0 of 3 partitions loaded, waiting for the live run"


def test_a_partition_in_progress_that_is_not_desired_takes_a_place() -> None:
    assert choose_next_partitions(status(in_progress={"2019-01-01"})).partition_keys == ()


def test_a_partition_that_failed_too_often_is_skipped_and_the_next_one_requested() -> None:
    found = choose_next_partitions(status(failures={THREE[0]: 3}))
    assert found.partition_keys == THREE[1:2]
    assert found.text == "0 of 3 partitions loaded, 1 failed 3 times, 1 requested"


def test_a_partition_that_failed_less_often_is_requested_again() -> None:
    assert choose_next_partitions(status(failures={THREE[0]: 2})).partition_keys == THREE[:1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"loaded": set(THREE)}, "3 of 3 partitions loaded"),
        (
            {"loaded": {THREE[0]}, "in_progress": {THREE[1]}},
            "1 of 3 partitions loaded, 1 in progress",
        ),
        (
            {"desired": THREE[:1], "failures": {THREE[0]: 1}, "max_attempts": 1},
            "0 of 1 partition loaded, 1 failed once",
        ),
    ],
)
def test_the_tick_says_how_it_stands(changes: dict[str, object], text: str) -> None:
    assert choose_next_partitions(status(**changes)).text == text


@dataclass
class Run:
    partition: str
    definition: int
    attempt: int
    state: str = "in progress"


class Machine(RuleBasedStateMachine):
    """What Dagster knows, which is all that a decision is based on, and what may happen to it."""

    @initialize(
        partitions=st.integers(1, 6), max_parallel=st.integers(1, 3), max_attempts=st.integers(1, 3)
    )
    def start(self, partitions: int, max_parallel: int, max_attempts: int) -> None:
        self.oldest, self.newest = 10 - partitions, 10
        self.max_parallel, self.max_attempts = max_parallel, max_attempts
        self.definition, self.live = 0, False
        self.runs: list[Run] = []
        self.loaded: dict[str, int] = {}
        self.keys: set[tuple[str, int, int]] = set()

    @property
    def in_progress(self) -> list[Run]:
        return [run for run in self.runs if run.state == "in progress"]

    @property
    def desired(self) -> list[str]:
        return [f"{day:02}" for day in range(self.newest - 1, self.oldest - 1, -1)]

    def look(self) -> BackfillStatus:
        failures = Counter(
            run.partition
            for run in self.runs
            if run.state == "failed" and run.definition == self.definition
        )
        return BackfillStatus(
            desired=self.desired,
            loaded={key for key, under in self.loaded.items() if under == self.definition},
            in_progress={run.partition for run in self.in_progress},
            failures=failures,
            max_parallel=self.max_parallel,
            max_attempts=self.max_attempts,
            has_live_run=self.live,
        )

    def request(self, partition: str) -> None:
        ended = sum(run.partition == partition and run.state != "in progress" for run in self.runs)
        key = (partition, self.definition, ended)
        assert key not in self.keys, "a run key must let a new attempt through"
        self.keys.add(key)
        self.runs.append(Run(partition, self.definition, ended))

    @rule(created=st.integers(0, 5))
    def tick(self, created: int) -> None:
        """One tick; the daemon may be killed when it has created the first few runs."""
        before = self.look()
        asked = choose_next_partitions(before).partition_keys
        assert not (asked and self.live)
        assert not before.in_progress & set(asked)
        assert not before.loaded & set(asked)
        assert list(asked) == sorted(asked, reverse=True)
        left = [key for key in before.missing if key not in before.given_up]
        assert list(asked) == left[: len(asked)]
        for partition in asked[:created]:
            self.request(partition)

    @precondition(lambda self: self.in_progress)
    @rule(which=st.integers(0, 9), end=st.sampled_from(["done", "done", "failed"]))
    def end_run(self, which: int, end: str) -> None:
        self.finish(self.in_progress[which % len(self.in_progress)], end)

    def finish(self, run: Run, end: str) -> None:
        run.state = end
        if end == "done":
            self.loaded[run.partition] = run.definition

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
        partitions = [run.partition for run in self.in_progress]
        assert len(partitions) == len(set(partitions)) <= self.max_parallel

    def teardown(self) -> None:
        """From here on nothing fails, so every partition that was not given up is loaded once."""
        if not hasattr(self, "runs"):
            return
        self.live = False
        before = len(self.runs)
        for _ in range(100):
            for run in self.in_progress:
                self.finish(run, "done")
            asked = choose_next_partitions(self.look()).partition_keys
            if not asked:
                break
            for partition in asked:
                self.request(partition)
        end = self.look()
        assert set(end.missing) == set(end.given_up)
        assert all(end.failures[key] >= self.max_attempts for key in end.given_up)
        fresh = Counter(run.partition for run in self.runs[before:])
        assert set(fresh.values()) <= {1}
        assert choose_next_partitions(end).partition_keys == ()


TestAnyOrderOfEvents = Machine.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
