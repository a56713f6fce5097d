"""Several loads stage the rows of a replaced table, and the last one swaps them in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.extract import DltSource

from restsource_dagster.engine.destination.dlt_config import configure_dlt
from restsource_dagster.engine.destination.package_load import PackageLoad
from restsource_dagster.engine.destination.pipeline import PipelineManager
from restsource_dagster.engine.destination.replace_parts import Swap
from restsource_dagster.engine.destination.warehouse import (
    DuckDBFile,
    OtherDestination,
    Warehouse,
)
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.incremental.cursor_overrides import AppliedOverrides
from restsource_dagster.engine.run_progress import Progress, SilentObserver

Rows = Sequence[dict[str, Any]]


class Shop:
    """A connector's dataset, and loads of its orders."""

    def __init__(self, folder: Path, warehouse: Warehouse) -> None:
        configure_dlt()
        self.warehouse = warehouse
        self.folder = folder
        self.opened = 0
        self.parts: tuple[str, ...] = ()
        self.pipelines = self.restart()

    def restart(self) -> PipelineManager:
        """As a run does that begins: nothing is known but what the destination has."""
        self.opened += 1
        self.pipelines = PipelineManager(
            "shop",
            self.warehouse,
            Progress(SilentObserver(), str),
            self.folder / f"run{self.opened}",
            dataset="shop",
        )
        return self.pipelines

    def load(self, rows: Rows, swap: Swap | None = None) -> str:
        self.pipelines.prepare_load(AppliedOverrides())
        done = PackageLoad(self.pipelines, ["orders"], orders(rows), swap=swap).run()
        return done.info.loads_ids[0]

    def part(self, rows: Rows, *, first: bool = False, last: bool = False) -> None:
        """Load a part after the `parts` before it, none for the first one."""
        self.parts = () if first else self.parts
        self.parts += (self.load(rows, Swap("orders", self.parts, lambda: last)),)

    def is_staged(self, *parts: str) -> bool:
        """What a run that begins finds of these loads."""
        return self.restart().has_staged_parts("orders", parts)

    def query(self, sql: str) -> list[Any]:
        with self.pipelines.open().sql_client() as client:
            return [row[0] for row in client.execute_sql(sql) or ()]

    @property
    def ids(self) -> list[int]:
        return self.query("SELECT id FROM shop.orders ORDER BY id")

    @property
    def lines(self) -> list[int]:
        return self.query(
            "SELECT l.n FROM shop.orders__lines l JOIN shop.orders o "
            "ON l._dlt_parent_id = o._dlt_id ORDER BY n"
        )


def orders(rows: Rows) -> DltSource:
    @dlt.resource(name="orders", write_disposition="replace")
    def pages() -> Iterator[Rows]:
        if rows:
            yield rows

    source = dlt.source(lambda: pages, name="shop")()
    source.root_key = True
    return source


def numbered(*ids: int) -> Rows:
    return [{"id": number, "lines": [{"n": number * 10}]} for number in ids]


