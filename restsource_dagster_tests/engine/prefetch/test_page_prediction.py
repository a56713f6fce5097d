"""Predicted pages and requests, compared with those that the page loop really requests."""

from typing import Any

import requests
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.paging.page_iterator import PageGuard, PageIterator, PageResponse
from restsource_dagster.engine.paging.records import RecordReader
from restsource_dagster.engine.prefetch.call_prefetch import request_key
from restsource_dagster.engine.prefetch.page_prediction import PagePrediction, predicted_requests
from restsource_dagster_tests.engine.prefetch.responses import response_of
from restsource_dagster_tests.faults.http_parts import paginator_of

MAX_THREADS = 8


def iterator_of(paginator: Any, **params: Any) -> PageIterator:
    return PageIterator(
        resource="items",
        redactor=Redactor(),
        actions=(),
        request=requests.Request("GET", "http://127.0.0.1/items", params=params),
        paginator=paginator_of(paginator),
        record_reader=RecordReader("data"),
        guard=PageGuard(1000),
    )


class Api:
    """An API without a network: so many rows by page or by offset."""

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
        return PageResponse(response_of(body))


@st.composite
def paged(draw: st.DrawFn) -> tuple[Api, PageIterator, bool]:
    """An API, an iterator over its pages, and True if the API states a total."""
    size = draw(st.integers(1, 12))
    kind = draw(st.sampled_from(["page_number", "offset"]))
    total = draw(
        st.sampled_from([None, "rows", "pages"] if kind == "page_number" else [None, "rows"])
    )
    api = Api(draw(st.integers(0, 150)), size, total)
    path = "total" if total else None
    if kind == "offset":
        asked = draw(st.sampled_from([size, size + 3]))
        return api, iterator_of({"type": kind, "limit": asked, "total_path": path}), bool(total)
    params: dict[str, Any] = draw(
        st.sampled_from([{}, {"per_page": size}, {"per_page": str(size)}])
    )
    paginator = {"type": kind, "base_page": 1, "total_path": path}
    return api, iterator_of(paginator, **params), False


@given(paged())
@at_most(max_examples=300, deadline=None)
def test_predicted_requests_are_those_of_the_page_loop_and_never_many_more(
    case: tuple[Api, PageIterator, bool],
) -> None:
    api, pages, is_known = case
    prediction = PagePrediction(MAX_THREADS)
    predicted: dict[int, str] = {}
    requested: dict[int, str] = {}
    request, last = pages.next_request(), 1
    while request is not None:
        requested[pages.page_number] = request_key(request)
        page = pages.advance(api.answer(request))
        assert page is not None
        if not pages.has_next_page:
            break
        request = pages.next_request()
        prediction.observe(pages, page)
        last = max(last, prediction.last_page)
        numbers = range(pages.page_number + 1, prediction.last_page + 1)
        predicted |= {
            n: request_key(request)
            for n, request in zip(numbers, predicted_requests(pages), strict=False)
        }
    with_rows = -(-api.rows // api.size)
    for number, key in predicted.items():
        # an offset moves by the rows that arrived, so after a short page it is another one
        assert number > with_rows or requested[number] == key
    past_the_end = last - max(requested)
    assert past_the_end <= (0 if is_known else MAX_THREADS - 1)


def pages_ahead(api: Api, pages: PageIterator, **options: Any) -> list[int]:
    """After each page, how many pages may be requested beyond the next one."""
    prediction, spare = PagePrediction(MAX_THREADS, **options), list[int]()
    request = pages.next_request()
    while True:
        page = pages.advance(api.answer(request))
        if page is None or not pages.has_next_page:
            return spare
        request = pages.next_request()
        prediction.observe(pages, page)
        spare.append(prediction.last_page - pages.page_number)


PAGES = {"type": "page_number", "base_page": 1, "total_path": None}


def test_without_a_total_predictions_grow_with_each_full_page() -> None:
    assert pages_ahead(Api(100, 10, None), iterator_of(PAGES, size=10)) == [
        1,
        2,
        4,
        7,
        7,
        7,
        7,
        7,
        7,
        7,
    ]


def test_without_a_page_size_the_second_page_shows_that_the_first_was_full() -> None:
    assert pages_ahead(Api(60, 10, None), iterator_of(PAGES)) == [0, 1, 2, 4, 7, 7]


def test_no_page_is_predicted_after_one_that_is_not_full() -> None:
    assert pages_ahead(Api(7, 10, None), iterator_of(PAGES, size=10)) == [0]
    assert pages_ahead(Api(27, 10, None), iterator_of(PAGES, size=10)) == [1, 2, 0]
    offset = {"type": "offset", "limit": 10, "total_path": None}
    assert pages_ahead(Api(7, 10, None), iterator_of(offset)) == [0]


def test_a_total_of_pages_predicts_all_pages_at_once() -> None:
    by_pages = {"type": "page_number", "base_page": 1, "total_path": "total"}
    assert pages_ahead(Api(60, 10, "pages"), iterator_of(by_pages)) == [4, 3, 2, 1, 0]


def test_a_total_of_rows_that_the_first_page_reaches_predicts_no_other_page() -> None:
    by_pages = {"type": "page_number", "base_page": 1, "total_path": "total"}
    assert pages_ahead(Api(7, 10, "rows"), iterator_of(by_pages, size=10)) == [0]


def test_with_a_rate_limit_only_a_total_predicts_pages() -> None:
    assert (
        pages_ahead(Api(40, 10, None), iterator_of(PAGES, size=10), only_by_total=True) == [0] * 4
    )
    offset = {"type": "offset", "limit": 10, "total_path": "total"}
    assert pages_ahead(Api(40, 10, "rows"), iterator_of(offset), only_by_total=True) == [2, 1, 0]


def test_no_page_after_the_maximum_of_the_file_is_predicted() -> None:
    pages = iterator_of({**PAGES, "maximum_page": 4}, size=10)
    page = pages.advance(Api(100, 10, None).answer(pages.next_request()))
    assert page is not None
    pages.next_request()
    assert [request.params["page"] for request in predicted_requests(pages)] == [3]
