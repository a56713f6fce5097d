"""The server of the builder: whom it answers, what it serves, and how it ends."""

import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.authoring.builder.builder_process import BuilderProcess, run_builder
from restsource_dagster_tests.telling import told_by
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

# looked for, not imported: each process that collects the tests would import it
pytestmark = pytest.mark.skipif(
    find_spec("nicegui") is None, reason="the extra `builder` is not installed"
)

SECRET = "s3cr3t-value-of-the-env-file"
CONNECTOR = {
    "schedule": {"mode": "manual"},
    "client": {"base_url": "https://api.example.com", "auth": {"token": "${SHOP_TOKEN}"}},
    "resources": ["orders"],
}


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuilderProcess]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "configs").mkdir()
    (folder / "configs" / "shop.json").write_text(json.dumps(CONNECTOR))
    (folder / ".env").write_text(f"SHOP_TOKEN={SECRET}\n")
    with run_builder(folder) as started:
        yield started
        assert started.stop() == 0
    left = sorted(one.name for one in folder.iterdir() if one.name != ".restsource")
    assert left == [".env", "configs"]


def answer_to(
    builder: BuilderProcess,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: str | None = None,
) -> tuple[int, str]:
    """The status and the text of an answer; `Host` and the token are right unless they are given."""
    given = {
        "Host": f"127.0.0.1:{builder.port}",
        "Cookie": f"restsource_builder_{builder.port}={builder.token}",
        **(headers or {}),
    }
    connection = http.client.HTTPConnection("127.0.0.1", builder.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
SOCKET_PATH = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
POLLING_PATH = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"


@pytest.mark.parametrize("path", ["/", "/open/shop", "/help", POLLING_PATH, "/_nicegui/x"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"Cookie": ""},
        {"Cookie": "", "Authorization": "Bearer wrong"},
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
    ],
)
def test_nothing_is_answered_without_the_token_or_to_another_page(
    builder: BuilderProcess, path: str, wrong: Mapping[str, str]
) -> None:
    status, text = answer_to(builder, path, wrong)
    assert status == 403
    assert "shop" not in text


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({}, 101),
        ({"Cookie": ""}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
    ],
)
def test_a_websocket_is_opened_by_the_page_only(
    builder: BuilderProcess, wrong: Mapping[str, str], status: int
) -> None:
    headers = {**WEBSOCKET, "Origin": builder.origin, **wrong}
    # answered without reading on: an open WebSocket has no end
    connection = http.client.HTTPConnection("127.0.0.1", builder.port, timeout=PATIENCE_SECONDS)
    connection.request(
        "GET",
        SOCKET_PATH,
        headers={
            "Host": f"127.0.0.1:{builder.port}",
            "Cookie": f"restsource_builder_{builder.port}={builder.token}",
            **headers,
        },
    )
    assert connection.getresponse().status == status
    connection.close()


def test_only_this_machine_reaches_it(builder: BuilderProcess) -> None:
    others = {one[4][0] for one in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((str(address), builder.port), PATIENCE_SECONDS)


def test_a_page_loads_nothing_from_elsewhere_and_has_no_secret(builder: BuilderProcess) -> None:
    status, text = answer_to(builder, "/open/shop")
    assert status == 200
    assert "api.example.com" in text
    assert SECRET not in text
    loaded = re.findall(r"""(?:src|href)="([^"]+)"|url\("([^"]+)"\)""", text)
    assert loaded
    named = {one for pair in loaded for one in pair if one and not one.startswith("data:")}
    assert {one for one in named if "//" in one} == set()


def test_the_editor_is_helped_by_the_schema(builder: BuilderProcess) -> None:
    asked = json.dumps({"text": '{"😀": 1, "sch', "position": len('{"xx": 1, "sch')})
    headers = {"Content-Type": "application/json", "Origin": builder.origin}
    status, text = answer_to(builder, "/help", headers, method="POST", body=asked)
    assert status == 200
    found = json.loads(text)
    assert {"schedule", "client"} <= {one["label"] for one in found["completions"]}
    assert (found["begin"], found["end"]) == (10, 14)


def test_it_ends_by_itself_when_no_page_is_open(tmp_path: Path) -> None:
    with run_builder(tmp_path, "--stop-after", "0.01") as started:
        assert started.process.wait(PATIENCE_SECONDS) == 0


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    code = """
import contextlib, io, json, sys
sys.modules["nicegui"] = None
from restsource_dagster.cli import main
with contextlib.redirect_stderr(io.StringIO()) as said:
    code = main(["build"])
print(json.dumps([code, said.getvalue()]))
"""
    code_of_exit, said = told_by(code, tmp_path, {})
    assert code_of_exit == 1
    assert 'pip install "restsource-dagster[builder]"' in said


def test_assets_know_the_builder_while_it_runs(tmp_path: Path) -> None:
    """Its port is the usual one, or a free one; its token is nowhere."""
    settings = Settings(state_dir=tmp_path / ".restsource")
    assert settings.builder_address is None
    with run_builder(tmp_path) as builder:
        assert settings.builder_address == builder.origin
        assert (
            Settings(state_dir=settings.state_dir, builder="http://a").builder_address == "http://a"
        )
        with run_builder(tmp_path) as other:
            assert other.port != builder.port
            assert settings.builder_address == other.origin
            other.stop()
        note = settings.state_dir / "builder.json"
        assert builder.token not in note.read_text()
        builder.stop()
    assert settings.builder_address is None
    note.write_text("{")
    assert settings.builder_address is None
