"""A recipe's file has no problem, asks for what its page says, and its tables hold what the page shows."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from restsource_dagster.connector.loader import load_file
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import warehouse
from restsource_dagster_tests.recipes.apis import APIS
from restsource_dagster_tests.servers.api import ApiServer, Seen

START = datetime(2026, 11, 27, 10, 0, 30, tzinfo=UTC)
"""When all runs start, so that pages can show what `{now}` is."""
FOLDER = Path(__file__).parents[2] / "docs/recipes"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem != "README")
BLOCK = re.compile(r"```(json|http)\n(.*?)```", re.DOTALL)
TABLE = re.compile(r"^`(\w+)`:\n\n((?:\|.*\n)+)", re.MULTILINE)


def blocks(page: Path, kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == kind]


def file_of(page: Path) -> str:
    [text] = blocks(page, "json")
    return text


def tables_of(page: Path) -> Iterator[tuple[str, list[str], list[tuple[str, ...]]]]:
    """The name, columns and rows of each table under "What arrives"."""
    for name, text in TABLE.findall(page.read_text().split("## What arrives")[1]):
        lines = [
            tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines()
        ]
        yield name, list(lines[0]), lines[2:]


def request_line(seen: Seen) -> str:
    query = f"?{urlencode(seen.query, safe='/:,{}$')}" if seen.query else ""
    return f"{seen.method} {seen.path}{query}"


def test_each_page_has_an_api_and_a_line_in_the_list() -> None:
    listed = re.findall(r"^\| \[[^\]]+\]\((\w+)\.md\)", (FOLDER / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted(APIS) == [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_file_has_no_problem(page: Path, tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_text(file_of(page))
    assert load_file(path).problems == ()


@pytest.mark.parametrize("mode", ["auto", "rows"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_arrives_is_what_the_page_shows(
    page: Path, mode: str, api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = APIS[page.stem]
    for name, text in recipe.files.items():
        (settings.data_dir.parent / name).write_text(text)
    for name, text in recipe.environment.items():
        monkeypatch.setenv(name, text)
    text = file_of(page).replace("/run/secrets", str(settings.data_dir.parent))
    value = json.loads(re.sub(r"https://[\w.-]+\.example\.com", api.url, text))
    value.setdefault("resource_defaults", {})["mode"] = mode
    path = settings.configs / "shop.json"
    path.parent.mkdir()
    path.write_text(json.dumps(value))
    connector = load_file(path).connector
    assert connector is not None
    for answers in (recipe.answers, *recipe.later):
        api.answers.update(answers)
        outcomes = ingest(
            connector, settings=settings, environment=recipe.environment, started=START
        )
        assert [outcome.failure for outcome in outcomes if outcome.failure] == []
    for asked in blocks(page, "http"):
        assert [request_line(seen) for seen in api.seen] == asked.splitlines()
    for name, columns, rows in tables_of(page):
        assert rows_in(settings, name, columns) == sorted(rows)


def rows_in(settings: Settings, table: str, columns: list[str]) -> list[Any]:
    """The rows of a table as the page writes them: all values as text, null as an empty text."""
    texts = ", ".join(f"coalesce(\"{column}\"::varchar, '')" for column in columns)
    with warehouse(settings) as database:
        database.execute("set TimeZone = 'UTC'")
        return sorted(database.execute(f'select {texts} from shop."{table}"').fetchall())
