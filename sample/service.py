"""One service: a command in a process group of its own, its log file, and its health URL."""

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from sample.output import NotableLines, plain
from sample.ports import HOST

__all__ = ["RunningService", "Service"]

_LAST_LINES = 20


@dataclass(frozen=True)
class Service:
    """A service to start. It is ready when `health_path` on `port` responds with 200."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    port: int
    health_path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class RunningService:
    """A started service. `show` is called with the lines to show, from another thread."""

    def __init__(
        self, service: Service, *, show: Callable[[str], None], ended: Callable[[int], None]
    ) -> None:
        """Start the process. `ended` is called with its exit code, from another thread."""
        self.service = service
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        service.log.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(  # noqa: S603 - our own commands
            service.command,
            env=dict(service.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._copy_output, args=(show,), daemon=True).start()
        threading.Thread(target=lambda: ended(self._process.wait()), daemon=True).start()

    @property
    def group(self) -> int:
        """The id of the process group, which is the id of its first process."""
        return self._process.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines of the output so far, without colours."""
        return tuple(self._last_lines)

    def answers(self) -> bool:
        """True if the service's health URL responds with 200."""
        connection = HTTPConnection(HOST, self.service.port, timeout=2)
        try:
            connection.request("GET", self.service.health_path, headers=dict(self.service.headers))
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _copy_output(self, show: Callable[[str], None]) -> None:
        notable = NotableLines()
        output = self._process.stdout
        # A pipe that breaks while the service stops has no more output.
        with suppress(ValueError, OSError), self.service.log.open("w", encoding="utf-8") as log:
            for line in output or ():
                text = plain(line)
                log.write(f"{text}\n")
                log.flush()
                self._last_lines.append(text)
                if (shown := notable.shown(text)) is not None:
                    show(shown)
