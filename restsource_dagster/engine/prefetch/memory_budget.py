"""How much may be held of what nobody has asked for yet."""

import threading

__all__ = ["MemoryBudget", "MemoryReservation"]


class MemoryBudget:
    """So many bytes, shared by all that is read ahead. Safe between threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._used = 0
        self._lock = threading.Lock()
        self.was_exhausted = False
        """Whether somebody found no room."""

    @property
    def used_bytes(self) -> int:
        """The bytes that are taken."""
        return self._used

    def has(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        if self._used + size <= self.most:
            return True
        self.was_exhausted = True
        return False

    def take(self, size: int, *, whatever: bool = False) -> bool:
        """Take so many bytes; False if there is no room, unless they are to be taken whatever comes."""
        with self._lock:
            if not whatever and self._used + size > self.most:
                return False
            self._used += size
            return True

    def release(self, size: int) -> None:
        """Give so many bytes back."""
        with self._lock:
            self._used -= size


class MemoryReservation:
    """What one answer takes up in a room, from the moment that it is asked for.

    Before its size is known, as many bytes are set aside as are `expected`.
    """

    def __init__(self, room: MemoryBudget, expected: int) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._read = 0
        self._held = expected
        room.take(expected, whatever=True)
        self.is_required = False
        """Whether somebody waits for the answer: then it is read however large it is."""

    @property
    def size(self) -> int:
        """The bytes held."""
        return self._held

    def grow(self, size: int) -> bool:
        """So many bytes more are read; False if there is no room for them."""
        with self._lock:
            self._read += size
            more = self._read - self._held
            if more > 0:
                if not self._room.take(more, whatever=self.is_required):
                    return False
                self._held += more
            return True

    def set(self, size: int) -> None:
        """Hold exactly so many bytes from now on."""
        with self._lock:
            self._room.take(size - self._held, whatever=True)
            self._held = size

    def move_to(self, room: MemoryBudget) -> None:
        """Hold the same in another room."""
        with self._lock:
            self._room.release(self._held)
            self._room = room
            room.take(self._held, whatever=True)

    def release(self) -> None:
        """Hold nothing any more."""
        self.set(0)
