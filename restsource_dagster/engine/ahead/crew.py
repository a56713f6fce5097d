"""Threads that start when there is something to do, and end when they are told to."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Crew"]

Work = TypeVar("Work")


class Crew(Generic[Work]):
    """Up to `most` threads that share the work there is.

    `lock` guards whatever `is_work` and `take` look at: they are called under it, in any thread.
    `take` hands out a piece of work, or None if there is none now; `do` does it, without the lock.
    """

    def __init__(
        self,
        most: int,
        lock: threading.Lock,
        *,
        is_work: Callable[[], bool],
        take: Callable[[], Work | None],
        do: Callable[[Work], None],
    ) -> None:
        self._most = most
        self._lock = lock
        self._is_work = is_work
        self._take = take
        self._do = do
        self._work = threading.Condition(lock)
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._is_dismissed = False

    def call(self) -> None:
        """See to it that somebody does what there is to do. Under the lock."""
        if self._is_dismissed:
            return
        if self._idle:
            self._work.notify()
        elif len(self._threads) < self._most and self._is_work():
            name = f"restsource-ahead-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def dismiss(self) -> None:
        """Let each thread end when it is done with what it does. Under the lock."""
        self._is_dismissed = True
        self._work.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for their end, all in all for so long at most. Not under the lock."""
        ends_at = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    def _run(self) -> None:
        while (work := self._wait()) is not None:
            self._do(work)

    def _wait(self) -> Work | None:
        with self._lock:
            while not self._is_dismissed:
                if (work := self._take()) is not None:
                    self.call()
                    return work
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            return None
