"""Wait for what a test is about. A slow machine is no failure, so the limits are generous."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

__all__ = ["PATIENCE_SECONDS", "Background", "wait_for", "wait_until"]

PATIENCE_SECONDS = 300.0
"""How long a test waits for anything. Only a test that fails anyway waits that long."""

_LOOK_AGAIN_SECONDS = 0.02

Found = TypeVar("Found")


def wait_until(
    look: Callable[[], Found],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    every: float = _LOOK_AGAIN_SECONDS,
) -> Found:
    """Call `look` until it returns something true, and return that.

    Use it for what has no event to wait for: other processes, an HTTP API. Raises `TimeoutError`
    after `seconds`, with `what` was waited for and what was seen last.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}; seen last: {found!r}")
        time.sleep(every)
    return found


def wait_for(event: threading.Event, what: str) -> None:
    """Wait for an event. Raises `TimeoutError` with `what` was waited for."""
    if not event.wait(PATIENCE_SECONDS):
        raise TimeoutError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")


class Background(Generic[Found]):
    """A call that runs in a thread of its own, from now on."""

    def __init__(self, call: Callable[..., Found], *args: Any, **kwargs: Any) -> None:
        self._future: Future[Found] = Future()
        # A daemon: a call that hangs fails its test, and not the end of the whole run.
        threading.Thread(target=self._run, args=(call, args, kwargs), daemon=True).start()

    def result(self) -> Found:
        """Wait for the end of the call. Return what it returned, or raise what it raised."""
        return self._future.result(PATIENCE_SECONDS)

    def _run(self, call: Callable[..., Found], args: Any, kwargs: Any) -> None:
        try:
            self._future.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the thread that asks for the result raises it
            self._future.set_exception(error)
