"""What a package asks of its tables grows with their number, not with the square of it."""

import cProfile
import pstats
from typing import Any

from dlt.common.schema import Schema
from dlt.common.schema.utils import get_nested_tables

from restsource_dagster.engine.destination.tables import TableTree
from restsource_dagster.engine.source.dlt_source import TableOwners
from restsource_dagster_tests.making import make_connector


class CountedTables(dict[str, Any]):
    """Tables that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, name: str) -> Any:
        self.looks += 1
        return super().__getitem__(name)

    def items(self) -> Any:
        self.looks += len(self)
        return super().items()

    def values(self) -> Any:
        self.looks += len(self)
        return super().values()


def tables_of(count: int) -> CountedTables:
    tables = CountedTables()
    for number in range(count):
        root = f"r{number}"
        tables[root] = {"name": root}
        for nested, parent in ((f"{root}__a", root), (f"{root}__a__b", f"{root}__a")):
            tables[nested] = {"name": nested, "parent": parent}
    return tables


def test_a_tree_has_the_nested_tables_that_dlt_finds() -> None:
    tables: Any = tables_of(12)
    tree = TableTree(tables)
    for name in [*tables, "unknown"]:
        assert list(tree.with_nested(name)) == get_nested_tables(tables, name)


def test_a_tree_looks_at_each_table_a_few_times_however_many_there_are() -> None:
    tables = tables_of(300)
    tree = TableTree(tables)
    for number in range(300):
        assert len(list(tree.with_nested(f"r{number}"))) == 3
        assert [name for name, _ in tree.starting_with(f"r{number}__")] == [
            f"r{number}__a",
            f"r{number}__a__b",
        ]
    assert tables.looks <= 10 * len(tables)


def comparisons_for(count: int) -> int:
    """Return how many texts are compared by how they start until the owners of all tables are found."""
    names = [f"r{number}" for number in range(count)]
    connector, stored = make_connector("http://127.0.0.1:1", *names, "r7__lines"), Schema("shop")
    profile = cProfile.Profile()
    with profile:
        owners = TableOwners(connector, stored)
        found = {one.name: owners.foreign_tables(one) for one in connector.resources}
    assert found.pop("r7") == {"lines": "r7__lines"}
    assert not any(found.values())
    calls = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return sum(one[1] for name, one in calls.items() if "'startswith'" in name[2])


def test_owners_of_tables_are_found_without_comparing_each_with_each() -> None:
    assert comparisons_for(200) < 6 * comparisons_for(50)
