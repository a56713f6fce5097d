"""Positions in rows that are ordered by a cursor, from any version's state."""

from typing import Any

import pytest

from restsource_dagster.engine.incremental.position import CursorRules, Position, digest_of

ROW = {"id": 1, "at": 5, "name": "ü", "tags": [None, 2.5, {"z": True, "a": False}]}
DIGESTS = {"1.31": "kBfeLV+hARYo", "1.30": "kBfeLV+hARYoZRlIBnhQ"}
"""The hash of `ROW` that stock dlt stores, by its version."""


def rules() -> CursorRules:
    return CursorRules(
        resource="orders",
        path="at",
        initial_value=0,
        end_value=None,
        lag=None,
        descending=False,
        row_order=None,
        on_missing="raise",
        excludes_start=False,
        excludes_end=False,
    )


def test_the_hash_of_a_row_is_the_same_with_every_version_of_dlt() -> None:
    assert digest_of(ROW) == DIGESTS["1.31"]


@pytest.mark.parametrize("version", DIGESTS)
def test_a_row_that_stock_dlt_has_loaded_is_not_accepted_again(version: str) -> None:
    state: dict[str, Any] = {"last_value": 5, "unique_hashes": [DIGESTS[version]]}
    position = Position(rules(), state, remembers=True)
    assert not position.accept(5, ROW)
    assert position.accept(5, {**ROW, "id": 2})
