from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.orchestration.sensors.watch_files import (
    FIRST_BACKOFF_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    MAX_WAIT_SECONDS,
    RELOAD_BURST,
    RELOAD_PATIENCE_SECONDS,
    RELOAD_REFILL_SECONDS,
    FolderObservation,
    WatchState,
    after_failed_reload,
    after_reload_request,
    decide_reload,
)

NOW = 1_800_000_000.0
TICK = 5.0
LOOK = FolderObservation(
    fingerprint="new", loaded_fingerprint="old", modified_at=NOW - 60, now=NOW, last_tick=NOW - TICK
)


def later(look: FolderObservation, seconds: float = TICK, **changes: object) -> FolderObservation:
    moved = replace(look, now=look.now + seconds, last_tick=look.now)
    return replace(moved, **changes)  # type: ignore[arg-type]


def test_an_unchanged_folder_rests() -> None:
    decision = decide_reload(WatchState(), replace(LOOK, fingerprint="old"))

    assert (decision.action, decision.state) == ("rest", WatchState())


def test_a_changed_folder_that_is_quiet_reloads_at_the_first_look() -> None:
    assert decide_reload(WatchState(), LOOK).action == "reload"


def test_a_file_that_is_being_written_is_left_alone_until_two_looks_agree() -> None:
    first = decide_reload(WatchState(), replace(LOOK, modified_at=NOW - 0.2))
    still = later(LOOK, fingerprint="newer", modified_at=NOW + TICK - 0.2)
    second = decide_reload(first.state, still)
    third = decide_reload(second.state, later(still))

    assert [first.action, second.action, third.action] == ["rest", "rest", "reload"]
    assert "being written" in first.text


def test_a_file_dated_in_the_future_is_taken_when_two_looks_agree() -> None:
    look = replace(LOOK, modified_at=NOW + 86_400)
    first = decide_reload(WatchState(), look)

    assert [first.action, decide_reload(first.state, later(look)).action] == ["rest", "reload"]


def test_a_folder_that_never_gets_quiet_is_read_all_the_same() -> None:
    state, actions = WatchState(), []
    for number in range(5):
        now = NOW + number * TICK
        decision = decide_reload(
            state, replace(LOOK, fingerprint=str(number), modified_at=now, now=now)
        )
        state = decision.state
        actions.append(decision.action)

    assert actions.index("reload") == MAX_WAIT_SECONDS // TICK


def test_after_a_reload_that_worked_it_rests_and_has_forgotten_all_trouble() -> None:
    state = after_reload_request(
        replace(after_failed_reload(WatchState(), LOOK, "oh", NOW), retry_at=0.0),
        LOOK,
        "code server",
        NOW,
    )

    decision = decide_reload(state, later(LOOK, loaded_fingerprint="new"))

    assert decision.action == "rest"
    assert (decision.state.failures, decision.state.asked_from) == (0, None)


def test_a_change_during_the_reload_is_reloaded_next() -> None:
    state = after_reload_request(WatchState(), LOOK, "code server", NOW)

    assert (
        decide_reload(state, later(LOOK, loaded_fingerprint="new", fingerprint="newest")).action
        == "reload"
    )


@pytest.mark.parametrize("via", ["code server", "webserver"])
def test_old_definitions_are_borne_for_a_while_after_asking(via: str) -> None:
    state = after_reload_request(WatchState(), LOOK, via, NOW)
    patience = RELOAD_PATIENCE_SECONDS[via]

    waiting = decide_reload(state, later(LOOK, patience - 1))
    over = decide_reload(waiting.state, later(LOOK, patience + 1))

    assert (waiting.action, over.action) == ("rest", "rest")
    assert "waiting for the new definitions" in waiting.text
    assert "`dagster api grpc`" in over.text
    assert over.state.failures == 1


