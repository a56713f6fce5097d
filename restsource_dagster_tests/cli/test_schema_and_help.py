"""`restsource schema`, the help texts, and the reference made of them."""

import json
from pathlib import Path

import pytest

from restsource_dagster.cli.app import app, main
from restsource_dagster.cli.reference import cli_reference
from restsource_dagster.connector.json_schema import connector_schema
from restsource_dagster_tests.cli.runner import ROOT, invoke

COMMANDS = [str(command.name) for command in app.registered_commands]


def test_schema_is_printed_as_it_is_checked_in() -> None:
    shown = invoke("schema")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == connector_schema()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    shown = invoke(command, "--help")
    assert shown.exit_code == 0
    assert f"Example: restsource {command}" in shown.stdout
    assert "--configs DIR" in shown.stdout
    assert "--json" in shown.stdout


def test_reference_in_the_docs_is_the_generated_one() -> None:
    written = (ROOT / "docs" / "cli.md").read_text()
    assert written == cli_reference(), (
        "run: python -m restsource_dagster.cli.reference > docs/cli.md"
    )


def test_main_returns_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{")
    assert main(["schema"]) == 0
    assert main(["check", str(tmp_path)]) == 1
    assert main(["check", str(tmp_path / "no.json")]) == 2
    assert main([]) == 2
