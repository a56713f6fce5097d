"""Windows with both ends in the file, in tables that rows are appended to: each is loaded once."""

from collections.abc import Sequence
from typing import Any

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.ordering import Order
from restsource_dagster.engine.positions import CursorRules

__all__ = ["was_appended"]


def was_appended(rules: CursorRules, windows: Sequence[Sequence[Any]]) -> bool:
    """Whether the rules' window is one of those that were appended before, each `[start, end]`.

    Raises `IngestError` for one that overlaps another: its rows are there in part.
    """
    order = Order(falling=rules.falling)
    for start, end in windows:
        if order.is_same(start, rules.initial) and order.is_same(end, rules.end):
            return True
        if order.is_before(start, rules.end) and order.is_before(rules.initial, end):
            error = IngestError(
                f"resource {rules.resource}: the rows from {start} to {end} were appended before, "
                f"and {rules.initial} to {rules.end} overlaps them. Choose a window beside it, give "
                'the resource another "table_name", or a "primary_key" so that rows are merged.'
            )
            error.resource = rules.resource
            raise error
    return False
