"""What a page costs whose answer is looked at for signs of an error."""

from typing import Any

from restsource_dagster.engine.paging.response_checks import failure_beside_records


class _Records(list[Any]):
    """The records of a page, which nobody should write out: that takes longer than loading them."""

    def __repr__(self) -> str:
        raise AssertionError("the records were written out as a text")


def test_the_records_of_a_page_are_not_written_out() -> None:
    records = _Records([{"id": 1}])
    assert failure_beside_records({"data": records, "status": "ok", "page": 1}, records) is None
    found = failure_beside_records({"data": records, "incomplete_results": True}, records)
    assert found == "incomplete_results"
