"""Count what the smallest run of a package enters: `python tools/house_run.py NAME` prints JSON.

The run: a new process reads one connector file and loads its only resource, one page of three rows
without a fault, from a real HTTP server into DuckDB in a temporary folder. `sys.setprofile` sees it
in all threads, the imports included. Child processes are not seen.

Only code in the package's own files counts, not what dataclasses and pydantic generate.

- `modules_entered`: modules of which any code ran, `__init__` files apart.
- `blocks_run`: distinct pieces of code that ran: functions and the bodies of modules and classes.
- `functions_called`: the functions among them, with lambdas and comprehensions.
- `hops`: how often a thread's next call is in another module than its last. This is how often a
  reader who follows the run opens another file. A resumed generator is a call, a return is none.
- `links`: distinct pairs of caller and callee in two modules. The caller is the nearest of the
  package's functions on the stack; libraries in between don't count.

Figures of two versions of Python differ slightly: 3.12 runs comprehensions inline.
"""

import importlib
import importlib.util
import inspect
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ENTRY_POINTS = {
    "Settings": ("settings",),
    "load_file": ("connector.loader", "config.files"),
    "ingest": ("engine.run.ingest", "engine.ingest"),
}
"""What the run calls, and the modules where it may be; the first that exists is taken."""

_Block = tuple[str, str, int]
"""A piece of code by its file, qualified name and first line."""


class Recorder:
    """Counts the calls of a package's code in all threads."""

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder}{os.sep}"
        self._blocks: dict[_Block, bool] = {}
        self._links: set[tuple[_Block, _Block]] = set()
        self._hops: list[None] = []
        self._thread = threading.local()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Count until the block ends; threads started before it are not seen."""
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def figures(self) -> dict[str, int]:
        """The counts, by the names that the module's docstring explains."""
        files = {file for file, _, _ in self._blocks}
        return {
            "modules_entered": sum(Path(file).name != "__init__.py" for file in files),
            "functions_called": sum(self._blocks.values()),
            "blocks_run": len(self._blocks),
            "hops": len(self._hops),
            "links": len(self._links),
        }

    def _on_event(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._prefix):
            return
        self._blocks[_block(code)] = bool(code.co_flags & inspect.CO_OPTIMIZED)
        if getattr(self._thread, "file", code.co_filename) != code.co_filename:
            # unlike `+= 1`, an append of two threads at once is never lost
            self._hops.append(None)
        self._thread.file = code.co_filename
        caller = frame.f_back
        while caller and not caller.f_code.co_filename.startswith(self._prefix):
            caller = caller.f_back
        if caller and caller.f_code.co_filename != code.co_filename:
            self._links.add((_block(caller.f_code), _block(code)))


def _block(code: CodeType) -> _Block:
    # code objects of two files are equal if their code is
    return (code.co_filename, code.co_qualname, code.co_firstlineno)


class _ThreeRows(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer every request with the one page."""
        body = json.dumps([{"id": number, "name": f"row {number}"} for number in range(3)]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep standard error for errors."""


def _entry_point(package: str, name: str) -> Any:
    for place in ENTRY_POINTS[name]:
        if _exists(f"{package}.{place}"):
            return getattr(importlib.import_module(f"{package}.{place}"), name)
    raise SystemExit(f"{name} is in none of {', '.join(ENTRY_POINTS[name])}: see ENTRY_POINTS")


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package it would be in does not exist
        return False


def _load_three_rows(package: str, folder: Path) -> None:
    file = folder / "configs" / "shop.json"
    settings = _entry_point(package, "Settings")(
        configs=file.parent, data_dir=folder / "data", state_dir=folder / "state"
    )
    connector = _entry_point(package, "load_file")(file).connector
    ingest = _entry_point(package, "ingest")
    outcomes = list(ingest(connector, settings=settings, environment={}))
    if [outcome.rows_loaded for outcome in outcomes] != [3]:
        raise SystemExit(f"the run did not load three rows: {outcomes}")


def main() -> None:
    """Run, and print the figures as one JSON object."""
    package = sys.argv[1]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"no package {package} on the path")
    recorder = Recorder(Path(spec.origin).parent)
    with (
        tempfile.TemporaryDirectory() as name,
        ThreadingHTTPServer(("127.0.0.1", 0), _ThreeRows) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base_url = f"http://127.0.0.1:{server.server_port}"
        file = Path(name) / "configs" / "shop.json"
        file.parent.mkdir()
        content = {
            "schedule": {"mode": "manual"},
            "client": {"base_url": base_url},
            "resources": ["things"],
        }
        file.write_text(json.dumps(content), encoding="utf-8")
        with recorder.recording():
            _load_three_rows(package, Path(name))
        server.shutdown()
    sys.stdout.write(json.dumps(recorder.figures()))


if __name__ == "__main__":
    main()
