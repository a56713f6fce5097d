"""`restsource import`: the file, the report, and secrets in `.env` only if they are asked for."""

import json
from pathlib import Path

import pytest
from dotenv import dotenv_values
from typer.testing import CliRunner

from restsource_dagster.cli.app import app
from restsource_dagster.connector.loader import load_file
from restsource_dagster_tests.cli.runner import invoke

CURL = (
    "curl 'https://api.example.com/v1/orders?page=1' -H 'Authorization: Bearer s3cr3t' -k\n"
    "curl https://api.example.com/v1/lines -H 'Authorization: Bearer s3cr3t'\n"
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the current folder, with a text to import."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "lines.txt").write_text(CURL)
    return tmp_path


def test_a_file_is_written_with_a_report_and_no_secret(project: Path) -> None:
    made = invoke("import", "lines.txt")
    assert made.exit_code == 0, made.output
    path = project / "configs" / "example.json"
    assert load_file(path).problems == ()
    assert "Wrote configs/example.json of 2 resources: orders, lines." in made.stdout
    assert "resources.orders.endpoint.paginator: the name of the param `page`" in made.stdout
    assert "certificates are always verified:\n    /1/-k" in made.stdout
    assert "Write into .env:\n  EXAMPLE_TOKEN=\n" in made.stdout
    assert not (project / ".env").exists()
    assert "s3cr3t" not in path.read_text() + made.output


def test_secrets_go_into_env_if_they_are_asked_for(project: Path) -> None:
    made = invoke("import", "curl", "lines.txt", "--env")
    assert made.exit_code == 0, made.output
    assert dotenv_values(project / ".env") == {"EXAMPLE_TOKEN": "s3cr3t"}
    assert "s3cr3t" not in made.output


def test_standard_input_is_imported_and_the_file_printed() -> None:
    made = CliRunner().invoke(app, ["import", "--out", "-"], input=CURL)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["name"] == "example"
    assert "Made a connector of 2 resources" in made.stderr


def test_out_names_the_file_and_the_connector(project: Path) -> None:
    assert invoke("import", "lines.txt", "--out", "configs/shop.json").exit_code == 0
    file = json.loads((project / "configs" / "shop.json").read_text())
    assert file["name"] == "shop"
    assert file["client"]["auth"] == {"type": "bearer", "token": "${SHOP_TOKEN}"}


def test_a_first_file_brings_its_folder_and_says_what_comes_next(project: Path) -> None:
    (project / "configs").rmdir()
    made = invoke("import", "lines.txt")
    assert made.exit_code == 0, made.output
    assert "Made the folder configs." in made.stderr
    assert made.stdout.endswith("Then look at it: restsource preview configs/example.json\n")
    assert invoke("import", "lines.txt", "--out", "drafts/shop.json").exit_code == 0
    named = invoke("import", "lines.txt", "--configs", "confgis")
    assert named.exit_code == 2
    assert not (project / "confgis").exists()


def test_resources_are_chosen_by_patterns(project: Path) -> None:
    made = invoke("import", "lines.txt", "--include", "*e*", "--exclude", "ord*", "--json")
    assert made.exit_code == 0
    told = json.loads(made.stdout)
    assert [each["name"] for each in told["file"]["resources"]] == ["lines"]
    left_out = {each["path"] for each in told["not_mapped"] if "--exclude" in each["reason"]}
    assert left_out == {"/1/url", "/1/?page"}
    (project / "configs" / "example.json").unlink()
    made = invoke("import", "lines.txt", "--include", "lines")
    assert "left out by --include or --exclude: 2 pieces (--json lists them)" in made.stdout
    assert "/1/url" not in made.stdout
    assert told["missing"] == ["EXAMPLE_TOKEN"]
    assert "s3cr3t" not in made.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("lines.txt", "--include", "x*"), "leave no resource"),
        (("nothing.txt",), "No such file"),
        (("curl", "README.md"), "no cURL command"),
        (("README.md",), "name the kind before the file"),
    ],
)
def test_what_can_not_be_imported_is_told_and_writes_nothing(
    project: Path, arguments: tuple[str, ...], told: str
) -> None:
    (project / "README.md").write_text("# A shop\n")
    made = invoke("import", *arguments)
    assert made.exit_code == 1
    assert told in made.stderr
    assert list((project / "configs").iterdir()) == []


def test_a_file_that_exists_is_left_as_it_is_and_a_wrong_name_is_told(project: Path) -> None:
    path = project / "configs" / "example.json"
    path.write_text("{}")
    assert invoke("import", "lines.txt").exit_code == 1
    assert path.read_text() == "{}"
    assert invoke("import", "lines.txt", "--out", "configs/My Shop.json").exit_code == 2


def test_a_text_with_control_characters_is_shown_escaped(project: Path) -> None:
    (project / "lines.txt").write_text(
        "curl 'https://a.example.com/x?\x1b[31mred=1' --unknown\x1b=1"
    )
    made = invoke("import", "lines.txt", "--out", "-")
    assert "\x1b" not in made.output
