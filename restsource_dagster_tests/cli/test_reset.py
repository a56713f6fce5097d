"""`restsource reset`: nothing is dropped that a person did not say yes to."""

import json
import os
import pty
import sys
from collections.abc import Callable, Iterator

import pytest

from restsource_dagster.cli.app import main
from restsource_dagster.engine.destination.warehouse import DATABASE_NAME
from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.cli.runner import invoke
from restsource_dagster_tests.cli.stock import ids, write_stock
from restsource_dagster_tests.making import reading


@pytest.fixture
def stock(shop: Project) -> Project:
    write_stock(shop)
    assert invoke("run", "shop", "orders", "countries").exit_code == 0
    return shop


def tables(project: Project) -> set[str]:
    with reading(project.folder / "data" / DATABASE_NAME) as connection:
        rows = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'shop'"
        ).fetchall()
    return {name for (name,) in rows if not name.startswith("_dlt")}


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sits at a (pseudo) terminal that is this process's standard input, and types a word."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours, "w") as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield lambda word: print(word, file=keyboard, flush=True)


def test_without_a_terminal_yes_must_be_said(stock: Project) -> None:
    result = invoke("reset", "shop")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert tables(stock) == {"orders", "countries"}


def test_a_no_drops_nothing(
    stock: Project, type_in: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    type_in("n")
    assert main(["reset", "shop", "orders"]) == 1
    shown = capsys.readouterr().err
    assert "Drop the tables and cursors of orders of shop?" in shown
    assert "Nothing was dropped." in shown
    assert tables(stock) == {"orders", "countries"}


def test_a_yes_drops_what_was_named(
    stock: Project, type_in: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    type_in("y")
    assert main(["reset", "shop", "orders"]) == 0
    assert "Tables dropped: orders." in capsys.readouterr().out
    assert tables(stock) == {"countries"}


def test_the_next_run_starts_anew_and_the_windows_are_due_again(stock: Project) -> None:
    invoke("backfill", "shop", "orders", "--from", "2024-01-03", "--to", "2024-01-05")
    assert ids(stock) == list(range(8, 24))
    result = invoke("reset", "shop", "orders", "--yes", "--json")
    assert json.loads(result.stdout) == {
        "connector": "shop",
        "resources": ["orders"],
        "tables": ["orders"],
        "histories": ["orders"],
    }
    [history] = json.loads(invoke("history", "shop", "--json").stdout)["histories"]
    assert (history["loaded"]["windows"], history["missing"]["windows"]) == (0, 4)
    invoke("run", "shop", "orders")
    assert ids(stock) == list(range(16, 24))
    assert stock.api.asked("/orders")[-1].query["since"] == "2024-01-05T00:00:00Z"


def test_unknown_resource_is_wrong_usage(stock: Project) -> None:
    result = invoke("reset", "shop", "ordrs", "--yes")
    assert result.exit_code == 2
    assert "did you mean orders?" in result.stderr
