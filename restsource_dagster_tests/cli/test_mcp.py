"""`restsource mcp`: the tools over stdio, and what never crosses."""

import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from restsource_dagster.authoring.assistant_access import AccessRefusedError, AssistantAccess
from restsource_dagster.cli.mcp_command import bound_lines
from restsource_dagster.cli.mcp_tools import answer
from restsource_dagster.connector.loader import load_text
from restsource_dagster_tests.cli.runner import environment, invoke
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from mcp.client.client import Client

TOKEN = "t0ken-of-the-shop"
OTHER = "an-0ther-secret"
ORDERS = {
    "name": "orders",
    "primary_key": "id",
    "endpoint": {
        "path": "orders",
        "data_selector": "orders",
        "paginator": {"type": "page_number", "base_page": 1, "total_path": "pages"},
    },
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with secrets, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / ".env").write_text(f"SHOP_TOKEN={TOKEN}\nOTHER_KEY={OTHER}\n")
    return tmp_path


def file(base_url: str, auth: str = "${SHOP_TOKEN}", **client: Any) -> Mapping[str, Any]:
    """A connector file of a shop."""
    return {
        "schedule": {"mode": "manual"},
        "client": {"base_url": base_url, "auth": {"type": "bearer", "token": auth}, **client},
        "resources": [ORDERS],
    }


def orders(seen: Seen) -> Any:
    """Two pages of orders; the API sends the caller's token back."""
    if seen.headers.get("authorization") != f"Bearer {TOKEN}":
        return Answer({"message": "who are you?"}, status=401)
    page = int(seen.query.get("page", 1))
    rows = [{"id": 10 * page + n, "echo": seen.headers["authorization"]} for n in range(3)]
    return {"orders": rows, "pages": 2}


@asynccontextmanager
async def serving(*options: str) -> "AsyncIterator[Client]":
    """The package's own client, connected to `restsource mcp` as a process."""
    # here, as each process that collects the tests would import it for more than a second
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters

    arguments = ["-m", "restsource_dagster.cli", "mcp", *options]
    given = StdioServerParameters(command=sys.executable, args=arguments, env=environment())
    async with Client(given) as client:
        yield client


async def call(client: "Client", tool: str, **arguments: Any) -> Any:
    """The result of a tool; the text of its error if it has failed."""
    made = await client.call_tool(tool, arguments)
    [content] = made.content
    assert content.type == "text"
    assert TOKEN not in content.text
    assert OTHER not in content.text
    return content.text if made.is_error else json.loads(content.text)


def ask(tool: str, *allowed: str, write: bool = False, **arguments: Any) -> Any:
    """The result of a tool, or the text of its error, in this process."""
    made = answer(
        {
            "tool": tool,
            "arguments": arguments,
            "configs": "configs",
            "allowed": allowed,
            "write": write,
        }
    )
    text = json.dumps(made)
    assert TOKEN not in text
    assert OTHER not in text
    return made.get("result", made.get("error"))


def test_an_assistant_writes_a_file_and_runs_it(api: ApiServer, project: Path) -> None:
    api.answers["/v1/orders"] = orders

    async def work() -> None:
        async with serving("--write", "--allow", f"SHOP_TOKEN@{api.url}") as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {
                *("schema", "templates", "check", "preview", "detect", "import", "forecast"),
                *("grade", "list", "run", "save"),
            }
            # bounds that the server knows itself
            for name in ("../outside", "/etc/passwd", "outside.json", "--help"):
                for tool in ("check", "run", "preview"):
                    assert "validation error" in await call(client, tool, name=name)
            assert "validation error" in await call(client, "check", text="x" * 1_000_001)
            bad = await call(client, "preview", name="shop", resources=["--max-seconds"])
            assert "validation error" in bad

            made = await call(
                client, "detect", name="shop", url=f"{api.url}/v1/orders", bearer="${SHOP_TOKEN}"
            )
            text = json.dumps(made["file"])
            assert made["file"]["client"]["auth"]["token"] == "${SHOP_TOKEN}"
            assert not any((project / "configs").iterdir())
            saved = await call(client, "save", name="shop", text=text)
            assert Path(saved["path"]).read_text() == text

    # in a thread: a browser of another test may have a loop in this one
    with ThreadPoolExecutor(1) as thread:
        thread.submit(anyio.run, work).result()
    made = ask("run", write=True, name="shop")
    assert made["resources"][0]["rows_loaded"] == 6
    assert "There is no connector" in ask("run", write=True, name="shops")


