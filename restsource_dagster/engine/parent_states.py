"""A cursor per parent: the state of a dependent incremental resource, bounded in size."""

import json
import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from restsource_dagster.engine.errors import IngestError

__all__ = ["ParentStates", "parent_key"]

MOST_PARENTS = 10_000
"""Parents whose cursor is kept where forgetting one is harmless: its children are merged again."""
MOST_APPENDED = 100_000
"""Parents whose cursor is kept where forgetting one would append its children twice."""
_LONGEST_KEY = 64


def parent_key(values: Sequence[Any]) -> str:
    """The values that a call takes from its parent, as a key of the state."""
    text = json.dumps(list(values), separators=(",", ":"), default=str)
    if len(text) <= _LONGEST_KEY:
        return text
    return "#" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


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

    def peek(self, parent: str) -> Mapping[str, Any]:
        """The state below a parent, which does not count as seeing it."""
        with self._lock:
            state: Mapping[str, Any] = self._states.get(parent, self._single)
            return state

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
