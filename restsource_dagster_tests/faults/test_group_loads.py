"""Families that share a load package."""

from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import Notes, connector_of
from restsource_dagster_tests.faults.prefetch_runs import (
    RunResult,
    run_result,
    with_and_without_prefetch,
)
from restsource_dagster_tests.making import warehouse
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=20)

AT: dict[str, Any] = {"cursor_path": "at", "initial_value": 0, "start_param": "since"}
ROW: dict[str, Any] = {"id": 1, "at": 1, "words": ["a", "b"]}


def plain(name: str, **more: Any) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"path": name, "paginator": "single_page"}
    endpoint |= {key: more.pop(key) for key in ("incremental",) if key in more}
    return {"name": name, "endpoint": endpoint, **more}


def served(
    server: FaultServer, *names: str, delay: float = 0.3, after_the_others: bool = False
) -> dict[str, list[Any]]:
    """The rows of each path. The first is answered later, when the others are likely at hand.

    With `after_the_others` the delay begins when all others were asked for.
    """
    rows: dict[str, list[Any]] = {name: [ROW] for name in names}

    def answers(name: str, later: float) -> Any:
        async def answer(seen: Arrival) -> Any:
            since = int(seen.query.get("since", 0))
            if later and after_the_others:
                await server.reached(lambda: all(server.asked(f"/{other}") for other in names))
            return Reply([row for row in rows[name] if row["at"] >= since], delay=later)

        return answer

    server.plan |= {f"/{name}": answers(name, delay * (name == names[0])) for name in names}
    return rows


def packages(settings: Settings) -> list[int]:
    """How many tables came with each load package, dlt's own left out."""
    with warehouse(settings) as connection:
        tables = connection.execute(
            "SELECT table_name FROM duckdb_columns() WHERE column_name = '_dlt_load_id' "
            "AND schema_name = 'shop' AND NOT starts_with(table_name, '_')"
        ).fetchall()
        loads = [
            load
            for (table,) in tables
            for (load,) in connection.execute(
                f'SELECT DISTINCT _dlt_load_id FROM shop."{table}"'
            ).fetchall()
        ]
    return sorted(loads.count(load) for load in set(loads))


def messages_and_failures(
    connector: Connector, settings: Settings
) -> tuple[list[str], dict[str, str]]:
    """What a run says, and the failures by resource."""
    notes = Notes()
    outcomes = list(ingest(connector, settings=settings, environment={}, observer=notes))
    failures = {one.resource: one.failure.message for one in outcomes if one.failure}
    return notes.texts, failures


def test_prefetched_families_share_a_package(server: FaultServer, settings: Settings) -> None:
    names = ["one", "two", "three", "four"]
    rows = served(server, *names, delay=1.0, after_the_others=True)
    connector = connector_of(
        server.url,
        plain("one"),
        plain("two", primary_key="id", incremental=AT),
        plain("three", write_disposition="append", incremental=AT),
        plain("four", mode="rows"),
    )
    assert not any(told[0] for told in run_result(connector, settings).outcomes.values())
    assert packages(settings) == [4]
    for listed in rows.values():
        listed.append({**ROW, "id": 2, "at": 2})
    again = run_result(connector, settings)
    assert {name: told[4] for name, told in again.outcomes.items()} == {
        "one": 2,
        "two": 2,
        "three": 1,
        "four": 2,
    }
    assert [arrival.path for arrival in server.arrivals].count("/three") == 2


def test_with_one_request_at_a_time_each_family_has_a_package(
    server: FaultServer, settings: Settings
) -> None:
    server.plan |= {"/one": [ROW], "/two": [ROW]}
    connector = connector_of(server.url, plain("one"), plain("two"), http={"max_concurrency": 1})
    run_result(connector, settings)
    assert packages(settings) == [1, 1]


BAD_ROWS: dict[str, tuple[dict[str, Any], Any]] = {
    "a row without its cursor": ({"primary_key": "id", "incremental": AT}, {"id": 2}),
    "a table that the contract forbids": (
        {"schema_contract": {"tables": "freeze"}},
        {"id": 2, "more": 1},
    ),
    "a value that does not fit": (
        {"columns": {"id": {"data_type": "bigint"}}, "schema_contract": {"data_type": "freeze"}},
        {"id": "two"},
    ),
    "a null in a column that must have a value": (
        {"columns": {"word": {"data_type": "text", "nullable": False}}},
        {"id": 2, "word": None},
    ),
    "a row that is none": ({"primary_key": "id", "incremental": AT}, "two"),
    "a duplicate key": (
        {"primary_key": "id", "incremental": AT},
        Reply(b'[{"at":1,"at":2}]'),
    ),
}


# first, between others and last, each with two kinds: a group is divided before it knows why
@pytest.mark.parametrize(("bad", "place"), list(zip(BAD_ROWS, [0, 1, 3, 1, 3, 0], strict=True)))
def test_a_failing_family_of_a_group_fails_alone(
    server: FaultServer, tmp_path: Path, bad: str, place: int
) -> None:
    hints, row = BAD_ROWS[bad]
    resources = [
        plain("merged", primary_key="id", incremental=AT),
        plain("appended", write_disposition="append", incremental=AT),
        plain("replaced"),
    ]
    resources.insert(place, plain("bad", **hints))
    names = [resource["name"] for resource in resources]
    found: dict[int, RunResult] = {}
    asked: dict[int, list[str]] = {}
    for connector, settings in with_and_without_prefetch(
        tmp_path, server.url, *resources, max_concurrency=8
    ):
        served(server, *names)
        server.plan["/bad"] = row if isinstance(row, Reply) else Reply([row], delay=0.3)
        server.arrivals.clear()
        found[connector.http.max_concurrency] = run_result(connector, settings)
        asked[connector.http.max_concurrency] = sorted(one.target for one in server.arrivals)
    assert found[8] == found[1]
    assert found[8].outcomes["bad"][0] is not None
    assert all(found[8].outcomes[name][0] is None for name in names if name != "bad")
    assert asked[8] == asked[1]