def test_a_failure_fails_one_tick_then_pauses_then_tries_again() -> None:
    look, actions = LOOK, []
    state = after_failed_reload(
        decide_reload(WatchState(), look).state, look, "The code server did not reload.", look.now
    )
    for _ in range(int(FIRST_BACKOFF_SECONDS // TICK)):
        look = later(look)
        decision = decide_reload(state, look)
        actions.append(decision.action)
        if decision.action != "fail":  # a failed tick keeps no cursor
            state = decision.state

    assert actions == ["fail", "rest", "reload"]


def test_the_pause_grows_with_each_failure_up_to_a_limit() -> None:
    state, pauses = WatchState(), []
    for _ in range(12):
        state = after_failed_reload(state, LOOK, "no", NOW)
        pauses.append(state.retry_at - LOOK.now)

    assert pauses[:3] == [15, 30, 60]
    assert pauses[-1] == LONGEST_BACKOFF_SECONDS


def test_a_file_changed_back_while_pausing_after_a_failure_rests_at_once() -> None:
    state = after_failed_reload(WatchState(), LOOK, "no", NOW)

    decision = decide_reload(state, later(LOOK, fingerprint="old"))

    assert (decision.action, decision.state.failures) == ("rest", 0)


def test_a_clock_that_was_set_back_does_not_stop_reloads() -> None:
    spent = WatchState(credit=0.0, credit_at=NOW + 86_400, retry_at=NOW + 86_400)

    assert decide_reload(spent, LOOK).action == "reload"


@given(
    gaps=st.lists(st.floats(0.5, 90), min_size=1, max_size=150),
    quiet=st.lists(st.booleans(), min_size=150, max_size=150),
)
def test_a_folder_that_changes_without_end_is_reloaded_a_bounded_number_of_times(
    gaps: list[float], quiet: list[bool]
) -> None:
    state, now, loaded, reloads = WatchState(), NOW, "start", []
    for number, gap in enumerate(gaps):
        now += gap
        touched = now - (5 if quiet[number] else 0)
        look = FolderObservation(str(number), loaded, touched, now, now - gap)
        decision = decide_reload(state, look)
        state = decision.state
        if decision.action == "reload":
            state, loaded = (
                after_reload_request(state, look, "code server", now),
                f"loaded {number}",
            )
            reloads.append(now)

    for start in range(len(reloads)):
        for end in range(start, len(reloads)):
            span = reloads[end] - reloads[start]
            assert end - start + 1 <= RELOAD_BURST + span / RELOAD_REFILL_SECONDS + 1e-6


@given(
    gaps=st.lists(st.floats(0.5, 90), min_size=1, max_size=150),
)
def test_a_quiet_change_is_reloaded_within_the_time_of_one_refill(gaps: list[float]) -> None:
    state, now, waited = WatchState(), NOW, 0.0
    for number, gap in enumerate(gaps):
        now += gap
        waited += gap
        look = FolderObservation(f"{number}", f"loaded {number}", now - 30, now, now - gap)
        decision = decide_reload(state, look)
        state = decision.state
        if decision.action == "reload":
            state, waited = after_reload_request(state, look, "code server", now), 0.0
        assert waited <= RELOAD_REFILL_SECONDS + gap


@given(
    st.one_of(
        st.text(),
        st.sampled_from(
            [
                "null",
                "[1]",
                '{"version": 1, "credit": "many"}',
                '{"version": 1, "seen": 7}',
                '{"version": 1, "unknown": 7}',
                '{"version": 2}',
            ]
        ),
    )
)
def test_a_cursor_that_is_not_ours_counts_as_none(text: str) -> None:
    assert WatchState.read(text) == WatchState()


def test_a_state_comes_back_from_its_cursor_and_stays_small() -> None:
    state = after_reload_request(
        after_failed_reload(decide_reload(WatchState(), LOOK).state, LOOK, "no " * 9999, NOW),
        LOOK,
        "webserver",
        NOW,
    )

    assert WatchState.read(state.as_text()) == state
    assert len(state.as_text()) < 2000
