"""The launcher's end of a fork server."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import psutil

__all__ = ["FORK_SERVER_MODULE", "ForkFailedError", "ForkServerClient"]

FORK_SERVER_MODULE = "restsource_dagster.local_runtime.fork_server"
START_SECONDS = 60.0
"""It imports for three seconds on a quiet machine."""
ANSWER_SECONDS = 30.0

_logger = logging.getLogger("dagster.restsource.launcher")

Message = dict[str, Any]
RunEndCallback = Callable[[str, int | None], None]


class ForkFailedError(Exception):
    """A fork server can't have a run executed, and has not begun to."""


class ForkServerClient:
    """A running fork server. Its methods are not to be used by two threads at once."""

    def __init__(self, ended: RunEndCallback) -> None:
        """Start it.

        `ended` is told, from another thread, the id of a run whose process has ended, and how: the exit
        code, minus the number of the signal that killed it, or None if that isn't known.

        Raises `NoChildError` if it doesn't start.
        """
        self._ended = ended
        self._runs: dict[int, str] = {}
        self._answers: SimpleQueue[Message | None] = SimpleQueue()
        self._run_ends: SimpleQueue[tuple[str, int | None] | None] = SimpleQueue()
        self._connection, theirs = Pipe()
        self._process = _start_fork_server(theirs)
        # two, so that an answer is heard while the end of a run is being noted, which asks the database
        for target in (self._listen, self._note_ends):
            Thread(target=target, name="restsource-fork-server", daemon=True).start()
        message = self._answer(START_SECONDS)
        if "unfit" in message:
            raise ForkFailedError(message["unfit"])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fork(self, job: str, arguments: str) -> int:
        """Have it fork a child for a run; the child waits. Returns the child's process id.

        Raises `NoChildError` if it is gone, or if code was changed since it imported it: it then takes
        no more orders.
        """
        self._say({"do": "fork", "job": job, "arguments": arguments})
        message = self._answer(ANSWER_SECONDS)
        if "stale" in message:
            raise ForkFailedError("code was changed since it was imported")
        return int(message["pid"])

    def release(self, child: int, run_id: str) -> None:
        """Let a child execute its run. Raises `NoChildError` if the fork server is gone."""
        self._runs[child] = run_id
        try:
            self._say({"do": "go", "pid": child})
        except ForkFailedError:
            del self._runs[child]
            raise

    def drop(self, child: int) -> None:
        """Have a child that waits end, without having done anything."""
        with suppress(ForkFailedError):
            self._say({"do": "drop", "pid": child})

    def retire(self) -> None:
        """Have it take no more orders, and end when the runs that it has begun are over."""
        with suppress(ForkFailedError):
            self._say({"do": "retire"})

    def _say(self, message: Message) -> None:
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise ForkFailedError(f"the fork server can't be reached: {error}") from error

    def _answer(self, seconds: float) -> Message:
        try:
            message = self._answers.get(timeout=seconds)
        except Empty:
            self._process.kill()  # children that still wait end with it
            raise ForkFailedError(f"the fork server did not answer in {seconds:.0f} s") from None
        if message is None:
            raise ForkFailedError("the fork server has ended")
        return message

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                message: Message = json.loads(self._connection.recv_bytes())
                if "ended" not in message:
                    self._answers.put(message)
                elif run_id := self._runs.pop(message["ended"], None):  # or it was dropped
                    self._run_ends.put((run_id, message["code"]))
        self._answers.put(None)
        self._process.wait()
        for child, run_id in self._runs.items():
            if not psutil.pid_exists(child):
                self._run_ends.put((run_id, None))
        self._run_ends.put(None)

    def _note_ends(self) -> None:
        while end := self._run_ends.get():
            try:
                self._ended(*end)
            except Exception:
                # whatever it was: the ends of other runs are still to be noted
                _logger.exception("The end of the process of run %s could not be noted", end[0])


def _start_fork_server(theirs: Connection) -> "subprocess.Popen[bytes]":
    # it imports from where this process does, as the processes of Dagster's own launcher
    command = f"import sys; sys.path[:] = {sys.path!r}; from {FORK_SERVER_MODULE} import serve_forks; serve_forks()"
    with theirs:
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", command, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
