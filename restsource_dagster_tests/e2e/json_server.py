"""json-server with a key, as an API that pages with the Link header."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import requests

from restsource_dagster_tests.e2e.graphql import until
from restsource_dagster_tests.ports import reserve_ports
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

__all__ = ["JSON_SERVER", "JsonServer", "serve_json"]

JSON_SERVER = Path(__file__).resolve().parents[2] / "node_modules/json-server/lib/cli/bin.js"
KEY = "key-of-json-server"

_MIDDLEWARE = Path(__file__).with_name("json_server_key.js")


@dataclass(frozen=True)
class JsonServer:
    """A running json-server."""

    url: str
    log: Path
    key: str = KEY

    def send(self, method: str, path: str, row: dict[str, Any]) -> None:
        """Change its data, such as with `PATCH`, `posts/3`."""
        answer = _request(method, f"{self.url}/{path}", json=row, headers={"X-Api-Key": self.key})
        answer.raise_for_status()

    def asked(self) -> list[dict[str, str]]:
        """The parameters of all GET requests so far that had the key."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def serve_json(folder: Path, data: dict[str, Sequence[dict[str, Any]]]) -> Iterator[JsonServer]:
    """Serve tables of rows on 127.0.0.1 until the block ends."""
    database = folder / "db.json"
    database.write_text(json.dumps(data), encoding="utf-8")
    (port,) = reserve_ports(1)
    command = [
        *(which("node") or "node", str(JSON_SERVER), str(database)),
        *("--host", "127.0.0.1", "--port", str(port), "--quiet", "--middlewares", str(_MIDDLEWARE)),
    ]
    log = folder / "json-server.log"
    with (
        log.open("w", encoding="utf-8") as output,
        subprocess.Popen(
            command, cwd=folder, env=os.environ | {"API_KEY": KEY}, stdout=output, stderr=output
        ) as process,
    ):
        server = JsonServer(f"http://127.0.0.1:{port}", log)
        try:
            until(lambda: _answers(server, process), f"an answer of json-server (see {log})")
            yield server
        finally:
            process.terminate()


def _answers(server: JsonServer, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, server.log.read_text(encoding="utf-8")
    try:
        return _request("GET", f"{server.url}/db").status_code == 401
    except requests.ConnectionError:
        return False


def _request(method: str, url: str, **more: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # a proxy can't reach this machine
        return session.request(method, url, timeout=PATIENCE_SECONDS, **more)
