"""`restsource check` tells what a new version of a template changes for tables that are loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.builder.open_files import OpenFiles
from restsource_dagster.cli.mcp_tools import answer
from restsource_dagster.connector.loader import load_file
from restsource_dagster.engine.run.reset import reset_resources
from restsource_dagster.settings import Settings
from restsource_dagster_tests.cli.runner import invoke
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.api import Answer, ApiServer

CHANGES = [
    {"version": "2", "resources": ["orders"], "change": "`total` is a number of cents, no text."},
    {"version": "10", "change": "Times are in UTC."},
]


@pytest.fixture(autouse=True)
def project(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose file uses a template of its own; its folder is the current one."""
    folder = settings.configs.parent
    (settings.configs / "templates").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RESTSOURCE_STATE_DIR", str(settings.state_dir))
    file = {"template": "shop", "schedule": {"mode": "manual"}}
    (settings.configs / "acme.json").write_text(json.dumps(file))
    return folder


def write_template(api: ApiServer, version: str, **fields: Any) -> None:
    shop = {
        "title": "Shop",
        "version": version,
        "client": {"base_url": api.url, "paginator": "single_page"},
        "resources": ["orders", "customers"],
        **fields,
    }
    Path("configs/templates/shop.json").write_text(json.dumps(shop))


def run(settings: Settings) -> None:
    connector = load_file(settings.configs / "acme.json").connector
    assert connector is not None
    load(connector, settings)


def test_a_change_is_told_before_the_next_load_makes_it_and_no_longer(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/orders"] = [{"id": 1}]
    api.answers["/customers"] = Answer({"error": "out of order"}, status=400)
    write_template(api, "1")
    run(settings)  # of customers nothing was loaded
    write_template(api, "10", changes=CHANGES)
    assert json.loads(invoke("check", "--json").stdout)["files"][0]["template"] == {
        "version": "shop 10",
        "loaded": {"orders": "shop 1"},
    }
    told = invoke("check")
    assert told.exit_code == 0
    warning = "configs/acme.json:1:14: warning: /template: Version"
    assert (
        f"{warning} 2 of the template `shop` changes what `shop 1` loaded: `total` is a number of "
        "cents, no text. It concerns `orders`." in told.stdout
    )
    later = "10 of the template `shop` changes what `shop 1` loaded: Times are in UTC."
    assert f"{warning} {later}" in told.stdout
    assert "1 file, 0 broken, 0 problems, 2 warnings" in told.stdout
    asked = {"tool": "check", "arguments": {"name": "acme"}, "configs": "configs"}
    said = answer({**asked, "allowed": (), "write": False})["result"]["problems"]
    assert [later in each["message"] for each in said] == [False, True]
    files = OpenFiles(settings, read_runs=lambda _: {}, environment=dict)
    assert [one.warnings for one in files.list_files()] == [2]
    edited = files.open(settings.configs / "acme.json")
    assert [(one.line, one.severity) for one in edited.problems] == [(1, "warning")] * 2
    edited.text = f"\n{edited.text}"
    assert [one.line for one in edited.problems] == [2, 2], "at the place as it is typed"
    api.answers["/customers"] = [{"id": 2}]
    run(settings)
    assert "warning" not in invoke("check").stdout
    write_template(api, "9", changes=CHANGES[:1])
    assert "warning" not in invoke("check").stdout, "9 comes before 10"


def test_a_machine_without_loads_says_what_it_does_not_know(
    api: ApiServer, settings: Settings
) -> None:
    write_template(api, "2", changes=CHANGES[:1])
    unknown = f"no load is noted in {settings.state_dir}"
    assert unknown in invoke("check").stdout
    api.answers |= {"/orders": [{"id": 1}], "/customers": [{"id": 2}]}
    run(settings)
    assert unknown not in invoke("check").stdout
    place = settings.state_dir / "template_versions" / "acme.json"
    place.rename(place.with_name("hidden"))
    place.mkdir()
    assert "the state can't be read: " in invoke("check").stdout
    place.rmdir()
    place.with_name("hidden").rename(place)
    # a table that is dropped has nothing of an earlier version
    connector = load_file(settings.configs / "acme.json").connector
    assert connector is not None
    reset_resources(connector, None, settings)
    assert unknown in invoke("check").stdout


def test_versions_that_cannot_be_compared_and_unknown_resources_are_refused(
    api: ApiServer,
) -> None:
    change = {"version": "3", "resources": ["ordrs"], "change": "x"}
    write_template(api, "spring", changes=[{"version": "summer", "change": "x"}])
    told = invoke("check").stdout
    assert "/version: The version can't be compared with those of `changes`. Found `spring`" in told
    assert "/changes/0/version: No version of the template so far has this number" in told
    write_template(api, "2", changes=[change])
    told = invoke("check").stdout
    assert "/changes/0/version" in told
    assert 'The template has no resource `ordrs`. Write "orders"' in told
