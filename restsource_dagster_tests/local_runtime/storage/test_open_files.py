"""Files that stay open: when they are closed, who uses them, what is left when a process ends."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from queue import Queue
from typing import NoReturn

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry
from sqlalchemy import Connection, Engine

from restsource_dagster.local_runtime.sqlite_storage import OpenSqliteFiles, open_engine
from restsource_dagster_tests.local_runtime.storage.homes import (
    add_run,
    make_home,
    opened,
    plan,
    plans,
    report,
)
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, Background

pytestmark = pytest.mark.usefixtures("plugins")


def shards(home: Path) -> Path:
    return home / "history" / "runs"


def test_nothing_but_databases_is_left_when_an_instance_is_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as instance:
        run = add_run(instance)
        plan(instance, run, ["orders"])
        assert (shards(tmp_path) / f"{run}.db-wal").exists()
    left = {path.name for path in (tmp_path / "history").rglob("*") if path.is_file()}
    assert left == {"runs.db", "index.db", f"{run}.db"}


def test_an_instance_opens_again_after_it_was_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as instance:
        run = add_run(instance)
        plan(instance, run, ["orders"])
        instance.event_log_storage.dispose()
        assert plans(instance, run) == ["orders"]


def test_a_run_file_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as instance:
        run = add_run(instance)
        plan(instance, run, ["orders"])
        for path in shards(tmp_path).glob(f"{run}.db*"):
            path.unlink()
        plan(instance, run, ["items"])
        assert plans(instance, run) == ["items"]


def test_all_events_are_gone_after_a_wipe_and_new_ones_are_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as instance:
        run = add_run(instance)
        plan(instance, run, ["orders"])
        instance.event_log_storage.wipe()
        assert plans(instance, run) == []
        plan(instance, run, ["items"])
        assert plans(instance, run) == ["items"]


def test_events_of_many_threads_are_all_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as instance:
        runs = [add_run(instance) for _ in range(3)]

        def write(number: int) -> None:
            for run in runs:
                plan(instance, run, [f"asset_{number}", f"other_{number}"])

        for written in [Background(write, number) for number in range(8)]:
            written.result()
        for run in runs:
            assert len(plans(instance, run)) == 16
        assert len(instance.all_asset_keys()) == 16


def test_what_a_killed_process_has_written_is_kept(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, dagster as dg\n"
        "from restsource_dagster_tests.local_runtime.storage.homes import *\n"
        "instance = dg.DagsterInstance.from_config(sys.argv[1])\n"
        "run = add_run(instance)\n"
        "plan(instance, run, ['orders', 'items'])\n"
        "report(instance, run, dg.DagsterEventType.RUN_START)\n"
        "print(run, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    make_home(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with opened(tmp_path) as instance:
        run = ended.stdout.strip()
        assert plans(instance, run) == ["orders", "items"]
        found = instance.get_run_by_id(run)
        assert found is not None
        assert found.status == dg.DagsterRunStatus.STARTED


def test_a_batch_that_fails_leaves_no_event_of_it(tmp_path: Path) -> None:
    with opened(tmp_path) as instance, opened(tmp_path / "other") as other:
        run, elsewhere = add_run(instance), add_run(other)
        plan(other, elsewhere, ["orders", "items"])
        plan(instance, run, ["customers"])
        events = list(other.all_logs(elsewhere))
        with closing(sqlite3.connect(shards(tmp_path) / "index.db")) as index:
            index.execute("DROP TABLE asset_keys")
            index.commit()
        with pytest.raises(Exception, match="asset_keys"):
            instance.event_log_storage.store_event_batch(
                [entry._replace(run_id=run) for entry in events]
            )
        assert plans(instance, run) == ["customers"]


def test_a_watcher_of_a_run_sees_events_while_its_file_is_open(tmp_path: Path) -> None:
    told: Queue[EventLogEntry] = Queue()
    with opened(tmp_path) as writer, opened(tmp_path) as reader:
        run = add_run(writer)
        plan(writer, run, ["orders"])
        reader.watch_event_logs(run, None, lambda entry, _cursor: told.put(entry))
        report(writer, run, dg.DagsterEventType.RUN_START)
        kinds = {told.get(timeout=PATIENCE_SECONDS).dagster_event_type}
        while dg.DagsterEventType.RUN_START not in kinds:
            kinds.add(told.get(timeout=PATIENCE_SECONDS).dagster_event_type)
        assert (shards(tmp_path) / f"{run}.db-wal").exists()


def test_no_more_than_so_many_files_stay_open(tmp_path: Path) -> None:
    def open_file(name: str) -> object:
        return open_engine(f"sqlite:///{tmp_path / name}", each_commit_on_disk=True)

    files = OpenSqliteFiles(open_file, lambda _name: True, limit=2)  # type: ignore[arg-type]
    names = ["a.db", "b.db", "c.db", "a.db"]
    for name in names:
        with files.use(name) as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (x)")
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        found = [path.resolve().name for path in Path("/proc/self/fd").iterdir()]
        assert len({one for one in found if one in names}) <= 2
    with files.use("a.db") as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 2
    files.close()


def test_a_file_whose_use_was_interrupted_can_be_used_to_report_it(tmp_path: Path) -> None:
    uses = iter(["to prepare", "interrupted in the file system"])

    def exists(_name: str) -> bool:
        if next(uses, None) == "interrupted in the file system":
            raise KeyboardInterrupt
        return True

    def open_file(name: str) -> Engine:
        return open_engine(f"sqlite:///{tmp_path / name}", each_commit_on_disk=True)

    def insert_interrupted(connection: Connection) -> NoReturn:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        raise KeyboardInterrupt

    files = OpenSqliteFiles(open_file, exists, limit=2)
    with files.use("a.db") as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    # the exceptions stay, and with them what their tracebacks hold, while the file is used again
    with pytest.raises(KeyboardInterrupt) as in_file_system, files.use("a.db"):
        pass
    with pytest.raises(KeyboardInterrupt) as in_transaction, files.use("a.db") as connection:
        insert_interrupted(connection)
    with files.use("a.db") as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
    files.close()
    del in_file_system, in_transaction
