"""The records of an answer, with what it takes to prove that reading them fast lost nothing."""

from typing import Any

import requests

from restsource_dagster.engine.http.responses import ApiResponse
from restsource_dagster.engine.paging.selectors import RecordReader
from restsource_dagster.engine.parsing import FreshRecords, keys_of

__all__ = ["fresh_records"]


def fresh_records(
    response: requests.Response, reader: RecordReader, body: Any
) -> tuple[list[Any], Any]:
    """The records of a body, and the body: read again if it can't be proved later.

    What stands beside the records (a cursor, a total) is proved here. Raises `ValueError` as the
    reader does.
    """
    records = reader.records(body)
    if not isinstance(response, ApiResponse) or not response.is_fast:
        return records, body
    keys = keys_of(records, body, response.content)
    if keys is None:
        body = response.reread()
        return reader.records(body), body
    return FreshRecords.of(
        records, keys, response.content, lambda: reader.records(response.reread())
    ), body
