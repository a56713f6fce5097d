"""Limit the memory of prefetched pages that no one has taken yet."""

import threading

__all__ = ["MemoryBudget", "MemoryReservation"]


class MemoryBudget:
    """A number of bytes that many prefetches share. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        """The bytes that are reserved. Only `reserve` and `release` change them."""
        self._lock = threading.Lock()
        self.was_exhausted = False
        """True if `has_room_for` has said no since this was last set to False."""

    def has_room_for(self, size: int) -> bool:
        """True if so many more bytes can be reserved."""
        # without the lock: a hint before a request is sent, `reserve` decides
        if self.used_bytes + size <= self.max_bytes:
            return True
        self.was_exhausted = True
        return False

    def reserve(self, size: int, *, force: bool = False) -> bool:
        """Reserve so many bytes; with `force` even beyond the budget. Return False if it is full."""
        with self._lock:
            if not force and self.used_bytes + size > self.max_bytes:
                return False
            self.used_bytes += size
            return True

    def release(self, size: int) -> None:
        """Return so many bytes to the budget."""
        with self._lock:
            self.used_bytes -= size


class MemoryReservation:
    """The memory of one response, from the moment its request is sent. Thread-safe.

    It starts with the `expected` bytes and grows when the body turns out to be larger.
    """

    def __init__(self, budget: MemoryBudget, expected: int) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._received = 0
        self.reserved_bytes = expected
        """The bytes that are reserved."""
        # forced: the caller has asked whether there is room, under its own lock
        budget.reserve(expected, force=True)
        self.is_required = False
        """True if a thread waits for the response: then it is read, however large it is."""

    def grow(self, size: int) -> bool:
        """Count so many received bytes; return False if they don't fit in the budget."""
        with self._lock:
            self._received += size
            more = self._received - self.reserved_bytes
            if more > 0:
                if not self._budget.reserve(more, force=self.is_required):
                    return False
                self.reserved_bytes += more
            return True

    def resize(self, size: int) -> None:
        """Reserve exactly so many bytes from now on."""
        with self._lock:
            # forced: the memory is in use already, or is being released
            self._budget.reserve(size - self.reserved_bytes, force=True)
            self.reserved_bytes = size

    def move_to(self, budget: MemoryBudget) -> None:
        """Reserve the same bytes in another budget."""
        with self._lock:
            self._budget.release(self.reserved_bytes)
            self._budget = budget
            budget.reserve(self.reserved_bytes, force=True)

    def release(self) -> None:
        """Return all bytes to the budget."""
        self.resize(0)
