"""Run several services together, until a signal or until one of them ends."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import IO

from sample import guard
from sample.service import RunningService, Service

__all__ = ["Supervisor"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_AGAIN_SECONDS = 0.25


@dataclass(frozen=True)
class _Signalled:
    number: int


@dataclass(frozen=True)
class _Ended:
    name: str
    code: int


_Happening = _Signalled | _Ended


class Supervisor:
    """Starts services, prints when each is ready, and leaves no process behind.

    `start_seconds` is the maximum time until a service is ready.
    """

    def __init__(
        self, *, output: IO[str], start_seconds: float = 120, grace_seconds: float = 10
    ) -> None:
        self._output = output
        self._start_seconds = start_seconds
        self._grace_seconds = grace_seconds
        # Unlike an Event, a signal handler that interrupts the reader may write to it.
        self._happenings: SimpleQueue[_Happening] = SimpleQueue()
        self._running: list[RunningService] = []
        self._stopping = False

    def run(self, services: Sequence[Service], greetings: dict[str, str]) -> int:
        """Run the services until a signal arrives or one of them ends. Return the exit code.

        The exit code is 0 after a signal, and 1 if a service ends by itself or isn't ready in time.
        `greetings` maps a service to the text to print when it is ready.
        """
        with self._signals(), self._guard() as groups:
            try:
                for service in services:
                    self._start(service, groups)
                problem = self._watch(greetings)
            finally:
                self._stop(groups)
        if problem is None:
            self._say("Stopped.")
            return 0
        self._say(problem)
        return 1

    def _start(self, service: Service, groups: IO[str]) -> None:
        def ended(code: int) -> None:
            self._happenings.put(_Ended(service.name, code))

        def show(line: str) -> None:
            # Interrupted services print long messages about it, which are of no use here.
            if not self._stopping:
                self._say(f"{service.name}: {line}")

        running = RunningService(service, show=show, ended=ended)
        self._running.append(running)
        print(f"+{running.group}", file=groups, flush=True)

    def _watch(self, greetings: dict[str, str]) -> str | None:
        """Wait for the end. Return what went wrong, or None after a signal."""
        waiting = list(self._running)
        deadline = time.monotonic() + self._start_seconds
        while True:
            try:
                happening = self._happenings.get(timeout=_LOOK_AGAIN_SECONDS if waiting else None)
            except Empty:
                for running in [running for running in waiting if running.answers()]:
                    waiting.remove(running)
                    self._say(greetings[running.service.name])
                if waiting and time.monotonic() > deadline:
                    return self._complaint(
                        waiting[0], f"did not answer within {self._start_seconds:.0f} seconds"
                    )
                continue
            if isinstance(happening, _Signalled):
                self._stopping = True
                self._say("Stopping ...")
                return None
            culprit = next(it for it in self._running if it.service.name == happening.name)
            return self._complaint(culprit, f"ended by itself (exit code {happening.code})")

    def _complaint(self, running: RunningService, what: str) -> str:
        name, log = running.service.name, running.service.log
        lines = "".join(f"\n  {line}" for line in running.last_lines)
        return f"{name} {what}, so everything was stopped. The end of its log ({log}):{lines}"

    def _stop(self, groups: IO[str]) -> None:
        self._stopping = True
        numbers = [running.group for running in self._running]
        guard.stop_groups(numbers, self._grace_seconds)
        for number in numbers:
            print(f"-{number}", file=groups, flush=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(number: int, _frame: FrameType | None) -> None:
            self._happenings.put(_Signalled(number))

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _guard(self) -> Iterator[IO[str]]:
        command = [sys.executable, "-m", "sample.guard"]
        folder = Path(__file__).parent.parent
        with subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.PIPE, text=True, cwd=folder, start_new_session=True
        ) as process:
            if process.stdin is None:
                raise RuntimeError("the guard has no standard input")
            yield process.stdin

    def _say(self, text: str) -> None:
        # The services are stopped even if the terminal is closed.
        with suppress(OSError):
            self._output.write(f"{text}\n")
            self._output.flush()
