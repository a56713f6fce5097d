"""Our storage and Dagster's own are two ways to the same files."""

import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from restsource_dagster.local_runtime.sqlite_storage import LightInstance, OpenSqliteStorage
from restsource_dagster_tests.local_runtime.storage.homes import (
    add_run,
    make_home,
    opened,
    plan,
    plans,
    report,
)

pytestmark = pytest.mark.usefixtures("plugins")

NAMES = ["customers", "items", "orders"]


def contents(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Definitions and version of a database."""
    with closing(sqlite3.connect(database)) as connection:
        return {
            "schema": connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall(),
            "version": connection.execute("SELECT * FROM alembic_version").fetchall(),
            "journal": connection.execute("PRAGMA journal_mode").fetchall(),
        }


@pytest.mark.parametrize("stock_first", [True, False])
def test_either_reads_what_the_other_wrote(tmp_path: Path, *, stock_first: bool) -> None:
    with opened(tmp_path, stock=stock_first) as first:
        run = add_run(first)
        plan(first, run, NAMES)
        report(first, run, dg.DagsterEventType.RUN_START)
    with opened(tmp_path, stock=not stock_first) as second:
        assert plans(second, run) == NAMES
        report(second, run, dg.DagsterEventType.RUN_SUCCESS)
    with opened(tmp_path, stock=stock_first) as third:
        found = third.get_run_by_id(run)
        assert found is not None
        assert found.status == dg.DagsterRunStatus.SUCCESS
        assert {key.path[-1] for key in third.all_asset_keys()} == set(NAMES)


def test_both_may_be_open_at_the_same_time(tmp_path: Path) -> None:
    with opened(tmp_path) as ours, opened(tmp_path, stock=True) as stock:
        run = add_run(stock)
        plan(ours, run, ["orders"])
        plan(stock, run, ["items"])
        plan(ours, run, ["customers"])
        assert plans(ours, run) == plans(stock, run) == ["orders", "items", "customers"]


@pytest.mark.parametrize(
    "file", ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"]
)
def test_the_files_are_made_as_dagster_makes_them(tmp_path: Path, file: str) -> None:
    for name, stock in (("ours", False), ("stock", True)):
        with opened(tmp_path / name, stock=stock):
            pass
    assert contents(tmp_path / "ours" / file) == contents(tmp_path / "stock" / file)


def test_the_file_of_a_run_is_made_as_dagster_makes_it(tmp_path: Path) -> None:
    found = []
    for name, stock in (("ours", False), ("stock", True)):
        with opened(tmp_path / name, stock=stock) as instance:
            run = add_run(instance)
            plan(instance, run, NAMES)
        found.append(contents(tmp_path / name / "history" / "runs" / f"{run}.db"))
    assert found[0] == found[1]


def test_a_batch_leaves_the_same_rows_as_events_one_by_one(tmp_path: Path) -> None:
    rows = []
    for name, stock in (("ours", False), ("stock", True)):
        with opened(tmp_path / name, stock=stock) as instance:
            run = add_run(instance)
            plan(instance, run, NAMES)
        folder = tmp_path / name / "history" / "runs"
        taken = []
        for file in ("index.db", f"{run}.db"):
            with closing(sqlite3.connect(folder / file)) as connection:
                events = "SELECT id, dagster_event_type, step_key, asset_key FROM event_logs"
                keys = "SELECT id, asset_key, last_run_id IS NULL FROM asset_keys"
                taken += [connection.execute(query).fetchall() for query in (events, keys)]
        rows.append(taken)
    assert rows[0] == rows[1]
    assert len(rows[0][0]) == len(NAMES)


def test_a_storage_that_is_named_is_used(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    named = f"storage:\n  sqlite:\n    base_dir: {tmp_path / 'elsewhere'}\n"
    (home / "dagster.yaml").write_text((home / "dagster.yaml").read_text() + named)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance, LightInstance)
        storage = instance.get_ref().storage
        assert not isinstance(storage, OpenSqliteStorage)
        add_run(instance)
    assert (tmp_path / "elsewhere" / "history" / "runs.db").exists()
