"""`restsource preview`: what it prints, its exit codes, and Ctrl-C."""

import asyncio
import json
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.cli.runner import invoke, start
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.waiting import wait_for

TOKEN = "s3cr3t-t0ken"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    return tmp_path


def write(path: Path, base_url: str, *resources: Any) -> None:
    value: Mapping[str, Any] = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": base_url, "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}},
        "resources": list(resources),
    }
    path.write_text(json.dumps(value))


def things(seen: Seen) -> Any:
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"
    page = int(seen.query["page"])
    return (
        {"data": [{"id": page, "name": "\x1b[31mred", "tags": ["a"]}]} if page < 9 else {"data": []}
    )


PAGES: Mapping[str, Any] = {"type": "page_number", "base_page": 1, "total_path": None}
THINGS = {
    "name": "things",
    "primary_key": "id",
    "endpoint": {
        "path": "things",
        "data_selector": "data",
        "paginator": PAGES,
    },
}


def test_a_preview_is_printed_and_nothing_is_left(api: ApiServer, project: Path) -> None:
    api.answers["/things"] = things
    write(project / "configs" / "shop.json", api.url, THINGS)
    (project / ".env").write_text(f"SHOP_TOKEN={TOKEN}\n")
    made = invoke("preview", "shop")
    assert made.exit_code == 0, made.output
    for text in (
        f"GET {api.url}/things?page=2  200",
        "paging   proved: the second page was asked for: 1 row, 1 of them new",
        "key      id: unique in 2 rows",
        "columns  things (2 rows): id bigint, name text",
        r"\x1b[31mred",
        "nested   things__tags (2 rows): value text",
        "Nothing was loaded.",
    ):
        assert text in made.stdout
    assert sorted(each.name for each in project.rglob("*")) == [".env", "configs", "shop.json"]


def test_json_has_the_shape_that_the_guide_describes(api: ApiServer, project: Path) -> None:
    api.answers["/things"] = things
    file = project / "anywhere.json"
    write(file, api.url, THINGS)
    (project / ".env").write_text(f"SHOP_TOKEN={TOKEN}\n")
    made = invoke("preview", file, "things", "--pages", 3, "--rows", 1, "--json")
    assert made.exit_code == 0, made.output
    document = json.loads(made.stdout)
    guide = (Path(__file__).parents[2] / "docs" / "preview.md").read_text()
    [resource] = document["resources"]
    assert document["connector"] == "anywhere"
    assert len(resource["requests"]) == 3
    assert len(resource["table"]["rows"]) == 1
    parts = (document, resource, resource["requests"][0], resource["table"], resource["paging"])
    for name in {key for part in parts for key in part}:
        assert f"`{name}`" in guide, name


def test_wrong_answers_and_wrong_files_end_with_1(api: ApiServer, project: Path) -> None:
    api.answers["/same"] = [{"id": 1}]
    write(
        project / "configs" / "shop.json",
        api.url,
        {
            "name": "same",
            "endpoint": {"path": "same", "paginator": PAGES},
        },
    )
    (project / ".env").write_text(f"SHOP_TOKEN={TOKEN}\n")
    made = invoke("preview", "shop")
    assert made.exit_code == 1
    assert "wrong    " in made.stdout
    assert "the very records of page 1" in made.stdout
    (project / "broken.json").write_text("{")
    assert invoke("preview", "broken.json").exit_code == 1
    assert invoke("preview", "unknown").exit_code == 2
    assert invoke("preview", "shop", "others").exit_code == 2
    assert invoke("preview", "shop", "--pages", "0").exit_code == 2


def test_ctrl_c_ends_it_at_once_and_shows_what_was_read(api: ApiServer, project: Path) -> None:
    asked = threading.Event()

    async def never_again(seen: Seen) -> Any:
        if seen.query["page"] == "1":
            return things(seen)
        asked.set()
        await asyncio.sleep(60)
        return {}

    api.answers["/things"] = never_again
    write(project / "configs" / "shop.json", api.url, THINGS)
    with start("preview", "shop", "--json", folder=project, SHOP_TOKEN=TOKEN) as process:
        wait_for(asked, "the second request")
        process.send_signal(signal.SIGINT)
        shown, told = process.communicate(timeout=20)
    assert process.returncode == 130, told
    document = json.loads(shown)
    assert document["ended"] == "stopped by Ctrl-C"
    assert document["resources"][0]["rows_read"] == 1
