"""Our place in dlt's state of a resource: what of it is ours, and what stands there."""

from collections.abc import Mapping
from typing import Any

from dlt.extract.state import resource_state

__all__ = ["FLOOR", "FROM", "OURS", "State", "beginning_of", "own_state"]

OURS = "restsource"
"""Our place in a resource's state."""
FROM = "from"
"""There: where the live stream begins; what is before belongs to the resource's history."""
FLOOR = "floor"
"""There: the value that a person set the cursor of an appended table to; nothing before it is read
again, whatever the lag, as it would be there twice."""

State = dict[str, Any]


def own_state(name: str) -> State:
    """Our part of a resource's state, inside an extraction."""
    state: State = resource_state(name).setdefault(OURS, {})
    return state


def beginning_of(ours: Mapping[str, Any]) -> Any:
    """The value before which a root is never read, from our part of its state; None if none."""
    return ours.get(FLOOR, ours.get(FROM))
