"""A cursor per parent: the state of a dependent incremental resource, bounded in size."""

import threading
from collections.abc import Mapping
from typing import Any

from restsource_dagster.engine.errors import IngestError

__all__ = ["ParentStates"]

MOST_PARENTS = 10_000
"""Parents whose cursor is kept where forgetting one is harmless: its children are merged again."""
MOST_APPENDED = 100_000
"""Parents whose cursor is kept where forgetting one would append its children twice."""


class ParentStates:
    """The states of a cursor below each parent, kept in dlt's state; safe between threads.

    The parents not seen for longest are forgotten first, unless `forgets` is false: then a parent
    too many is an `IngestError`. `single` is the one state that dlt keeps for all parents, found
    in the first run of a table that dlt loaded before; parents of that run start from it.
    """

    def __init__(
        self,
        resource: str,
        states: dict[str, Any],
        *,
        forgets: bool,
        single: Mapping[str, Any] | None = None,
        most: int | None = None,
    ) -> None:
        self._resource = resource
        self._states = states
        self._forgets = forgets
        self._single = single or {}
        self._most = most or (MOST_PARENTS if forgets else MOST_APPENDED)
        self._lock = threading.Lock()

    def at(self, parent: str) -> Mapping[str, Any]:
        """The state below a parent; empty for one not seen before. Counts as seeing it."""
        with self._lock:
            state = self._states.pop(parent, None)
            if state is None:
                return self._single
            self._states[parent] = state  # at the end: seen last
            return dict(state)

    def put(self, parent: str, state: Mapping[str, Any]) -> None:
        """Keep the state below a parent."""
        with self._lock:
            self._states.pop(parent, None)
            self._states[parent] = dict(state)
            if len(self._states) <= self._most:
                return
            if not self._forgets:
                raise IngestError(
                    f"resource {self._resource}: more than {self._most:,} parents, too many to "
                    'keep a cursor for each and append nothing twice. Give it a "primary_key", so '
                    "that it is merged."
                )
            del self._states[next(iter(self._states))]
