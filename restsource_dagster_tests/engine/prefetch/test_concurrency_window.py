"""How many requests may be in progress at once: the arithmetic, without requests."""

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.http.concurrency import ConcurrencyWindow

FAST, SLOW = 0.02, 0.5


def respond(
    window: ConcurrencyWindow, responses: int, *, status: int = 200, seconds: float = FAST
) -> None:
    """Let so many responses arrive, one after the other, while the window is full."""
    for _ in range(responses):
        window.responded(
            "shop/orders", status, seconds, halvings=window.halvings, in_progress=window.size
        )


@pytest.mark.parametrize(("most", "start"), [(1, 1), (3, 3), (8, 8), (16, 8), (256, 8)])
def test_it_begins_with_eight_or_the_maximum(most: int, start: int) -> None:
    assert ConcurrencyWindow(most).size == start


def test_it_doubles_with_a_round_of_responses() -> None:
    window = ConcurrencyWindow(256)
    respond(window, 8)
    assert window.size == 16
    respond(window, 16)
    assert window.size == 32


def test_it_does_not_grow_while_it_is_not_filled() -> None:
    window = ConcurrencyWindow(20)
    for _ in range(100):
        window.responded("shop/orders", 200, FAST, halvings=0, in_progress=7)
    assert window.size == 8


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_halves_it_and_then_it_grows_by_one_for_each_round(status: int) -> None:
    window = ConcurrencyWindow(20)
    respond(window, 1, status=status)
    assert window.size == 4
    sizes = []
    for _ in range(4 + 5 + 6 + 7):
        respond(window, 1)
        sizes.append(window.size)
    assert sizes == [4] * 3 + [5] * 5 + [6] * 6 + [7] * 7 + [8]


def test_requests_that_are_refused_together_halve_it_once() -> None:
    window = ConcurrencyWindow(20)
    for _ in range(8):
        window.responded("shop/orders", 429, FAST, halvings=0, in_progress=8)
    assert window.size == 4


def test_a_number_that_was_refused_is_not_tried_again() -> None:
    window = ConcurrencyWindow(20)
    respond(window, 5)
    assert window.size == 13
    respond(window, 1, status=429)
    respond(window, 1000)
    assert window.size == 12


def test_refusals_never_keep_it_below_the_usual_number() -> None:
    """A rate limit refuses now and then, however few requests are sent at once."""
    window = ConcurrencyWindow(20)
    for _ in range(10):
        respond(window, 1, status=429)
    assert window.size == 1
    respond(window, 1000)
    assert window.size >= 8


def test_slow_responses_take_back_growth_only() -> None:
    window = ConcurrencyWindow(20)
    respond(window, 12)
    assert window.size == 20
    respond(window, 8, seconds=SLOW)
    assert window.size == 10
    respond(window, 80, seconds=SLOW)
    assert window.size >= 8


def test_one_fast_response_among_slow_ones_shows_that_the_api_keeps_up() -> None:
    window = ConcurrencyWindow(20)
    respond(window, 12)
    for _ in range(20):
        respond(window, 7, seconds=SLOW)
        respond(window, 1)
    assert window.size == 20


def test_resources_are_compared_with_themselves() -> None:
    window = ConcurrencyWindow(20)
    respond(window, 12)
    for _ in range(50):
        window.responded(
            "shop/reports", 200, SLOW, halvings=window.halvings, in_progress=window.size
        )
    assert window.size == 20


RESPONSES = st.tuples(
    st.sampled_from(["shop/orders", "shop/users"]),
    st.sampled_from([200, 200, 200, 200, 404, 429, 500, 503]),
    st.floats(0.0, 2.0),
    st.integers(0, 2),
    st.integers(1, 40),
)


@given(most=st.integers(1, 64), responses=st.lists(RESPONSES, max_size=200))
@at_most(max_examples=200, deadline=None)
def test_whatever_arrives_it_stays_within_its_bounds_and_changes_by_the_rule(
    most: int, responses: list[tuple[str, int, float, int, int]]
) -> None:
    window = ConcurrencyWindow(most)
    for sender, status, seconds, age, in_progress in responses:
        before, halvings = window.size, window.halvings
        sent_at = max(0, halvings - age)
        window.responded(sender, status, seconds, halvings=sent_at, in_progress=in_progress)
        assert 1 <= window.size <= most
        if window.halvings > halvings:
            assert sent_at == halvings
            assert window.size == max(before // 2, 1 if status in (429, 503) else min(8, most))
        else:
            assert window.size - before in (0, 1)
            assert window.size == before or (in_progress >= before and status not in (429, 503))
