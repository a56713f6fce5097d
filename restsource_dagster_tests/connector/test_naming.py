"""Names agree with those that dlt and Dagster make."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.utils import VALID_NAME_REGEX
from dlt.common.normalizers.naming.snake_case import NamingConvention
from hypothesis import example, given
from hypothesis import strategies as st

from restsource_dagster.connector.naming import (
    asset_identifier,
    dataset_identifier,
    is_asset_name,
    snake_case_table,
)
from restsource_dagster_tests.connector.helpers import connector

SNAKE_CASE = NamingConvention(0)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1).filter(str.strip))
@example("orderItems")
@example("OrderItems__")
@example("2024-report")
@example("HTTPServer")
@example(" a+b@c|d ")
@example("user__events")
@example("a____b")
@example("__")
def test_tables_and_datasets_are_named_as_dlt_names_them(name: str) -> None:
    assert snake_case_table(name) == SNAKE_CASE.normalize_tables_path(name)
    assert dataset_identifier(name) == SNAKE_CASE.normalize_table_identifier(name)


@given(st.text(max_size=12))
@example("a-b.c")
@example("")
def test_an_assets_name_is_legal_exactly_if_dagster_can_name_its_output(name: str) -> None:
    if not name:
        assert not is_asset_name(name)
        return
    identifier = dg.AssetKey(["shop", name]).to_python_identifier()

    assert is_asset_name(name) is (VALID_NAME_REGEX.fullmatch(identifier) is not None)
    if is_asset_name(name):
        assert identifier == f"shop__{asset_identifier(name)}"


@pytest.mark.parametrize("names", [["a"], ["v2.orders", "order-lines", "class", "_x", "1st"]])
def test_dagster_takes_the_names_that_are_accepted(names: list[str]) -> None:
    parsed = connector(resources=names)

    @dg.multi_asset(
        specs=[dg.AssetSpec([parsed.name, resource.name]) for resource in parsed.resources],
        can_subset=True,
    )
    def load() -> Iterator[dg.MaterializeResult[Any]]:
        yield from ()

    assert len(list(load.keys)) == len(names)


@pytest.mark.parametrize("tag", [("tier", "gold"), ("acme/cost-centre", "4.2_x"), ("a", "")])
def test_dagster_takes_the_tags_and_owners_that_are_accepted(tag: tuple[str, str]) -> None:
    parsed = connector(tags=dict([tag]), owners=["team:data", "ada.l@example.co.uk"])

    spec = dg.AssetSpec("x", tags=parsed.tags, owners=parsed.owners)

    assert spec.tags == dict([tag])
