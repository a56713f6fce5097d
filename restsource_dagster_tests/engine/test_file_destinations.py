"""Loads into files: those that a killed load has written are removed before the next one."""

import json
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.destination.recovery import PENDING_LOADS_TABLE
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector
from restsource_dagster_tests.servers.api import ApiServer

EVENTS: dict[str, Any] = {
    "name": "events",
    "endpoint": {
        "params": {"since": "{incremental.start_value}"},
        "incremental": {"cursor_path": "at", "initial_value": 0},
    },
}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the connector's files."""
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", (tmp_path / "bucket").as_uri())
    return tmp_path / "bucket" / "shop"


def ids(bucket: Path, table: str) -> list[int]:
    """The ids in all files of a table."""
    lines = [line for file in (bucket / table).glob("*.jsonl") for line in file.open()]
    return sorted(json.loads(line)["id"] for line in lines)


def kill_last_load(bucket: Path, table: str) -> str:
    """Leave what a process leaves that is killed after its rows are written; return the load's id."""
    load_id = max(file.name.rsplit(".", 2)[0] for file in (bucket / table).glob("*.jsonl"))
    for file in [*(bucket / "_dlt_loads").iterdir(), *(bucket / "_dlt_pipeline_state").iterdir()]:
        if load_id in file.name:
            file.unlink()
    (bucket / PENDING_LOADS_TABLE / load_id).touch()
    return load_id


def test_the_files_of_a_load_that_did_not_complete_are_removed_first(
    api: ApiServer, settings: Settings, bucket: Path
) -> None:
    files = settings.model_copy(update={"destination": "filesystem"})
    connector = make_connector(api.url, EVENTS)
    rows: list[dict[str, Any]] = [{"id": 1, "at": 1, "lines": [{"id": 1}]}]
    api.answers["/events"] = lambda seen: [r for r in rows if r["at"] >= int(seen.query["since"])]
    assert load(connector, files)["events"].failure is None
    assert not list((bucket / PENDING_LOADS_TABLE).iterdir())
    rows.append({"id": 2, "at": 2, "lines": [{"id": 2}]})
    assert load(connector, files)["events"].failure is None
    load_id = kill_last_load(bucket, "events")
    assert ids(bucket, "events") == ids(bucket, "events__lines") == [1, 2]
    rows.append({"id": 3, "at": 3, "lines": []})
    assert load(connector, files)["events"].failure is None
    assert ids(bucket, "events") == [1, 2, 3]
    assert ids(bucket, "events__lines") == [1, 2]
    assert not [file for file in bucket.rglob(f"*{load_id}*") if "_dlt" not in str(file.parent)]


def test_files_of_a_load_whose_state_is_stored_stay(
    api: ApiServer, settings: Settings, bucket: Path
) -> None:
    """The cursor has moved with them, so nobody asks for their rows again."""
    files = settings.model_copy(update={"destination": "filesystem"})
    api.answers["/events"] = [{"id": 1, "at": 1}]
    connector = make_connector(api.url, EVENTS)
    assert load(connector, files)["events"].failure is None
    [complete] = (bucket / "_dlt_loads").glob("*.jsonl")
    load_id = complete.stem.rpartition("__")[2]
    complete.unlink()
    (bucket / PENDING_LOADS_TABLE / load_id).touch()
    api.answers["/events"] = []
    assert load(connector, files)["events"].failure is None
    assert ids(bucket, "events") == [1]
    assert not list((bucket / PENDING_LOADS_TABLE).iterdir())


def test_a_sweep_of_a_table_in_files_is_refused_before_a_request(
    api: ApiServer, settings: Settings, bucket: Path
) -> None:
    """No SQL removes rows there, so rows that vanish would stay without a word."""
    swept = {
        "name": "swept",
        "primary_key": "id",
        "table_format": "delta",
        "write_disposition": {"disposition": "merge", "strategy": "upsert"},
        "sweep": {"every": "1d"},
    }
    files = settings.model_copy(update={"destination": "filesystem"})
    failure = load(make_connector(api.url, swept), files)["swept"].failure
    assert "Leave `sweep` out" in str(failure)
    assert not api.seen
    assert not bucket.exists()
