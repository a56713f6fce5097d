"""`restsource new --url`: the file, its report, the secrets in `.env`, and the questions."""

import json
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from restsource_dagster.connector.loader import load_file
from restsource_dagster_tests.cli.runner import invoke, on_terminal
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

TOKEN = "t0ken-of-the-shop"
ROWS = [{"id": number, "name": "n"} for number in range(1, 26)]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    return tmp_path


def orders(seen: Seen) -> Any:
    """25 orders in pages, for whom knows the token and the key."""
    if seen.headers.get("authorization") != f"Bearer {TOKEN}":
        return Answer({"message": "who are you?"}, status=401)
    page = int(seen.query.get("page", 1))
    return {"orders": ROWS[(page - 1) * 10 : page * 10], "pages": 3}


def test_no_secret_of_the_command_line_is_in_the_file_or_the_report(
    api: ApiServer, project: Path
) -> None:
    api.answers["/v1/orders"] = orders
    url = f"{api.url}/v1/orders?api_key=k3y-in-the-query&kind=new"
    made = invoke(
        "new", "shop", "--url", url, "--bearer", TOKEN, "--header", "X-Secret-Key=h3ader-value"
    )
    assert made.exit_code == 0, made.output
    path = project / "configs" / "shop.json"
    loaded = load_file(path)
    assert loaded.problems == ()
    file = json.loads(path.read_text())
    assert file["client"] == {
        "base_url": f"{api.url}/v1",
        "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"},
        "headers": {"X-Secret-Key": "${SHOP_X_SECRET_KEY}"},
    }
    [resource] = file["resources"]
    assert resource["endpoint"]["params"] == {"api_key": "${SHOP_API_KEY}", "kind": "new"}
    assert resource["endpoint"]["paginator"]["total_path"] == "pages"
    assert api.seen[0].query["api_key"] == "k3y-in-the-query"
    assert api.seen[0].headers["x-secret-key"] == "h3ader-value"
    assert dotenv_values(project / ".env") == {
        "SHOP_TOKEN": TOKEN,
        "SHOP_API_KEY": "k3y-in-the-query",
        "SHOP_X_SECRET_KEY": "h3ader-value",
    }
    report = (project / ".restsource" / "reports" / "shop.md").read_text()
    for secret in (TOKEN, "k3y-in-the-query", "h3ader-value"):
        assert secret not in path.read_text() + report + made.output
    for text in ("proved: `pages` says", "the second page was asked for", "key      id: unique"):
        assert text in made.stdout
    assert '| `primary_key` | `"id"` | proved |' in report


def test_a_reference_is_read_from_env(api: ApiServer, project: Path) -> None:
    api.answers["/v1/orders"] = orders
    (project / ".env").write_text(f"MY_TOKEN={TOKEN}\n")
    made = invoke(
        "new", "shop", "--url", f"{api.url}/v1/orders", "--bearer", "${MY_TOKEN}", "--json"
    )
    assert made.exit_code == 0, made.output
    document = json.loads(made.stdout)
    assert document["file"] == json.loads((project / "configs" / "shop.json").read_text())
    assert document["preview"]["fine"]
    assert {one["confidence"] for one in document["guesses"]} == {"likely", "proved"}
    assert (project / ".env").read_text() == f"MY_TOKEN={TOKEN}\n"


def test_nothing_is_written_if_the_api_refuses(api: ApiServer, project: Path) -> None:
    api.answers["/v1/orders"] = orders
    made = invoke("new", "shop", "--url", f"{api.url}/v1/orders", "--bearer", "wr0ng-token")
    assert made.exit_code == 1
    assert "Nothing is written: the API answered 401" in made.stderr
    made = invoke("new", "shop", "--url", f"{api.url}/v1/orders", "--bearer", "${NO_TOKEN}")
    assert made.exit_code == 1
    assert "NO_TOKEN" in made.stderr
    assert sorted(each.name for each in project.iterdir()) == ["configs"]
    assert list((project / "configs").iterdir()) == []


def test_a_terminal_is_asked_step_by_step(api: ApiServer, project: Path) -> None:
    api.answers["/v1/orders"] = orders
    answers = ("shop", f"{api.url}/v1/orders", "bearer", TOKEN)
    code, shown = on_terminal("new", folder=project, answers=answers)
    assert code == 0, shown
    assert TOKEN not in shown
    file = json.loads((project / "configs" / "shop.json").read_text())
    assert file["client"]["auth"] == {"type": "bearer", "token": "${SHOP_TOKEN}"}
    assert dotenv_values(project / ".env") == {"SHOP_TOKEN": TOKEN}