def test_a_preview_of_a_text_hides_what_the_api_sends_back(api: ApiServer) -> None:
    api.answers["/v1/orders"] = orders
    text = json.dumps(file(f"{api.url}/v1"))
    allowed = f"SHOP_TOKEN@{api.url}"
    assert ask("check", allowed, text=text)["fine"] is True
    seen = ask("preview", allowed, name="shop", text=text)
    assert seen["fine"] is True
    assert seen["resources"][0]["paging"]["verdict"] == "proved"
    assert seen["resources"][0]["records"][0]["echo"] == "Bearer [secret]"
    assert ask("forecast", allowed, text=text)["each_run"] == 2
    made = ask("grade", allowed, text=text, attacks=["cut"])
    [one] = made["resources"]
    assert (one["rows_from"], one["attacks"][0]["verdict"]) == ("preview", "survived")
    assert "there are page_twice" in ask("grade", allowed, text=text, attacks=["cuts"])
    assert "has errors" in ask("preview", allowed, text="{}")


def test_a_text_sends_secrets_only_where_a_saved_file_does(api: ApiServer, project: Path) -> None:
    api.answers["/v1/orders"] = orders
    (project / "configs" / "shop.json").write_text(json.dumps(file(f"{api.url}/v1")))
    (project / "key").write_text(OTHER)
    key = f"${{file:{project}/key}}"
    for value, said in (
        (file("http://127.0.0.1:9/v1"), "No saved file asks http://127.0.0.1:9"),
        (file(api.url, "${OTHER_KEY}"), "No saved file sends ${OTHER_KEY}"),
        (file(api.url, key), "only a person can write such a reference"),
        (file(api.url, tls={"ca": "/etc/passwd"}), "`client.tls` names files"),
        (
            {**file(api.url), "http": {"allowed_hosts": ["evil.example.com"]}},
            "No saved file asks evil.example.com",
        ),
    ):
        assert said in ask("preview", text=json.dumps(value))
        assert said in ask("save", name="x", text=json.dumps(value), write=True)
    # a name leads to stored tokens and to dlt's own secrets
    other = ask("preview", "127.0.0.1:9", name="x", text=json.dumps(file("https://127.0.0.1:9")))
    assert "No saved file sends ${SHOP_TOKEN} to https://127.0.0.1:9" in other
    assert "--allow SHOP_TOKEN@127.0.0.1:9" in other
    plain = {**file("https://127.0.0.1:9"), "client": {"base_url": "https://127.0.0.1:9"}}
    other = ask("preview", "127.0.0.1:9", name="shop", text=json.dumps(plain))
    assert "The saved file shop does not ask https://127.0.0.1:9" in other

    assert "No saved file asks" in ask("detect", name="x", url="http://127.0.0.1:9/orders")
    literal = ask("detect", name="x", url=f"{api.url}/a", bearer="abc1234")
    assert literal.startswith("Write ${X_TOKEN} in place of a secret")
    assert "--write" in ask("run", name="shop")
    assert api.seen == []
    assert ask("preview", text=json.dumps(file(f"{api.url}/v1")))["fine"] is True


