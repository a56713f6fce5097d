"""The process that runs are forked from. Linux only.

It has imported all that a run needs, has a single thread, no connection to a database and no
definitions, and does nothing but wait for orders. The launcher that started it holds the other end of
the pipe whose number is its argument. When that end is closed, however the launcher came to its end, it
takes no more orders and ends as soon as its children have. The same if code was changed on the disk.

A child waits for a word of the launcher before it begins: it is then known which process has the run, and
a run of which the launcher never learned that it was forked does not take place.
"""

import atexit
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, NoReturn

from restsource_dagster.local_runtime.preload import (
    ImportedFiles,
    count_threads,
    import_run_modules,
)

__all__ = ["ForkRequest", "serve_forks"]

JOB_VARIABLE = "DAGSTER_RUN_JOB_NAME"
_GO_BYTE = b"g"


@dataclass(frozen=True)
class ForkRequest:
    """A run to execute: its job's name and the arguments of `dagster api execute_run`."""

    job: str
    arguments: str


@dataclass
class _ForkServer:
    connection: Connection
    sources: ImportedFiles
    gates: dict[int, int] = field(default_factory=dict)
    """By child that waits for the word: the pipe through which it comes."""
    children: set[int] = field(default_factory=set)
    listening: bool = True

    def serve(self) -> ForkRequest | None:
        """Serve until the end, which is None; in a child, return what it is to execute."""
        alarm, alarmed = os.pipe()
        for end in (alarm, alarmed):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(alarmed, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _ignore_signal)
        self._say({"ready": os.getpid()})  # not before a signal would be heard
        while self.listening or self.children:
            ready = wait([alarm, self.connection] if self.listening else [alarm])
            if alarm in ready and _has_stop_signal(os.read(alarm, 4096)):
                self._stop_listening()
            elif self.connection in ready and (order := self._receive()):
                os.close(alarm)
                os.close(alarmed)
                return order
            self._reap()
        return None

    def _receive(self) -> ForkRequest | None:
        try:
            message: dict[str, Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._stop_listening()
            return None
        if message["do"] == "fork":
            return self._fork(ForkRequest(message["job"], message["arguments"]))
        if message["do"] == "retire":
            self._stop_listening()
        else:
            self._open_gate(message["pid"], go=message["do"] == "go")
        return None

    def _open_gate(self, child: int, *, go: bool) -> None:
        gate = self.gates.pop(child, None)
        if gate is None:
            return
        if go:
            with suppress(BrokenPipeError):  # it was killed while it waited
                os.write(gate, _GO_BYTE)
        os.close(gate)

    def _fork(self, order: ForkRequest) -> ForkRequest | None:
        """Fork; returns the order in the child."""
        if self.sources.changed:
            self._say({"stale": True})
            self._stop_listening()
            return None
        gate, opener = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(opener)
            self._become_a_child(gate)
            return order
        os.close(gate)
        self.gates[pid] = opener
        self.children.add(pid)
        self._say({"pid": pid})
        return None

    def _become_a_child(self, gate: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.connection.close()
        for other in self.gates.values():
            os.close(other)
        word = os.read(gate, 1)
        os.close(gate)
        if word != _GO_BYTE:
            os._exit(0)

    def _reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.children.discard(pid)
            gate = self.gates.pop(pid, None)
            if gate is not None:
                os.close(gate)
            self._say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _say(self, message: dict[str, Any]) -> None:
        with suppress(OSError, ValueError):  # nobody listens any more
            self.connection.send_bytes(json.dumps(message).encode())

    def _stop_listening(self) -> None:
        self.listening = False
        for gate in self.gates.values():
            os.close(gate)
        self.gates.clear()


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """The wake-up pipe has it."""


def _has_stop_signal(alarms: bytes) -> bool:
    return signal.SIGINT in alarms or signal.SIGTERM in alarms


def serve_forks() -> NoReturn:
    """Import, serve, and in a child: execute a run. Ends the process."""
    connection = Connection(int(sys.argv[1]))
    begun = time.time_ns()
    import_run_modules()
    threads = count_threads()
    if threads != 1:
        message = f"an import has started a thread, and forking is safe only without ({threads})"
        connection.send_bytes(json.dumps({"unfit": message}).encode())
        os._exit(1)  # at once: nobody knows what that thread waits for
    server = _ForkServer(connection, ImportedFiles(begun))
    gc.collect()
    gc.freeze()  # what is imported stays: children need not look through it, nor copy its pages
    order = server.serve()
    _exit_process(_execute_run(order) if order is not None else 0)


def _execute_run(order: ForkRequest) -> int:
    """Execute a run; returns the exit code."""
    from dagster._cli.api import api_cli

    # definitions of other connectors than the job's are then left out
    os.environ[JOB_VARIABLE] = order.job
    try:
        api_cli.main(args=["execute_run", order.arguments], standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the interpreter would do the same with what nobody catches
        traceback.print_exc()
        return 1
    return 0


def _exit_process(code: int) -> NoReturn:
    """End this process as `multiprocessing` ends its children: without taking apart what was imported.

    That takes longer than a small run, and libraries complain of objects that a frozen heap keeps.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
