"""Runs in processes of their own that start at once and can be killed.

A process that has imported everything, a fork of the zygote, forks for every run. Started as a module
it reads one order per line, `{"file": ..., "folder": ...}`, and writes what the runs tell, one JSON
object per line.
"""

import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from restsource_dagster_tests.destinations import destination_environment
from restsource_dagster_tests.waiting import PATIENCE_SECONDS
from restsource_dagster_tests.zygote import ENGINE, start_module

__all__ = ["Nursery", "Run"]

Event = dict[str, Any]


class Run:
    """A run in another process: what it tells, and the way to end it."""

    def __init__(self, events: "queue.Queue[Event]") -> None:
        self._events = events
        self.told: list[Event] = []
        self.pid: int = self.wait_for("pid")["pid"]

    def wait_for(self, kind: str, value: Any = None) -> Event:
        """The next event of a kind (with that value); gives back the end, if it comes first."""
        while True:
            event = self._events.get(timeout=PATIENCE_SECONDS)
            self.told.append(event)
            if "ended" in event or (kind in event and value in (None, event[kind])):
                return event

    def kill(self) -> None:
        """SIGKILL, as an out-of-memory killer would; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> Event:
        """Wait for the end."""
        return self.told[-1] if "ended" in self.told[-1] else self.wait_for("ended")

    def finish(self) -> Self:
        """Wait for the end; fails the test if the run failed."""
        assert self.end()["ended"] == 0, self.told
        return self

    def kill_at_random(
        self, seconds: tuple[float, float], dice: random.Random, *, in_load: bool
    ) -> str:
        """Kill it in its load or at any moment, and wait for its end; the phase it was in.

        The moment is what is tested. `seconds` are how long such a run takes before its load and
        from there, as `seconds_of` tells. "too late" if it had come to its end.
        """
        before, within = seconds
        if in_load:
            self.wait_for("phase", "load")
            time.sleep(dice.uniform(0.0, within))
        else:
            time.sleep(dice.uniform(0.0, before + within))
        self.kill()
        return "too late" if self.end()["ended"] == 0 else self.phase

    @property
    def phase(self) -> str:
        """The last phase that it entered."""
        return next((event["phase"] for event in reversed(self.told) if "phase" in event), "start")

    def seconds_of(self, phase: str) -> tuple[float, float]:
        """How long the run took before a phase, and from there to its end."""
        begun = next(event["at"] for event in self.told if event.get("phase") == phase)
        return begun - self.told[0]["at"], self.told[-1]["at"] - begun

    @property
    def messages(self) -> list[str]:
        """What it told people."""
        return [event["message"] for event in self.told if "message" in event]


class Nursery:
    """Starts runs, one at a time. A `with` statement; its end ends them."""

    def __init__(self) -> None:
        self._process = start_module(
            __name__, imports=ENGINE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=2
        )
        self._events: queue.Queue[Event] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def start(
        self,
        file: Mapping[str, Any],
        folder: Path,
        *,
        hurried: bool = False,
        window: tuple[str, Any, Any] | None = None,
        asked: Mapping[str, Any] | None = None,
        checkpoint_seconds: float = 60.0,
        settings: Mapping[str, Any] | None = None,
    ) -> Run:
        """Run the connector of this file's content, with settings below `folder`.

        `hurried` runs do not wait before they try a request again. `window` is a resource and both
        ends of the window of its history to load; `asked` are more arguments for a live run, `started` among
        them an ISO time.
        `checkpoint_seconds` is the setting, `settings` are others.
        """
        order = {"file": file, "folder": str(folder), "hurried": hurried}
        order |= {"window": window, "asked": dict(asked or {})}
        order |= {"settings": {"checkpoint_seconds": checkpoint_seconds, **(settings or {})}}
        order["environment"] = destination_environment()
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Run(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if line.startswith("{"):
                self._events.put({**json.loads(line), "at": time.monotonic()})


def _tell(**event: Any) -> None:
    os.write(1, (json.dumps(event) + "\n").encode())


class _Teller:
    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        _tell(page=resource)

    def phase(self, family: str, phase: str) -> None:
        _tell(phase=phase, family=family)

    def checkpoint(self, resource: str, rows: int) -> None:
        _tell(checkpoint=resource, rows=rows)

    def message(self, text: str) -> None:
        _tell(message=text)


def _run(order: Event) -> int:
    from restsource_dagster.connector.cursor_format import detect_cursor_format
    from restsource_dagster.connector.partitions import Window
    from restsource_dagster.connector.validation.connector_builder import parse_connector
    from restsource_dagster.engine.run.ingest import ingest
    from restsource_dagster.engine.run.window_load import ingest_window
    from restsource_dagster.settings import Settings
    from restsource_dagster_tests.making import make_settings

    os.environ.update(order["environment"])
    connector, findings = parse_connector(order["file"], Path("configs/shop.json"))
    assert connector is not None, findings
    common: dict[str, Any] = {
        "settings": Settings.model_validate(
            {**make_settings(Path(order["folder"])).model_dump(), **order["settings"]}
        ),
        "environment": {},
        "observer": _Teller(),
        "sleep": (lambda _: None) if order["hurried"] else time.sleep,
    }
    if order["window"]:
        resource, start, end = order["window"]
        span = Window(start, end, detect_cursor_format(start))
        outcomes = ingest_window(connector, resource, span, **common)
    else:
        asked = dict(order["asked"])
        if started := asked.pop("started", None):
            asked["started"] = datetime.fromisoformat(started)
        outcomes = ingest(connector, **common, **asked)
    failed = 0
    for outcome in outcomes:
        failed += outcome.failed
        _tell(outcome=outcome.resource, failure=outcome.failure and outcome.failure.message)
    return failed


def _main() -> None:
    for line in sys.stdin:
        if json.loads(line)["hurried"]:
            _tell(pid=os.getpid())
            _tell(ended=_run(json.loads(line)))
            continue
        pid = os.fork()
        if pid == 0:
            os._exit(_run(json.loads(line)))
        _tell(pid=pid)
        _, status = os.waitpid(pid, 0)
        _tell(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _main()
