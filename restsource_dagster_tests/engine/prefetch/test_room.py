"""How bytes are counted that nobody has asked for yet."""

from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.engine.prefetch.memory_budget import MemoryBudget, MemoryReservation

SIZES = st.integers(0, 400)


@given(
    expected=st.lists(SIZES, min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["grow", "set", "move"]), SIZES)),
)
def test_what_is_held_is_the_sum_of_what_each_holds_and_nothing_in_the_end(
    expected: list[int], steps: list[tuple[int, str, int]]
) -> None:
    room, other = MemoryBudget(1000), MemoryBudget(1000)
    holdings = [MemoryReservation(room, size) for size in expected]
    for at, step, size in steps:
        holding = holdings[at % len(holdings)]
        if step == "grow":
            holding.grow(size)
        elif step == "set":
            holding.set(size)
        else:
            holding.move_to(other)
        assert room.used_bytes + other.used_bytes == sum(one.size for one in holdings)
    for holding in holdings:
        holding.release()
    assert (room.used_bytes, other.used_bytes) == (0, 0)


@given(pieces=st.lists(st.integers(1, 300)), expected=st.integers(0, 1000))
def test_an_answer_is_read_as_far_as_there_is_room(pieces: list[int], expected: int) -> None:
    room = MemoryBudget(1000)
    holding = MemoryReservation(room, expected)
    read = 0
    for piece in pieces:
        read += piece
        assert holding.grow(piece) == (max(expected, read) <= 1000)
        if read > 1000:
            break
    assert room.used_bytes <= 1000


@given(pieces=st.lists(st.integers(1, 300)))
def test_an_answer_that_somebody_waits_for_is_read_whatever_its_size(pieces: list[int]) -> None:
    room = MemoryBudget(100)
    holding = MemoryReservation(room, 50)
    holding.is_required = True
    assert all(holding.grow(piece) for piece in pieces)
    assert room.used_bytes == max(50, sum(pieces))


def test_a_room_that_is_full_says_so_once() -> None:
    room = MemoryBudget(100)
    assert room.take(90)
    assert not room.was_exhausted
    assert not room.has(20)
    assert room.was_exhausted
    assert not room.take(20)
    assert room.take(20, whatever=True)
    room.release(110)
    assert room.used_bytes == 0
