"""Ctrl-C during a run: tell Dagster, then stop the run, in this order."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from restsource_dagster.cli.output import INTERRUPTED, say

__all__ = ["Interrupts", "watch_interrupts"]

_WAKE = signal.SIGUSR1


@dataclass
class Interrupts:
    """Whether Ctrl-C was pressed, and what to do first when it is."""

    pressed: int = 0
    _cancel: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def cancelling(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Within this, Ctrl-C calls `cancel` (in another thread) before it interrupts."""
        self._cancel = cancel
        try:
            yield
        finally:
            with self._lock:  # a cancellation that has begun ends before the run counts as ended
                self._cancel = None

    def press(self, main_thread: int) -> None:
        """What happens at Ctrl-C."""
        self.pressed += 1
        if self.pressed > 1:
            say("Stopped at once. Nothing is half loaded; the next run goes on from the last load.")
            os._exit(INTERRUPTED)
        say("Stopping... (Ctrl-C again to stop at once)")
        with self._lock:
            if self._cancel is not None:
                self._cancel()
        # Dagster keeps both signals on one handler, and this one isn't blocked.
        signal.pthread_kill(main_thread, signal.SIGTERM)


@contextmanager
def watch_interrupts() -> Iterator[Interrupts]:
    """Take Ctrl-C in a thread of its own, because telling Dagster of it writes to a database.

    A signal handler must not do that: it runs in the middle of whatever the main thread was doing,
    perhaps with that database locked. So the signal is blocked everywhere but in a thread that
    waits for it. SIGTERM interrupts, too. Outside the main thread this does nothing.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    main_thread = threading.get_ident()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, _WAKE})

    def wait() -> None:
        while signal.sigwait({signal.SIGINT, _WAKE}) == signal.SIGINT:
            interrupts.press(main_thread)

    waiter = threading.Thread(target=wait, name="interrupts", daemon=True)
    waiter.start()
    try:
        yield interrupts
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pthread_kill(waiter.ident or 0, _WAKE)
        waiter.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGTERM, before)