def test_each_host_gets_only_the_secrets_that_a_saved_file_sends_there(
    api: ApiServer, project: Path
) -> None:
    """A file with a login elsewhere and a list at another host allows neither for the others."""
    saved = dict(file(f"{api.url}/v1"))
    saved["client"]["auth"] = {
        "type": "oauth2_client_credentials",
        "access_token_url": "https://127.0.0.1:7/token",
        "client_id": "a",
        "client_secret": "${OTHER_KEY}",
    }
    saved["client"]["headers"] = {"x-tenant": "${SHOP_TOKEN}"}
    far = {"path": "https://127.0.0.1:8/far", "params": {"key": "${FAR_KEY}"}}
    saved["resources"] = ["orders", {"name": "far", "endpoint": far}]
    (project / "configs" / "shop.json").write_text(json.dumps(saved))
    environment = {"SHOP_TOKEN": "token-1", "OTHER_KEY": "token-2", "FAR_KEY": "token-3"}
    access = AssistantAccess(project / "configs", environment)
    for reference, own in (
        ("SHOP_TOKEN", api.url),
        ("OTHER_KEY", "https://127.0.0.1:7"),
        ("FAR_KEY", "https://127.0.0.1:8"),
    ):
        for origin in (api.url, "https://127.0.0.1:7", "https://127.0.0.1:8"):
            if origin == own:
                assert access.check_url(origin, [reference]) == {reference: environment[reference]}
            else:
                with pytest.raises(AccessRefusedError, match=rf"sends ..{reference}. to {origin}"):
                    access.check_url(origin, [reference])
    loaded = load_text(json.dumps(saved), project / "configs" / "other.json")
    assert loaded.connector is not None, loaded.problems
    assert access.check_connector(loaded.connector) == environment
    client = {**saved["client"], "headers": {"x-tenant": "${OTHER_KEY}"}}
    other = load_text(json.dumps({**saved, "client": client}), project / "configs" / "other.json")
    assert other.connector is not None
    with pytest.raises(AccessRefusedError, match=r"No saved file sends ..OTHER_KEY"):
        access.check_connector(other.connector)


def test_a_host_that_stands_in_a_param_gets_only_what_a_saved_file_sends_there(
    api: ApiServer, project: Path
) -> None:
    """A host may come from a param, and a secret may be a part of a path."""
    far = {
        "path": "https://127.0.0.1:8/{resources.orders.id}/{key}",
        "params": {"key": "${FAR_KEY}"},
    }
    saved = {**file(api.url), "resources": [ORDERS, {"name": "far", "endpoint": far}]}
    (project / "configs" / "shop.json").write_text(json.dumps(saved))
    environment = {"SHOP_TOKEN": "token-1", "FAR_KEY": "token-3"}
    access = AssistantAccess(project / "configs", environment)

    def check(endpoint: Mapping[str, Any], **more: Any) -> Mapping[str, str]:
        value = {**file(api.url), "resources": [{"name": "far", "endpoint": endpoint}], **more}
        loaded = load_text(json.dumps(value), project / "configs" / "other.json")
        assert loaded.connector is not None, loaded.problems
        return access.check_connector(loaded.connector)

    host = {"path": "https://{host}/x", "params": {"host": "127.0.0.1:8", "key": "${FAR_KEY}"}}
    assert check(host) == environment
    own = {"host": "127.0.0.1:8", "key": "${SHOP_TOKEN}"}
    each = {"path": "https://{each.host}/x", "for_each": {"host": ["127.0.0.1:8"]}}
    listed = {"allowed_hosts": ["127.0.0.1:8"]}
    for endpoint, more in (
        ({**host, "params": own}, {}),
        ({"path": "https://127.0.0.1:8/{key}", "params": {"key": "${SHOP_TOKEN}"}}, {}),
        ({**each, "params": {"key": "${SHOP_TOKEN}"}}, {"http": listed}),
    ):
        with pytest.raises(AccessRefusedError, match=r"SHOP_TOKEN. to https://127.0.0.1:8"):
            check(endpoint, **more)
    with pytest.raises(AccessRefusedError, match=r"No saved file asks https://127.0.0.1:9"):
        check({**host, "params": {**own, "host": "127.0.0.1:9"}})


