"""An API of ten rows, in a thread of this process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

__all__ = ["tiny_api"]

_ROWS = [
    {"id": number, "name": f"thing {number}", "updated_at": "2024-01-01T00:00:00Z"}
    for number in range(10)
]
_BODY = json.dumps({"data": _ROWS}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        self.wfile.write(_BODY)

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing."""


@contextmanager
def tiny_api() -> Iterator[str]:
    """Yield the URL of an API that returns ten rows under `data` for every path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
