"""Making many objects that stay, without looking through all of them for garbage again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_full_collections"]

_NEVER = 1_000_000


@contextmanager
def no_full_collections() -> Iterator[None]:
    """Garbage is collected among young objects only.

    While a thousand connectors become definitions, Python looks through all objects of the process
    some ten times and finds nothing: a quarter of the time that loading takes.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
