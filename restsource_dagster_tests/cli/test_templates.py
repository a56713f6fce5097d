"""`restsource templates`, and `restsource check` of files that use one."""

import json
from pathlib import Path

import pytest

from restsource_dagster.connector.templates import shipped_templates
from restsource_dagster_tests.cli.runner import invoke

OWN = {
    "title": "Our shop",
    "version": "7",
    "inputs": {
        "subdomain": {"description": "The part before .shop.example."},
        "token": {"description": "An API token.", "secret": True},
        "days": {"description": "How far back.", "type": "number", "default": 30},
    },
    "client": {
        "base_url": "https://${input.subdomain}.shop.example",
        "auth": {"type": "bearer", "token": "${input.token}"},
    },
    "resources": ["orders", "customers"],
}
FILE = {
    "template": "our_shop",
    "inputs": {"subdomain": "acme", "token": "${SHOP_TOKEN}"},
    "schedule": {"mode": "manual"},
    "resources": ["orders"],
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a template of its own and a file that uses it; it is the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs" / "templates"
    folder.mkdir(parents=True)
    (folder / "our_shop.json").write_text(json.dumps(OWN))
    (tmp_path / "configs" / "shop.json").write_text(json.dumps(FILE))
    return tmp_path


def test_templates_are_listed_with_their_resources_and_inputs() -> None:
    listed = invoke("templates")
    assert listed.exit_code == 0
    assert "our_shop  Our shop, version 7\n  resources: orders, customers\n" in listed.stdout
    assert "  subdomain: The part before .shop.example.\n" in listed.stdout
    assert "  token: An API token. (a secret)\n" in listed.stdout
    assert "  days: How far back. (optional, default 30)\n" in listed.stdout
    for name in shipped_templates():
        assert f"{name}  " in listed.stdout


def test_check_prints_no_secret_that_stands_in_a_file(project: Path) -> None:
    path = project / "configs" / "shop.json"
    hmac = {
        "type": "hmac",
        "secret": "c4n4ry",
        "message": "{path}",
        "headers": {"X": "{signature}"},
    }
    login = {"type": "login", "path": "login", "json": {"user": "ann", "password": "c4n4ry"}}
    own = {"name": "own", "endpoint": {"path": "own", "auth": login}}
    file = json.loads(path.read_text())
    client = {"auth": hmac, "headers": {"X-Api-Key": "c4n4ry"}}
    path.write_text(json.dumps({**file, "client": client, "resources": ["orders", own]}))
    for arguments in (["--expanded"], ["--json"]):
        shown = invoke("check", *arguments)
        assert shown.exit_code == 0
        assert '"secret": "[secret]"' in shown.stdout
        assert "c4n4ry" not in shown.stdout + shown.stderr


def test_the_list_is_json_if_asked_for() -> None:
    listed = json.loads(invoke("templates", "--json").stdout)["templates"]
    assert sorted(each["name"] for each in listed) == sorted(["our_shop", *shipped_templates()])
    mine = next(each for each in listed if each["name"] == "our_shop")
    assert mine["inputs"]["token"]["required"] is True
    assert mine["inputs"]["days"]["default"] == 30


def test_a_template_with_a_mistake_is_told_and_fails(project: Path) -> None:
    broken = {**OWN, "version": 7}
    (project / "configs" / "templates" / "our_shop.json").write_text(json.dumps(broken))
    listed = invoke("templates")
    assert listed.exit_code == 1
    assert "our_shop.json:1:" in listed.stderr
    assert "/version" in listed.stderr


def test_check_prints_what_a_file_stands_for() -> None:
    checked = invoke("check", "--expanded")
    assert checked.exit_code == 0
    head, _, rest = checked.stdout.partition("\n")
    assert head == "configs/shop.json stands for:"
    value, _ = json.JSONDecoder().raw_decode(rest)
    assert value["client"]["base_url"] == "https://acme.shop.example"
    assert value["resources"] == [{"name": "orders"}]
    assert "template" not in value
    files = json.loads(invoke("check", "--json").stdout)["files"]
    assert files[0]["expanded"] == value
