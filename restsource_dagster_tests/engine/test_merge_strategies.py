"""Each merge strategy leaves the rows of its model, load after load."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import dlt
import pytest
from dlt.destinations import filesystem, motherduck
from packaging.version import Version

from restsource_dagster.engine.destination.merge_sql import check_destination_can_merge
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

Row = dict[str, Any]
Table = dict[tuple[Any, ...], Row]
"""Rows by their key."""
KEY = ("a", "b")
SEEDS = int(os.environ.get("MERGE_SEEDS", "1"))
LOADS = int(os.environ.get("MERGE_LOADS", "3"))
"""Random loads into each table, after the one that makes it."""
HAS_NEW_DLT = Version(dlt.__version__) >= Version("1.31")
needs_new_dlt = pytest.mark.skipif(not HAS_NEW_DLT, reason="needs dlt 1.31: see merge_sql.py")


def key_of(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def last_by_key(rows: Sequence[Row]) -> Table:
    return {key_of(row): row for row in rows}


def upserted(table: Table, rows: Sequence[Row]) -> Table:
    new = {**table, **last_by_key(rows)}
    return {key: row for key, row in new.items() if not row["gone"]}


def inserted(table: Table, rows: Sequence[Row]) -> Table:
    first = last_by_key(list(reversed(rows)))
    return {**{key: row for key, row in first.items() if not row["gone"]}, **table}


def of_the_load(table: Table, rows: Sequence[Row]) -> Table:
    """cdc: what a load that brings rows does not bring is deleted."""
    return upserted({}, rows) if rows else table


MODELS: Mapping[str, Callable[[Table, Sequence[Row]], Table]] = {
    "upsert": upserted,
    "insert-only": inserted,
    "cdc": of_the_load,
}


def resource(strategy: str, **hints: Any) -> dict[str, Any]:
    return {
        "name": strategy.replace("-", "_"),
        "primary_key": list(KEY),
        "write_disposition": {"disposition": "merge", "strategy": strategy},
        "columns": {"gone": {"data_type": "bool", "hard_delete": True}},
        "endpoint": {"path": "things", "data_selector": "$", "paginator": "single_page"},
        **hints,
    }


def random_rows(random: Random, version: int) -> list[Row]:
    """Rows with a key each: two different rows with one key in a load are refused."""
    keys = ["a", "ab", "abc", "b", "bc", "c"]
    rows = [
        {
            "a": random.choice(keys),
            "b": random.choice(keys),
            "v": version * 100 + number,
            "gone": random.random() < 0.2,
        }
        for number in range(random.randrange(12))
    ]
    return list(last_by_key(rows).values())


@needs_new_dlt
@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_strategy_leaves_the_rows_of_its_model(
    api: ApiServer, settings: Settings, seed: int
) -> None:
    """Among the rows are tombstones of rows that are not there, and keys that join to one text."""
    random = Random(seed)
    connector = make_connector(api.url, *map(resource, MODELS))
    tables: dict[str, Table] = {strategy: {} for strategy in MODELS}
    # the first load makes the tables
    loads = [[{"a": "a", "b": "bc", "v": 0, "gone": False}]]
    loads += [random_rows(random, version) for version in range(1, LOADS + 1)]
    for rows in loads:
        api.answers["/things"] = rows
        for outcome in load(connector, settings).values():
            assert outcome.failure is None, outcome.failure
        for strategy, model in MODELS.items():
            tables[strategy] = model(tables[strategy], rows)
            found = query(
                settings, f"SELECT a, b, v FROM shop.{strategy.replace('-', '_')} ORDER BY ALL"
            )
            expected = sorted((row["a"], row["b"], row["v"]) for row in tables[strategy].values())
            assert found == expected, (strategy, rows)


def plain_merged(
    table: list[Row],
    rows: Sequence[Row],
    *,
    by_key: bool = True,
    by_group: bool = False,
    order: Callable[[Row], int] = lambda row: 0,
    takes: Callable[[Row], bool] = lambda row: True,
) -> list[Row]:
    """delete-insert: the rows of a key or group are exchanged; of several with a key the last counts."""
    rows = sorted(filter(takes, rows), key=order)
    groups, last = {row["a"] for row in rows}, last_by_key(rows)
    kept = [
        row
        for row in table
        if not (by_key and key_of(row) in last) and not (by_group and row["a"] in groups)
    ]
    return kept + [row for row in (last.values() if by_key else rows) if not row["gone"]]


def plain_merge(name: str, **hints: Any) -> dict[str, Any]:
    columns = {"gone": {"data_type": "bool", "hard_delete": True}, **hints.pop("columns", {})}
    given = {"disposition": "merge", "strategy": "delete-insert", **hints.pop("merge", {})}
    return resource("delete-insert", write_disposition=given, columns=columns, **hints) | {
        "name": name
    }


PLAIN_MERGES: Mapping[str, tuple[dict[str, Any], Callable[..., list[Row]]]] = {
    "by_key": ({}, plain_merged),
    "by_group": (
        {"primary_key": [], "merge_key": "a"},
        partial(plain_merged, by_key=False, by_group=True),
    ),
    "by_both": ({"merge_key": "a"}, partial(plain_merged, by_group=True)),
    "newest": (
        {"columns": {"t": {"dedup_sort": "desc"}}},
        partial(plain_merged, order=lambda row: row["t"]),
    ),
    "oldest": (
        {"columns": {"t": {"dedup_sort": "asc"}}},
        partial(plain_merged, order=lambda row: -row["t"]),
    ),
    "filtered": (
        {"merge": {"source_filter": "t > 4"}},
        partial(plain_merged, takes=lambda row: row["t"] > 4),
    ),
}


def random_versions(random: Random, version: int) -> list[Row]:
    """Rows among which a key may come several times, with lists of lists."""
    return [
        {
            **{name: random.choice(["a", "ab", "b", "bc"]) for name in KEY},
            "v": version * 100 + number,
            "gone": random.random() < 0.2,
            "t": version + random.randrange(5),
            "lines": [
                {"n": version * 1000 + number * 10 + line, "parts": [{"p": line}] * line}
                for line in range(random.randrange(3))
            ],
        }
        for number in range(random.randrange(14))
    ]


@needs_new_dlt
@pytest.mark.parametrize(("mode", "nesting"), [("rows", 5), ("auto", 0)])
def test_a_plain_merge_leaves_the_rows_of_its_model(
    api: ApiServer, settings: Settings, mode: str, nesting: int
) -> None:
    """With and without nested tables, which dlt merges by other statements."""
    connector = make_connector(
        api.url,
        *(
            plain_merge(name, mode=mode, max_table_nesting=nesting, **hints)
            for name, (hints, _) in PLAIN_MERGES.items()
        ),
    )
    random, tables = Random(nesting), {name: list[Row]() for name in PLAIN_MERGES}
    parts = [{"n": 1, "parts": [{"p": 1}]}]
    loads = [[{"a": "z", "b": "z", "v": 0, "gone": False, "t": 9, "lines": parts}]]
    loads += [random_versions(random, version) for version in range(1, LOADS + 1)]
    for rows in loads:
        api.answers["/things"] = rows
        for outcome in load(connector, settings).values():
            assert outcome.failure is None, outcome.failure
        for name, (_, model) in PLAIN_MERGES.items():
            tables[name] = model(tables[name], rows)
            assert_holds(settings, name, tables[name], nested=bool(nesting))


def assert_holds(settings: Settings, name: str, rows: Sequence[Row], *, nested: bool) -> None:
    expected = sorted((row["a"], row["b"], row["v"]) for row in rows)
    assert query(settings, f"SELECT a, b, v FROM shop.{name} ORDER BY ALL") == expected, name
    if nested:
        lines = [line for row in rows for line in row["lines"]]
        found = query(settings, f"SELECT n FROM shop.{name}__lines ORDER BY ALL")
        assert found == sorted((line["n"],) for line in lines), name
        found = query(settings, f"SELECT p FROM shop.{name}__lines__parts ORDER BY ALL")
        assert found == sorted((part["p"],) for line in lines for part in line["parts"]), name


@needs_new_dlt
def test_versions_end_with_their_own_pair_of_merge_keys(api: ApiServer, settings: Settings) -> None:
    """scd2: a row that is gone from its group ends; groups that a load does not bring stay."""
    versions = {
        "name": "things",
        "merge_key": list(KEY),
        "write_disposition": {"disposition": "merge", "strategy": "scd2"},
        "endpoint": {"path": "things", "data_selector": "$", "paginator": "single_page"},
    }
    connector = make_connector(api.url, versions)
    random, valid = Random(7), set[tuple[Any, ...]]()
    for version in range(1 + LOADS):
        rows = [{k: row[k] for k in ("a", "b", "v")} for row in random_rows(random, version)]
        api.answers["/things"] = rows
        outcome = load(connector, settings)["things"]
        assert outcome.failure is None, outcome.failure
        groups = {key_of(row) for row in rows}
        valid = {one for one in valid if one[:2] not in groups} | {
            (row["a"], row["b"], row["v"]) for row in rows
        }
        found = query(settings, "SELECT a, b, v FROM shop.things WHERE _dlt_valid_to IS NULL")
        assert sorted(found) == sorted(valid)


@needs_new_dlt
def test_a_row_that_did_not_change_is_skipped_by_its_version(
    api: ApiServer, settings: Settings
) -> None:
    given = {
        "disposition": "merge",
        "strategy": "upsert",
        "skip_unchanged_rows": True,
        "row_version_column_name": "v",
    }
    upsert = resource("upsert", write_disposition=given)
    connector = make_connector(api.url, upsert)
    row = {"a": "a", "b": "b", "v": 1, "gone": False, "w": 1}
    for rows in ([row], [{**row, "w": 2}], [{**row, "a": "c"}], [{**row, "v": 2, "w": 3}]):
        api.answers["/things"] = rows
        outcome = load(connector, settings)["upsert"]
        assert outcome.failure is None, outcome.failure
    found = query(settings, "SELECT a, v, w FROM shop.upsert ORDER BY 1")
    assert found == [("a", 2, 3), ("c", 1, 1)]


SCD2_PAIR = {
    "merge_key": list(KEY),
    "write_disposition": {"disposition": "merge", "strategy": "scd2"},
}
REFUSED = (
    (filesystem, {"primary_key": "a"}, 'Write "write_disposition": "append"'),
    (filesystem, resource("upsert"), "can't merge"),
    (motherduck, SCD2_PAIR, "several columns"),
    (motherduck, resource("upsert"), "tombstones"),
)


@pytest.mark.skipif(HAS_NEW_DLT, reason="this version of dlt has a place for the right SQL")
@pytest.mark.parametrize(
    ("hints", "text"), [(SCD2_PAIR, "several columns"), (resource("upsert"), "tombstones")]
)
def test_an_older_dlt_merges_no_pairs_and_no_tombstones(
    api: ApiServer, settings: Settings, hints: dict[str, Any], text: str
) -> None:
    outcome = load(make_connector(api.url, {**hints, "name": "things"}), settings)["things"]
    assert outcome.failure is not None
    assert text in outcome.failure.message
    assert api.seen == []


@pytest.mark.parametrize(("destination", "hints", "text"), REFUSED)
def test_a_merge_that_the_destination_can_not_do_is_refused_with_what_it_can(
    destination: Any, hints: dict[str, Any], text: str
) -> None:
    given = {**hints, "name": "things"}
    made: Any = destination("file:///tmp/unused") if destination is filesystem else destination()
    with pytest.raises(IngestError, match="resource things: ") as caught:
        check_destination_can_merge(made, make_connector("http://x.test", given).resources[0])
    assert text in str(caught.value)


@pytest.mark.parametrize("destination", [filesystem("file:///tmp/unused"), motherduck()])
def test_what_the_destination_can_do_is_not_refused(destination: Any) -> None:
    assert isinstance(destination, dlt.common.destination.Destination)
    for hints in ({"write_disposition": "append"}, {"write_disposition": "replace"}):
        one = make_connector("http://x.test", {"name": "things", **hints}).resources[0]
        check_destination_can_merge(destination, one)


def test_nothing_is_requested_for_rows_that_the_destination_can_not_take(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settings.data_dir / "bucket"
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", folder.as_uri())
    api.answers["/things"] = [{"id": 1}]
    api.answers["/others"] = [{"id": 1}]
    connector = make_connector(api.url, {"name": "things", "primary_key": "id"}, "others")
    outcomes = load(connector, settings.model_copy(update={"destination": "filesystem"}))
    assert outcomes["things"].failed
    assert not outcomes["others"].failed
    assert api.asked("/things") == []
