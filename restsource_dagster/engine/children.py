"""Dependent resources: below which parents to ask, once each, and what a failing call does.

`http.on_child_error` lets a dependent go on without some of its parents. Those are owed: they are
kept in dlt's state and asked for again in the next run, even if the parent does not come again.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from restsource_dagster.config.http import SkipChildErrors
from restsource_dagster.engine.calls import bound_values
from restsource_dagster.engine.errors import RequestError, ResponseError
from restsource_dagster.engine.family_cursors import FamilyCursors, parent_key
from restsource_dagster.engine.plans import ResourcePlan
from restsource_dagster.engine.streams import MarkedRow
from restsource_dagster.engine.tally import Tally

__all__ = ["Children"]

Row = dict[str, Any]


class Children:
    """The parents of one dependent resource during one run."""

    def __init__(
        self,
        plan: ResourcePlan,
        cursors: FamilyCursors,
        rule: Literal["fail"] | SkipChildErrors,
        tally: Tally,
    ) -> None:
        self._plan = plan
        self._cursors = cursors
        self._may_skip = rule.skip_up_to if isinstance(rule, SkipChildErrors) else 0
        self._tally = tally
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._owed: list[Row] | None = None

    @property
    def may_skip(self) -> bool:
        """Whether some parents may fail."""
        return self._may_skip > 0

    def to_ask(self, parents: Iterable[Any]) -> Iterator[tuple[Row, tuple[Any, ...]]]:
        """The parents to ask below, with the values that the call takes from each.

        Those owed from the last run come first. A parent that comes twice in a run is asked for
        once; one that all loaded dependents have had is left out.
        """
        readers = self._cursors.loaded_below(self._plan.resource.name)
        for parent in [*self._owed_before(), *parents]:
            if isinstance(parent, MarkedRow) and readers <= parent.again:
                continue
            values = bound_values(self._plan, parent)
            key = parent_key([values, self._included(parent)])
            if key not in self._asked:
                self._asked.add(key)
                yield parent, values

    def skip(self, parent: Row, path: str, error: RequestError | ResponseError) -> None:
        """Go on without a parent, and ask for it in the next run; raises `error` if too many."""
        if self._tally.skip(path) > self._may_skip:
            raise error
        if self._plan.loaded and self._owed is not None:
            with self._lock:
                self._owed.append(self._needed(parent))

    def _owed_before(self) -> list[Row]:
        """The parents owed from before, at the first call in a run; none at any other."""
        if self._owed is not None:
            return []
        if not self._plan.loaded:
            self._owed = []
            return []
        state = self._cursors.state_of(self._plan.resource.name)
        before: list[Row] = state.get("owed", [])
        self._owed = state["owed"] = []
        return before

    def _included(self, parent: Mapping[str, Any]) -> list[Any]:
        return [parent.get(name) for name in self._plan.include_from_parent]

    def _needed(self, parent: Mapping[str, Any]) -> Row:
        """What of a parent's record its calls need."""
        fields = {param.resolve_config["field"] for param in self._plan.parent_params}
        tops = {field.split(".")[0].split("[")[0] for field in fields}
        tops.update(self._plan.include_from_parent)
        if all(top in parent for top in tops):
            return {top: parent[top] for top in tops}
        return dict(parent)
