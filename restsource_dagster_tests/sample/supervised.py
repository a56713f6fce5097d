"""A program for the tests: supervises two small servers, each with a child that won't stop."""

import http.server
import subprocess
import sys
from pathlib import Path

from restsource_dagster_tests.waiting import PATIENCE_SECONDS
from sample.service import Service
from sample.supervisor import Supervisor

# It lives for longer than a test waits for its end.
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    f"time.sleep({2 * PATIENCE_SECONDS})"
)


def serve(port: int, pid_file: Path) -> None:
    """Answer requests; the process and its child are written to `pid_file`."""
    child = subprocess.Popen([sys.executable, "-c", STUBBORN])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthy" else 404)
            self.end_headers()

    with http.server.HTTPServer(("127.0.0.1", port), Handler) as server:
        pid_file.write_text(f"{child.pid}", encoding="utf-8")
        sys.stderr.write("Traceback (most recent call last):\nOSError: odd\n")
        sys.stderr.flush()
        server.serve_forever()


def supervise(folder: Path, *ports: int, health_path: str, start_seconds: float) -> int:
    """Run one server per port."""
    services = [
        Service(
            name=f"server{number}",
            command=(sys.executable, "-m", __spec__.name, "serve", str(port), f"{folder}/{number}"),
            environment={},
            log=folder / f"{number}.log",
            port=port,
            health_path=health_path,
        )
        for number, port in enumerate(ports)
    ]
    greetings = {service.name: f"{service.name} is up" for service in services}
    supervisor = Supervisor(output=sys.stdout, start_seconds=start_seconds, grace_seconds=1)
    return supervisor.run(services, greetings)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        health_path, seconds, folder, *numbers = sys.argv[2:]
        ports = map(int, numbers)
        code = supervise(
            Path(folder), *ports, health_path=health_path, start_seconds=float(seconds)
        )
        sys.exit(code)
