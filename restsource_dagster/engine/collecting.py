"""Python's garbage collector, told that a load makes many objects that need no collecting."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["seldom_collecting"]

_SELDOM = (50_000, 20, 50)
"""A page of a thousand rows makes some thousands of containers that are gone with it."""


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Collect garbage more rarely while rows are read: half of the time goes into it otherwise.

    Reference counts free the rows; only cycles wait for a collection, and these still happen.
    """
    before = gc.get_threshold()
    if gc.isenabled() and before[0] < _SELDOM[0]:
        gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
