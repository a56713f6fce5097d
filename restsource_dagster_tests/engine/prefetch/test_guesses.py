"""What is foreseen of numbered pages, against what a reader really asks for."""

from typing import Any

import requests
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.page_iterator import PageGuard, PageIterator, PageResponse
from restsource_dagster.engine.paging.records import RecordReader
from restsource_dagster.engine.paging.safe_paginators import make_paginator
from restsource_dagster.engine.prefetch.page_prediction import PagePrediction, predicted_requests
from restsource_dagster.engine.prefetch.response_replay import request_key
from restsource_dagster_tests.engine.prefetch.answers import answer_of

MOST = 8


def course_of(paginator: Any, **params: Any) -> PageIterator:
    return PageIterator(
        resource="items",
        redactor=Redactor(),
        actions=(),
        request=requests.Request("GET", "http://127.0.0.1/items", params=params),
        paginator=make_paginator(paginator, counts_rows=True),
        reader=RecordReader("data"),
        guard=PageGuard(1000),
    )


class Api:
    """So many rows by page or by offset, asked without a network."""

    def __init__(self, rows: int, size: int, total: str | None) -> None:
        self.rows, self.size, self.total = rows, size, total

    def answer(self, request: requests.Request) -> PageResponse:
        start = int(request.params.get("offset", (request.params.get("page", 1) - 1) * self.size))
        count = max(0, min(self.size, self.rows - start))
        body: dict[str, Any] = {"data": [{"id": start + n} for n in range(count)]}
        if self.total == "rows":
            body["total"] = self.rows
        if self.total == "pages":
            body["total"] = -(-self.rows // self.size)
        return PageResponse(answer_of(body))


@st.composite
def paged(draw: st.DrawFn) -> tuple[Api, PageIterator, bool]:
    """An API, a course through it, and whether the API names how much there is."""
    size = draw(st.integers(1, 12))
    kind = draw(st.sampled_from(["page_number", "offset"]))
    total = draw(
        st.sampled_from([None, "rows", "pages"] if kind == "page_number" else [None, "rows"])
    )
    api = Api(draw(st.integers(0, 150)), size, total)
    path = "total" if total else None
    if kind == "offset":
        asked = draw(st.sampled_from([size, size + 3]))
        return api, course_of({"type": kind, "limit": asked, "total_path": path}), bool(total)
    params: dict[str, Any] = draw(
        st.sampled_from([{}, {"per_page": size}, {"per_page": str(size)}])
    )
    paginator = {"type": kind, "base_page": 1, "total_path": path}
    return api, course_of(paginator, **params), False


@given(paged())
@at_most(max_examples=300, deadline=None)
def test_what_is_foreseen_is_what_is_asked_for_and_never_much_more(
    case: tuple[Api, PageIterator, bool],
) -> None:
    api, course, is_known = case
    guesses = PagePrediction(MOST)
    foreseen: dict[int, str] = {}
    asked: dict[int, str] = {}
    request, last = course.next(), 1
    while request is not None:
        asked[course.number] = request_key(request)
        page = course.turn(api.answer(request))
        assert page is not None
        if not course.has_next_page:
            break
        request = course.next()
        guesses.learn(course, page)
        last = max(last, guesses.last)
        numbers = range(course.number + 1, guesses.last + 1)
        foreseen |= {
            n: request_key(ahead)
            for n, ahead in zip(numbers, predicted_requests(course), strict=False)
        }
    with_rows = -(-api.rows // api.size)
    for number, key in foreseen.items():
        # an offset moves by what came, so that after a page that came short it is another one
        assert number > with_rows or asked[number] == key
    past_the_end = last - max(asked)
    assert past_the_end <= (0 if is_known else MOST - 1)


def walked(api: Api, course: PageIterator, **guesses: Any) -> list[int]:
    """After each page, how many pages may be asked for beside the one that is sure to come."""
    made, spare = PagePrediction(MOST, **guesses), list[int]()
    request = course.next()
    while True:
        page = course.turn(api.answer(request))
        if page is None or not course.has_next_page:
            return spare
        request = course.next()
        made.learn(course, page)
        spare.append(made.last - course.number)


PAGES = {"type": "page_number", "base_page": 1, "total_path": None}


def test_without_a_total_guesses_grow_with_each_full_page() -> None:
    assert walked(Api(100, 10, None), course_of(PAGES, size=10)) == [1, 2, 4, 7, 7, 7, 7, 7, 7, 7]


def test_whether_the_first_page_is_full_shows_by_the_second_if_no_size_is_asked_for() -> None:
    assert walked(Api(60, 10, None), course_of(PAGES)) == [0, 1, 2, 4, 7, 7]


def test_a_page_that_is_not_full_is_likely_the_last() -> None:
    assert walked(Api(7, 10, None), course_of(PAGES, size=10)) == [0]
    assert walked(Api(27, 10, None), course_of(PAGES, size=10)) == [1, 2, 0]
    offset = {"type": "offset", "limit": 10, "total_path": None}
    assert walked(Api(7, 10, None), course_of(offset)) == [0]


def test_a_total_of_pages_tells_all_at_once() -> None:
    by_pages = {"type": "page_number", "base_page": 1, "total_path": "total"}
    assert walked(Api(60, 10, "pages"), course_of(by_pages)) == [4, 3, 2, 1, 0]


def test_a_total_of_rows_that_all_came_on_the_first_page_foresees_no_other() -> None:
    by_pages = {"type": "page_number", "base_page": 1, "total_path": "total"}
    assert walked(Api(7, 10, "rows"), course_of(by_pages, size=10)) == [0]


def test_where_requests_are_scarce_only_a_total_counts() -> None:
    assert walked(Api(40, 10, None), course_of(PAGES, size=10), by_total_only=True) == [0] * 4
    offset = {"type": "offset", "limit": 10, "total_path": "total"}
    assert walked(Api(40, 10, "rows"), course_of(offset), by_total_only=True) == [2, 1, 0]


def test_no_page_after_the_most_of_the_file_is_foreseen() -> None:
    course = course_of({**PAGES, "maximum_page": 4}, size=10)
    page = course.turn(Api(100, 10, None).answer(course.next()))
    assert page is not None
    course.next()
    assert [request.params["page"] for request in predicted_requests(course)] == [3]
