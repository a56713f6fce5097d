"""`restsource new`: a file that uses a template, and its secrets in `.env`."""

import json
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from restsource_dagster.connector.loader import load_file
from restsource_dagster_tests.cli.runner import invoke, on_terminal
from restsource_dagster_tests.servers.api import ApiServer

TOKEN = "s3cr3t 'quoted' $HOME #x"
GITHUB = (
    "new",
    "rocket",
    "--template",
    "github",
    "--input",
    "owner=acme",
    "--input",
    "repo=rocket",
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    return tmp_path


def test_a_file_is_written_that_refers_to_the_secret_in_env(project: Path) -> None:
    made = invoke(*GITHUB, "--input", f"token={TOKEN}", "--resource", "issues")
    assert made.exit_code == 0, made.output
    path = project / "configs" / "rocket.json"
    assert json.loads(path.read_text()) == {
        "template": "github",
        "inputs": {"owner": "acme", "repo": "rocket", "token": "${ROCKET_TOKEN}"},
        "schedule": {"mode": "hours", "interval": 1},
        "resources": ["issues"],
    }
    assert load_file(path).problems == ()
    assert dotenv_values(project / ".env") == {"ROCKET_TOKEN": TOKEN}
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    assert "s3cr3t" not in made.output


def test_a_terminal_is_asked_for_the_inputs(project: Path) -> None:
    code, shown = on_terminal(
        *("new", "rocket", "--template", "github"),
        folder=project,
        answers=("acme", "rocket", "t0ken", "n"),
    )
    assert code == 0, shown
    assert "Preview it now? [Y/n]> n" in shown
    assert "owner: The user or organization" in shown
    file = json.loads((project / "configs" / "rocket.json").read_text())
    assert file["inputs"] == {"owner": "acme", "repo": "rocket", "token": "${ROCKET_TOKEN}"}
    assert dotenv_values(project / ".env") == {"ROCKET_TOKEN": "t0ken"}


def test_a_terminal_is_offered_a_preview_of_the_new_file(project: Path, api: ApiServer) -> None:
    own = {
        "title": "Shop",
        "version": "1",
        "inputs": {"token": {"description": "A token.", "secret": True}},
        "client": {
            "base_url": api.url,
            "auth": {"type": "bearer", "token": "${input.token}"},
            "paginator": "single_page",
        },
        "resources": ["orders"],
    }
    (project / "configs" / "templates").mkdir()
    (project / "configs" / "templates" / "shop.json").write_text(json.dumps(own))
    api.answers["/orders"] = [{"id": 4711}]
    arguments = ("new", "acme", "--template", "shop")
    code, shown = on_terminal(*arguments, folder=project, answers=("t0ken", "y"))
    assert code == 0, shown
    assert "4711" in shown
    assert [seen.headers["authorization"] for seen in api.asked("/orders")] == ["Bearer t0ken"]


def test_without_a_terminal_the_command_of_a_preview_is_printed() -> None:
    made = invoke(*GITHUB, "--input", "token=x")
    assert "without loading them: restsource preview configs/rocket.json\n" in made.stdout
    listed = invoke("new", "other", *GITHUB[2:], "--json")
    assert set(json.loads(listed.stdout)) == {"path", "missing", "problems"}


def test_lines_of_env_stay_and_a_missing_secret_is_to_be_filled_in(project: Path) -> None:
    (project / ".env").write_text("OTHER=1")
    made = invoke(*GITHUB)
    assert made.exit_code == 0, made.output
    assert (project / ".env").read_text() == "OTHER=1\nROCKET_TOKEN=\n"
    assert "Write the value of ROCKET_TOKEN into .env." in made.stderr


def test_a_variable_that_env_has_keeps_its_value(project: Path) -> None:
    (project / ".env").write_text("export ROCKET_TOKEN=old\n")
    made = invoke(*GITHUB, "--input", "token=new")
    assert made.exit_code == 0
    assert "ROCKET_TOKEN is in .env already and keeps its value" in made.stderr
    assert dotenv_values(project / ".env") == {"ROCKET_TOKEN": "old"}


def test_a_reference_is_written_as_it_is(project: Path) -> None:
    assert invoke(*GITHUB, "--input", "token=${GH}").exit_code == 0
    file = json.loads((project / "configs" / "rocket.json").read_text())
    assert file["inputs"]["token"] == "${GH}"
    assert not (project / ".env").exists()


def test_a_file_that_exists_is_left_as_it_is(project: Path) -> None:
    path = project / "configs" / "rocket.json"
    path.write_text("{}")
    assert invoke(*GITHUB).exit_code == 1
    assert path.read_text() == "{}"


def test_what_is_written_with_a_mistake_is_told(project: Path) -> None:
    made = invoke(
        "new", "rocket", "--template", "github", "--input", "owner=a b", "--input", "repo=r"
    )
    assert made.exit_code == 1
    assert "rocket.json:4:" in made.stderr
    assert "The input `owner` has another form" in made.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("new", "Rocket", "--template", "github"), "a small letter"),
        (("new", "rocket", "--template", "gihub"), "did you mean github?"),
        (("new", "rocket", "--template", "github"), "owner is missing"),
        (("new", "rocket"), "--url or --template is missing"),
        (("new",), "NAME is missing"),
        ((*GITHUB, "--url", "https://api.example.com/a"), "either --url or a template"),
        ((*GITHUB, "--bearer", "x"), "a template has inputs"),
        (("new", "rocket", "--url", "api.example.com/a"), "https:// or http://"),
        (("new", "rocket", "--url", "https://u:p@api.example.com/a"), "--basic"),
        (("new", "rocket", "--url", "https://a.example/b", "--api-key", "x"), "NAME=KEY"),
        (("new", "r", "--url", "https://a.example/b", "--basic", "a:b", "--bearer", "c"), "one of"),
        ((*GITHUB, "--input", "ower=x"), "write NAME=VALUE"),
    ],
)
def test_wrong_usage_writes_nothing_and_is_told(
    project: Path, arguments: tuple[str, ...], told: str
) -> None:
    made = invoke(*arguments)
    assert made.exit_code == 2
    assert told in " ".join(made.output.split())
    assert list((project / "configs").iterdir()) == []
    assert not (project / ".env").exists()
