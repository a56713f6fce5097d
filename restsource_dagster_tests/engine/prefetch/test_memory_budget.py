"""Memory of prefetched pages is reserved and released exactly."""

from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.engine.prefetch.prefetched_page import MemoryBudget, MemoryReservation

SIZES = st.integers(0, 400)


@given(
    expected=st.lists(SIZES, min_size=1, max_size=6),
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["grow", "resize", "move"]), SIZES)
    ),
)
def test_the_budget_is_the_sum_of_its_reservations_and_empty_after_their_release(
    expected: list[int], steps: list[tuple[int, str, int]]
) -> None:
    budget, other = MemoryBudget(1000), MemoryBudget(1000)
    reservations = [MemoryReservation(budget, size) for size in expected]
    for at, step, size in steps:
        reservation = reservations[at % len(reservations)]
        if step == "grow":
            reservation.grow(size)
        elif step == "resize":
            reservation.resize(size)
        else:
            reservation.move_to(other)
        assert budget.used_bytes + other.used_bytes == sum(
            one.reserved_bytes for one in reservations
        )
    for reservation in reservations:
        reservation.release()
    assert (budget.used_bytes, other.used_bytes) == (0, 0)


@given(pieces=st.lists(st.integers(1, 300)), expected=st.integers(0, 1000))
def test_a_response_is_received_until_the_budget_is_used_up(
    pieces: list[int], expected: int
) -> None:
    budget = MemoryBudget(1000)
    reservation = MemoryReservation(budget, expected)
    read = 0
    for piece in pieces:
        read += piece
        assert reservation.grow(piece) == (max(expected, read) <= 1000)
        if read > 1000:
            break
    assert budget.used_bytes <= 1000


@given(pieces=st.lists(st.integers(1, 300)))
def test_a_required_response_is_received_whatever_its_size(pieces: list[int]) -> None:
    budget = MemoryBudget(100)
    reservation = MemoryReservation(budget, 50)
    reservation.is_required = True
    assert all(reservation.grow(piece) for piece in pieces)
    assert budget.used_bytes == max(50, sum(pieces))


def test_a_full_budget_reports_that_it_was_exhausted() -> None:
    budget = MemoryBudget(100)
    assert budget.reserve(90)
    assert not budget.was_exhausted
    assert not budget.has_room_for(20)
    assert budget.was_exhausted
    assert not budget.reserve(20)
    assert budget.reserve(20, force=True)
    budget.release(110)
    assert budget.used_bytes == 0