def test_a_message_without_an_end_ends_the_server() -> None:
    """What came before it is served, and nothing of the part that it is in."""
    for sent, served in (
        (b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\n" + b"x" * 100, b"one\n" + b"x" * 100),
        (b"x" * 200_000, b""),
    ):
        reader, writer = os.pipe()
        thread = bound_lines(reader, most=150)
        feeding = threading.Thread(target=_feed, args=(writer, sent))
        feeding.start()
        with os.fdopen(reader, "rb") as lines:
            assert lines.read() in (served, served[:150])
        thread.join(PATIENCE_SECONDS)
        feeding.join(PATIENCE_SECONDS)


def _feed(writer: int, sent: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(writer, "wb") as file:
        file.write(sent)


def test_a_file_is_replaced_only_if_it_is_still_the_one_that_was_checked(
    api: ApiServer, project: Path
) -> None:
    path = project / "configs" / "shop.json"
    path.write_text(json.dumps(file(api.url)))
    text = json.dumps({**file(api.url), "description": "new"})

    def save(**arguments: Any) -> Any:
        return ask("save", write=True, **arguments)

    assert "shop.json exists" in save(name="shop", text=text)
    before = ask("check", name="shop")
    path.write_text(json.dumps({**file(api.url), "description": "of a person"}))
    assert "shop.json has changed" in save(name="shop", text=text, replaces=before["sha256"])
    now = ask("check", name="shop")
    save(name="shop", text=text, replaces=now["sha256"])
    assert path.read_text() == text
    assert sorted(each.name for each in path.parent.iterdir()) == ["shop.json"]
    assert "has errors" in save(name="other", text="{}")
    assert "`name` is not other" in save(
        name="other", text=json.dumps({**file(api.url), "name": "another"})
    )
    outside = project / "outside.json"
    path.rename(outside)
    path.symlink_to(outside)
    assert "is a link" in save(name="shop", text=text, replaces=now["sha256"])


def test_sources_are_imported_and_the_schema_is_read_in_parts() -> None:
    line = f"curl https://api.example.com/v1/orders -H 'Authorization: Bearer {TOKEN}'"
    made = ask("import_source", sources=[{"name": "line", "text": line}])
    assert made["file"]["client"]["auth"]["token"].startswith("${")
    assert len(made["missing"]) == 1
    assert "Nothing is imported" in ask("import_source", sources=[{"name": "a", "text": "?"}])
    whole = ask("schema")
    assert "Endpoint" in whole["parts"]
    part = ask("schema", part="Endpoint")
    assert "data_selector" in part["schema"]["properties"]
    assert "no part of this name" in ask("schema", part="Endpoints")
    assert ask("templates")["templates"]
    assert ask("list_connectors")["connectors"] == []


def test_an_answer_that_is_too_large_is_an_error(api: ApiServer, project: Path) -> None:
    api.answers["/orders"] = {"orders": [{"id": n, "text": "x" * 60_000} for n in range(20)]}
    (project / "configs" / "shop.json").write_text(json.dumps(file(api.url)))
    made = ask("preview", name="shop", rows=20)
    assert "ask for fewer resources, rows or pages" in made


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `mcp` is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mcp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)


@pytest.mark.usefixtures("without_package")
def test_a_missing_extra_is_named() -> None:
    made = invoke("mcp")
    assert made.exit_code == 1
    assert 'pip install "restsource-dagster[mcp]"' in made.stderr


def test_a_wrong_allowance_is_wrong_usage() -> None:
    made = invoke("mcp", "--allow", "https://api.example.com/path")
    assert made.exit_code == 2
    assert "SHOP_TOKEN@api.example.com" in made.stderr
