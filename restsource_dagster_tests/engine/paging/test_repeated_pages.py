"""Repeated pages are found by a sample of their records, and no page is taken for another."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.paging.page_iterator import PageGuard
from restsource_dagster_tests.engine.prefetch.reading import read
from restsource_dagster_tests.faults.test_endless_paging import NUMBER
from restsource_dagster_tests.servers.faults import Arrival, FaultServer

Records = list[dict[str, int]]

SIZES = st.integers(3, 400)


def page_of(size: int) -> Records:
    return [{"id": at, "value": 0} for at in range(size)]


def changed(records: Records, at: int) -> Records:
    """The records, one of which has another value."""
    other = deepcopy(records)
    other[at]["value"] += 1
    return other


def first_problem(pages: list[Records]) -> tuple[int, str] | None:
    """The number of the page with a problem, and the problem; None if there is none."""
    guard = PageGuard(len(pages))
    for number, records in enumerate(pages, 1):
        problem, _ = guard.check_records(records, number)
        if problem:
            return number, problem
    return None


@given(size=SIZES, before=st.integers(0, 3))
@at_most(deadline=None)
def test_a_repeated_page_is_found_one_page_later_at_most(size: int, before: int) -> None:
    others = [[{"id": at, "value": 1 + one} for at in range(size)] for one in range(before)]
    again = [page_of(size) for _ in range(3)]
    found = first_problem([*others, *again])
    assert found is not None
    number, problem = found
    assert number == before + (2 if size <= 50 else 3)
    assert problem.startswith(f"page {number} has the very records of page {number - 1}")


@given(size=SIZES, places=st.lists(st.integers(0, 399), max_size=12, unique=True))
@at_most(deadline=None)
def test_pages_that_differ_in_one_record_only_are_no_repetition(
    size: int, places: list[int]
) -> None:
    pages = [page_of(size), *(changed(page_of(size), at) for at in places if at < size)]
    assert first_problem(pages) is None


def test_every_record_of_a_large_page_may_be_the_one_that_differs() -> None:
    for size in (51, 100, 101, 1000):
        pages = [page_of(size), *(changed(page_of(size), at) for at in range(size))]
        assert first_problem(pages) is None


def test_large_pages_that_alternate_are_found_within_two_rounds() -> None:
    round_of_three: list[Any] = [changed(page_of(200), at) for at in (0, 50, 199)]
    number, _ = first_problem(round_of_three * 3) or (0, "")
    assert 3 < number <= 7


def test_pages_that_agree_in_all_but_their_number_of_records_are_no_repetition() -> None:
    assert first_problem([page_of(size) for size in range(200, 40, -1)]) is None


@pytest.mark.parametrize("max_concurrency", [1, 2, 8])
def test_large_pages_are_distinguished_with_and_without_prefetch(
    server: FaultServer, max_concurrency: int
) -> None:
    """A prefetch passes its digests on to the page loop."""
    pages = [page_of(120), *(changed(page_of(120), at) for at in (1, 50, 118))]

    def answer(seen: Arrival) -> Any:
        number = int(seen.query["page"])
        return {"data": pages[number - 1] if number <= len(pages) else []}

    server.plan["/items"] = answer
    seen = read(server, max_concurrency, selector="data", paginator=NUMBER)
    assert (seen.error, seen.pages) == (None, [*pages, []])
    pages[2:] = [pages[1]] * 5
    seen = read(server, max_concurrency, selector="data", paginator=NUMBER)
    assert "page 3 has the very records of page 2" in str(seen.error)