@pytest.fixture(params=["duckdb", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    if request.param == "duckdb":
        return Shop(tmp_path, DuckDBFile(tmp_path / "own.duckdb"))
    url = request.getfixturevalue("postgres_url")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", url)
    return Shop(tmp_path, OtherDestination("postgres"))


def test_the_table_changes_with_the_last_part(shop: Shop) -> None:
    shop.load(numbered(1, 2, 3))
    shop.part(numbered(4, 5), first=True)
    shop.part(numbered(6))
    assert shop.ids == [1, 2, 3]
    assert shop.lines == [10, 20, 30]
    shop.part(numbered(7), last=True)
    assert shop.ids == [4, 5, 6, 7]
    assert shop.lines == [40, 50, 60, 70]
    assert shop.query("SELECT count(*) FROM shop_staging.orders") == [0]
    assert shop.query("SELECT count(*) FROM shop._restsource_parts") == [0]


def test_a_last_part_without_rows_swaps_those_of_the_parts_before_it(shop: Shop) -> None:
    shop.load(numbered(1))
    shop.part(numbered(2, 3), first=True)
    shop.part([], last=True)
    assert shop.ids == [2, 3]
    assert shop.lines == [20, 30]


def test_parts_without_rows_leave_an_empty_table(shop: Shop) -> None:
    shop.load(numbered(1))
    shop.part([], first=True)
    shop.part([], last=True)
    assert shop.ids == []
    assert shop.lines == []


def test_nested_rows_that_no_part_has_are_gone(shop: Shop) -> None:
    shop.load(numbered(1))
    shop.part([{"id": 2}], first=True)
    shop.part([{"id": 3}], last=True)
    assert shop.ids == [2, 3]
    assert shop.query("SELECT count(*) FROM shop.orders__lines") == [0]


def test_a_first_load_in_parts_makes_the_table(shop: Shop) -> None:
    shop.part(numbered(1), first=True)
    shop.part(numbered(2), last=True)
    assert shop.ids == [1, 2]
    assert shop.lines == [10, 20]


def test_columns_and_nested_tables_may_come_with_a_later_part(shop: Shop) -> None:
    shop.load([{"id": 1}])
    shop.part([{"id": 2}], first=True)
    shop.part([{"id": 3, "name": "x", "lines": [{"n": 30}]}])
    shop.part([{"id": "four"}], last=True)
    assert shop.query("SELECT name FROM shop.orders ORDER BY id NULLS LAST") == [None, "x", None]
    assert shop.query("SELECT id__v_text FROM shop.orders WHERE id IS NULL") == ["four"]
    assert shop.lines == [30]


def test_a_run_continues_with_what_an_earlier_one_has_staged(shop: Shop) -> None:
    shop.load(numbered(1))
    shop.part(numbered(2), first=True)
    assert shop.is_staged(*shop.parts)
    shop.part(numbered(3), last=True)
    assert shop.ids == [2, 3]
    assert not shop.is_staged(*shop.parts)


def test_a_run_that_starts_anew_drops_the_staged_rows(shop: Shop) -> None:
    shop.part(numbered(1), first=True)
    before = shop.parts
    shop.restart()
    shop.part(numbered(2), first=True)
    assert not shop.is_staged(*before)
    assert shop.is_staged(*shop.parts)
    shop.part(numbered(3), last=True)
    assert shop.ids == [2, 3]


def test_a_load_of_one_part_drops_the_staged_rows(shop: Shop) -> None:
    shop.part(numbered(1), first=True)
    before = shop.parts
    shop.part(numbered(2), first=True, last=True)
    assert shop.ids == [2]
    assert not shop.is_staged(*before)


def test_staged_rows_that_are_gone_are_noticed(shop: Shop) -> None:
    shop.load(numbered(1))
    shop.part(numbered(2, 3), first=True)
    shop.query("DELETE FROM shop_staging.orders WHERE id = 2")
    assert not shop.is_staged(*shop.parts)
    with pytest.raises(IngestError, match=r"no longer there.*starts anew"):
        shop.part(numbered(4), last=True)
    assert shop.ids == [1]


def test_rows_of_a_part_that_did_not_complete_are_removed(shop: Shop) -> None:
    shop.load(numbered(1))
    shop.part(numbered(2), first=True)
    shop.part(numbered(3, 4))
    *before, killed = shop.parts
    # as if it was killed before its load was complete
    shop.query(f"DELETE FROM shop._dlt_loads WHERE load_id = '{killed}'")
    assert shop.is_staged(*before)
    shop.parts = tuple(before)
    shop.part(numbered(3, 5), last=True)
    assert shop.ids == [2, 3, 5]
    assert shop.lines == [20, 30, 50]


def test_the_files_of_a_part_are_deleted_when_it_is_loaded(shop: Shop) -> None:
    shop.part(numbered(1), first=True)
    shop.part(numbered(2))
    assert [path.name for path in shop.folder.rglob("orders*") if path.is_file()] == []
