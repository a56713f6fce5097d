"""Ctrl-C during a run: report it to Dagster first, then stop the run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from restsource_dagster.cli.output import EXIT_INTERRUPTED, print_notice

__all__ = ["Interrupts", "watch_interrupts"]

# Ends the waiting thread: `sigwait` has no timeout, and macOS lacks `sigtimedwait`.
_WAKE_SIGNAL = signal.SIGUSR1


@dataclass
class Interrupts:
    """Counts Ctrl-C, and calls a function before the run is interrupted."""

    press_count: int = 0
    _cancel: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def cancelling(self, cancel: Callable[[], None]) -> Iterator[None]:
        """While this is open, Ctrl-C calls `cancel` in another thread before it interrupts."""
        self._cancel = cancel
        try:
            yield
        finally:
            with self._lock:  # wait for a cancellation in progress before the run ends
                self._cancel = None

    def press(self, main_thread: int) -> None:
        """Handle Ctrl-C: cancel and interrupt the first time, exit the process the second time."""
        self.press_count += 1
        if self.press_count > 1:
            print_notice(
                "Stopped at once. No table is half loaded; the next run continues from the last load."
            )
            # This is not the main thread, in which `sys.exit` could end the process.
            os._exit(EXIT_INTERRUPTED)
        print_notice("Stopping... (Ctrl-C again to stop at once)")
        with self._lock:
            if self._cancel is not None:
                self._cancel()
        # SIGINT is blocked here; Dagster handles SIGTERM in the same way
        signal.pthread_kill(main_thread, signal.SIGTERM)


@contextmanager
def watch_interrupts() -> Iterator[Interrupts]:
    """Handle Ctrl-C in a thread of its own.

    Reporting the interruption to Dagster writes to a database. A signal handler can't do that: it
    runs in the middle of the main thread's work, which may hold a lock of that database. So SIGINT
    is blocked in all threads but one, which waits for it. SIGTERM interrupts, too. Outside the main
    thread this does nothing, because Python allows signal handlers there only.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    main_thread = threading.get_ident()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Before any other thread starts: a new thread inherits the mask of the one that starts it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, _WAKE_SIGNAL})

    def wait() -> None:
        while signal.sigwait({signal.SIGINT, _WAKE_SIGNAL}) == signal.SIGINT:
            interrupts.press(main_thread)

    waiter = threading.Thread(target=wait, name="interrupts", daemon=True)
    waiter.start()
    try:
        yield interrupts
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pthread_kill(waiter.ident or 0, _WAKE_SIGNAL)
        waiter.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGTERM, before)
