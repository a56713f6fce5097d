"""`restsource grade`: its output, its exit codes, and that nothing is left."""

import json
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.cli.runner import invoke, start
from restsource_dagster_tests.servers.api import ApiServer, Seen
from restsource_dagster_tests.waiting import wait_until

GUIDE = (Path(__file__).parents[2] / "docs" / "grade.md").read_text()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the current folder, with a folder of its own for what is temporary."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def test_the_example_of_the_guide_is_what_is_printed(project: Path) -> None:
    [file] = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    (project / "configs" / "shop.json").write_text(file)
    command, shown = re.findall(
        r"`restsource (grade [^`]*)` prints:\n\n```\n(.*?)```", GUIDE, re.S
    )[0]
    made = invoke(*command.split(), "--max-seconds", "300")
    assert made.exit_code == 1
    assert re.sub(r"\(\d+ s\)", "(4 s)", made.stdout) == shown
    assert [each.name for each in (project / "temporary").iterdir()] == []
    assert not (project / "data").exists()


def test_rows_are_like_the_previewed_ones(api: ApiServer, project: Path) -> None:
    def orders(seen: Seen) -> Any:
        assert seen.headers["authorization"] == "Bearer t0ken-of-the-shop"
        return {"data": [{"id": f"a-{n}", "tags": ["x"], "count": n} for n in range(3)]}

    api.answers["/orders"] = orders
    (project / ".env").write_text("SHOP_TOKEN=t0ken-of-the-shop\n")
    value = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": api.url, "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}},
        "resources": [
            {"name": "orders", "primary_key": "id", "endpoint": {"data_selector": "data"}},
            {"name": "lines", "endpoint": "orders/{resources.orders.id}/lines"},
        ],
    }
    (project / "configs" / "shop.json").write_text(json.dumps(value))
    made = invoke(
        "grade", "shop", "orders", "--attacks", "change", "--json", "--max-seconds", "300"
    )
    assert made.exit_code == 0, made.output
    found = json.loads(made.stdout)
    assert found["fine"] is True
    [one] = found["resources"]
    assert one["rows_from"] == "preview"
    assert one["attacks"][0]["verdict"] == "survived"
    assert {seen.path for seen in api.seen} == {"/orders"}


def test_an_unknown_attack_is_wrong_usage(project: Path) -> None:
    value = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": "https://api.example.com"},
        "resources": ["orders"],
    }
    (project / "configs" / "shop.json").write_text(json.dumps(value))
    made = invoke("grade", "shop", "--attacks", "late,lated")
    assert made.exit_code == 2
    assert "there is no attack lated" in made.stderr
    # without a preview nothing says how it pages
    made = invoke("grade", "shop", "--offline")
    assert made.exit_code == 0
    assert "orders: not modelled: its paginator is found out" in made.stdout


def test_ctrl_c_ends_it_and_leaves_nothing(project: Path) -> None:
    [file] = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    (project / "configs" / "shop.json").write_text(file)
    temporary = project / "temporary"
    with start("grade", "shop", "--offline", folder=project, TMPDIR=str(temporary)) as process:
        wait_until(lambda: [*temporary.glob("restsource-grade-*")], "the twin")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    assert process.returncode == 130
    assert "ended early: stopped by Ctrl-C" in out
    assert "not tried" in out
    assert not any(temporary.glob("restsource-grade-*"))
