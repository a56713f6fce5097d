"""Load groups: which families share a load package."""

import math
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.ingest import group_families
from restsource_dagster.engine.run.load_parts import SelectedFamily
from restsource_dagster_tests.making import make_connector

NAMES = ("a", "b", "c", "d", "e")


def families_of(connector: Connector) -> list[SelectedFamily]:
    return [SelectedFamily(family, list(family.members)) for family in connector.families]


class Prefetch:
    """Knows the families whose pages are fetched, and records the waits for others.

    A `slow` family is fetched 0.1 seconds after the wait for it starts.
    """

    def __init__(self, *fetched: str, slow: tuple[str, ...] = ()) -> None:
        self.fetched = set(fetched)
        self.slow = slow
        self.waits: list[tuple[str, float]] = []
        self.now = 100.0

    def wait_for_first_page(self, selected: SelectedFamily, seconds: float) -> None:
        self.waits.append((selected.root, round(seconds, 6)))
        if selected.root in self.slow:
            self.now += 0.1
            self.fetched.add(selected.root)

    def groups(
        self,
        *resources: object,
        reset: frozenset[str] = frozenset(),
        empty: Collection[str] = (),
    ) -> list[list[str]]:
        groups = group_families(
            families_of(make_connector("http://127.0.0.1:1", *resources)),
            loads_from_cursor=lambda selected: selected.root not in reset,
            wait_for_first_page=self.wait_for_first_page,
            is_prefetched=lambda selected: selected.root in self.fetched,
            has_rows=lambda selected: selected.root not in empty,
            clock=lambda: self.now,
        )
        return [[selected.root for selected in group] for group in groups]


def test_fetched_families_are_loaded_together_and_others_alone() -> None:
    assert Prefetch("a", "b", "d", "e").groups(*NAMES) == [["a", "b"], ["c"], ["d", "e"]]
    assert Prefetch().groups(*NAMES) == [[name] for name in NAMES]
    assert Prefetch(*NAMES).groups(*NAMES, reset=frozenset("b")) == [["a"], ["b"], ["c", "d", "e"]]


def test_a_family_with_dependents_is_loaded_alone() -> None:
    child = {"name": "child", "endpoint": {"path": "b/{resources.b.id}"}}
    assert Prefetch(*NAMES, "child").groups(*NAMES, child) == [["a"], ["b"], ["c", "d", "e"]]


def test_a_fetched_family_waits_for_others_only_as_long_as_a_package_costs() -> None:
    prefetch = Prefetch("a", slow=NAMES[1:])
    assert prefetch.groups(*NAMES) == [list(NAMES)]
    assert prefetch.waits == [("a", math.inf), ("b", 0.25), ("c", 0.15), ("d", 0.05), ("e", -0.05)]


def test_a_package_has_at_most_a_hundred_families_with_rows() -> None:
    """dlt looks at all jobs of a package after each job."""
    names = [f"r{number}" for number in range(250)]
    assert [len(group) for group in Prefetch(*names).groups(*names)] == [100, 100, 50]


def test_a_run_with_nothing_new_has_few_packages_however_many_resources_there_are() -> None:
    """dlt reads and checks the whole schema for each package."""
    names = [f"r{number}" for number in range(1000)]
    assert [len(one) for one in Prefetch(*names).groups(*names, empty=names)] == [500, 500]
    # those without rows don't count
    assert [len(one) for one in Prefetch(*names).groups(*names[:250], empty=names[:100])] == [
        200,
        50,
    ]


def test_a_family_that_is_not_fetched_waits_for_no_other() -> None:
    prefetch = Prefetch()
    prefetch.groups(*NAMES)
    assert [name for name, _ in prefetch.waits] == ["a", "b", "c", "d"]
    assert all(seconds == math.inf for _, seconds in prefetch.waits)


def test_a_table_that_may_be_nested_in_another_is_loaded_in_another_package() -> None:
    def named(name: str, table: str) -> dict[str, object]:
        return {"name": name, "endpoint": {"path": name}, "table_name": table}

    prefetch = Prefetch(*NAMES)
    overlapping = [named("a", "orders"), named("b", "orders_old"), named("c", "Orders__lines")]
    assert prefetch.groups(*overlapping) == [["a", "b"], ["c"]]
    assert prefetch.groups(*reversed(overlapping)) == [["c", "b"], ["a"]]


@given(
    fetched=st.sets(st.sampled_from(NAMES)),
    slow=st.sets(st.sampled_from(NAMES)),
    reset=st.frozensets(st.sampled_from(NAMES)),
)
def test_each_family_is_in_one_group_and_in_order(
    fetched: set[str], slow: set[str], reset: frozenset[str]
) -> None:
    groups = Prefetch(*fetched, slow=tuple(slow)).groups(*NAMES, reset=reset)
    assert [name for group in groups for name in group] == list(NAMES)
    shared = {name for group in groups if len(group) > 1 for name in group}
    assert shared <= (fetched | slow) - reset
