"""Which families are loaded in one go."""

import math

from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.family_load import SelectedFamily
from restsource_dagster.engine.run.load_groups import group_families
from restsource_dagster_tests.making import make_connector

NAMES = ("a", "b", "c", "d", "e")


def turns_of(connector: Connector) -> list[SelectedFamily]:
    return [SelectedFamily(family, list(family.members)) for family in connector.families]


class Pages:
    """Which families have their pages, and which ones were waited for, and how long."""

    def __init__(self, *read: str, slow: tuple[str, ...] = ()) -> None:
        self.read = set(read)
        self.slow = slow
        self.waits: list[tuple[str, float]] = []
        self.now = 100.0

    def wait_for_first(self, turn: SelectedFamily, seconds: float) -> None:
        name = turn.family.root.name
        self.waits.append((name, round(seconds, 6)))
        if name in self.slow:
            self.now += 0.1
            self.read.add(name)

    def order(self, *resources: object, reset: frozenset[str] = frozenset()) -> list[list[str]]:
        turns = turns_of(make_connector("http://127.0.0.1:1", *resources))
        shared = group_families(
            turns,
            is_plain=lambda turn: turn.family.root.name not in reset,
            wait_for_first=self.wait_for_first,
            is_read=lambda turn: turn.family.root.name in self.read,
            clock=lambda: self.now,
        )
        return [[turn.family.root.name for turn in together] for together in shared]


def test_those_at_hand_are_loaded_together_and_others_alone() -> None:
    assert Pages("a", "b", "d", "e").order(*NAMES) == [["a", "b"], ["c"], ["d", "e"]]
    assert Pages().order(*NAMES) == [[name] for name in NAMES]
    assert Pages(*NAMES).order(*NAMES, reset=frozenset("b")) == [["a"], ["b"], ["c", "d", "e"]]


def test_a_family_with_dependents_is_loaded_alone() -> None:
    child = {"name": "child", "endpoint": {"path": "b/{resources.b.id}"}}
    assert Pages(*NAMES, "child").order(*NAMES, child) == [["a"], ["b"], ["c", "d", "e"]]


def test_one_that_is_there_waits_for_others_only_as_long_as_that_pays() -> None:
    pages = Pages("a", slow=NAMES[1:])
    assert pages.order(*NAMES) == [list(NAMES)]
    assert pages.waits == [("a", math.inf), ("b", 0.25), ("c", 0.15), ("d", 0.05), ("e", -0.05)]


def test_one_that_is_not_there_waits_for_no_other() -> None:
    pages = Pages()
    pages.order(*NAMES)
    assert [name for name, _ in pages.waits] == ["a", "b", "c", "d"]
    assert all(seconds == math.inf for _, seconds in pages.waits)


def test_a_table_that_may_be_nested_in_another_is_loaded_apart() -> None:
    def named(name: str, table: str) -> dict[str, object]:
        return {"name": name, "endpoint": {"path": name}, "table_name": table}

    pages = Pages(*NAMES)
    meeting = [named("a", "orders"), named("b", "orders_old"), named("c", "Orders__lines")]
    assert pages.order(*meeting) == [["a", "b"], ["c"]]
    assert pages.order(*reversed(meeting)) == [["c", "b"], ["a"]]


@given(
    read=st.sets(st.sampled_from(NAMES)),
    slow=st.sets(st.sampled_from(NAMES)),
    reset=st.frozensets(st.sampled_from(NAMES)),
)
def test_each_family_has_its_turn_once_and_in_order(
    read: set[str], slow: set[str], reset: frozenset[str]
) -> None:
    order = Pages(*read, slow=tuple(slow)).order(*NAMES, reset=reset)
    assert [name for together in order for name in together] == list(NAMES)
    shared = {name for together in order if len(together) > 1 for name in together}
    assert shared <= (read | slow) - reset
