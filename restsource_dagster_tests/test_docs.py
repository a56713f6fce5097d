"""What the documents say is what the code does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.models.schedule import Schedule
from restsource_dagster.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
JSON_BLOCK = re.compile(r"```json\n(.*?)```", re.DOTALL)


def cells(row: str) -> list[str]:
    return [cell.strip().strip("`") for cell in row.strip().strip("|").split("|")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    targets = [target for target in LINK.findall(document.read_text()) if "://" not in target]
    dead = [target for target in targets if not (document.parent / target).exists()]
    assert dead == []


def test_the_settings_table_is_that_of_the_code() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    table = text.split("<!-- settings -->")[1].split("<!-- end of settings -->")[0]
    written = [cells(row) for row in table.strip().splitlines()[2:]]
    known = [
        [f"RESTSOURCE_{name.upper()}", str(field.default or ""), (field.description or "")]
        for name, field in Settings.model_fields.items()
    ]
    assert [[cell.strip("`") for cell in row] for row in written] == known


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("docs/examples/*.json"), *ROOT.glob("configs/*.json")]),
    ids=lambda path: path.name,
)
def test_a_shipped_connector_has_no_problem_at_all(path: Path) -> None:
    loaded = load_file(path)
    assert loaded.problems == ()
    assert loaded.connector is not None


def test_the_readme_shows_the_example_that_it_lets_people_copy() -> None:
    [shown] = JSON_BLOCK.findall((ROOT / "README.md").read_text())
    example = json.loads((ROOT / "docs/examples/billing.json").read_text())
    value = json.loads(shown)
    assert value == {key: example[key] for key in value}
    assert set(value) == {"schedule", "client", "resource_defaults", "resources"}


def test_the_schedules_in_the_readme_are_schedules() -> None:
    rows = re.findall(r"^\| `(\{\"mode\".*?\})` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    schedules: list[Any] = [TypeAdapter(Schedule).validate_json(row) for row in rows]
    assert [schedule.mode for schedule in schedules] == ["minutes", "hours", "days", "manual"]


def test_every_promise_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/guarantees.md").read_text()
    named = set(re.findall(r"\b(test_\w+)\b(?!\.py)", text)) - {"test_faults"}
    files = (ROOT / "restsource_dagster_tests").rglob("test_*.py")
    known = set(re.findall(r"def (test_\w+)\(", "\n".join(file.read_text() for file in files)))
    assert named
    assert named - known == set()


def test_every_path_in_the_table_of_changes_exists() -> None:
    text = (ROOT / "docs/design.md").read_text()
    table = text.split("## I want to change X: open Y")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    paths = [re.findall(r"`([\w/]+(?:\.py|/))`", row) for row in rows]
    package = ROOT / "restsource_dagster"
    missing = [path for row in paths for path in row if not (package / path).exists()]
    assert len(rows) >= 25
    assert all(paths)
    assert missing == []
