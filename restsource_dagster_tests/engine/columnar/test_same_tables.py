"""Rows written as columns lead to the tables that rows written one by one lead to."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies

from restsource_dagster.engine.outcome import Outcome
from restsource_dagster_tests.engine.columnar.tables import Dump, dump
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

Pages = list[list[Any]]
THING: dict[str, Any] = {
    "name": "things",
    "write_disposition": "append",
    "endpoint": {
        "data_selector": "data",
        "paginator": {"type": "json_link", "next_url_path": "next"},
    },
}
MERGE = {"write_disposition": "merge", "primary_key": "id"}
EXAMPLES = int(os.environ.get("COLUMN_EXAMPLES", "6"))

KINDS: dict[str, strategies.SearchStrategy[Any]] = {
    "n": strategies.integers(-(2**63), 2**63 - 1),
    "x": strategies.floats(allow_nan=False, allow_infinity=False, width=32),
    "text": strategies.text(max_size=6),
    "flag": strategies.booleans(),
    "at": strategies.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    "naive": strategies.datetimes().map(lambda moment: moment.isoformat(" ")),
    "day": strategies.dates().map(lambda day: day.isoformat()),
}
ODD = strategies.one_of(
    strategies.just(2**70),
    strategies.just("2026-13-45T00:00:00Z"),
    strategies.just("12"),
    strategies.just({}),
    strategies.just([]),
    strategies.just([[1], [2]]),
    strategies.just([{"a": 1}, 2, None]),
    strategies.just({"deep": {"er": 1}}),
    *KINDS.values(),
)
ITEM = strategies.fixed_dictionaries(
    {"sku": KINDS["text"]}, optional={"price": KINDS["x"], "tags": strategies.lists(KINDS["n"])}
)
RECORD = strategies.fixed_dictionaries(
    {"id": KINDS["n"]},
    optional={
        **{name: strategies.one_of(kind, strategies.none()) for name, kind in KINDS.items()},
        "customer": strategies.one_of(
            strategies.none(),
            strategies.fixed_dictionaries({"Name": KINDS["text"]}, optional={"vip": KINDS["flag"]}),
        ),
        "items": strategies.one_of(strategies.none(), strategies.lists(ITEM, max_size=3)),
        "numbers": strategies.lists(KINDS["n"], max_size=2),
    },
)
MOSTLY_PLAIN = strategies.tuples(
    RECORD, strategies.dictionaries(strategies.sampled_from(sorted(KINDS)), ODD, max_size=1)
).map(lambda both: {**both[0], **both[1]})
PAGE = strategies.one_of(
    strategies.lists(RECORD, max_size=5), strategies.lists(MOSTLY_PLAIN, max_size=5)
)


def serve(api: ApiServer, pages: Pages) -> None:
    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("page", 0))
        more = number + 1 < len(pages)
        return {"data": pages[number], "next": f"/things?page={number + 1}" if more else None}

    api.answers["/things"] = answer


def outcome_of(api: ApiServer, folder: Path, pages: Pages, **hints: Any) -> Outcome:
    serve(api, pages)
    connector = make_connector(api.url, {**THING, **hints})
    return load(connector, make_settings(folder))["things"]


def loaded(api: ApiServer, folder: Path, runs: list[Pages], **hints: Any) -> Dump | None:
    if any(outcome_of(api, folder, pages, **hints).failed for pages in runs):
        return None
    return dump(make_settings(folder))


def compare(api: ApiServer, folder: Path, runs: list[Pages], **hints: Any) -> None:
    """A load that fails one by one has to fail as columns, too."""
    one_by_one = loaded(api, folder / "rows", runs, mode="rows", **hints)
    assert loaded(api, folder / "columns", runs, mode="auto", **hints) == one_by_one


PLAIN = {"id": 1, "at": "2026-01-01T00:00:00Z", "x": 1.5, "items": [{"sku": "a"}, {"sku": "b"}]}
CASES: dict[str, list[Pages]] = {
    "nothing special": [[[PLAIN, {**PLAIN, "id": 2}], [{**PLAIN, "id": 3}]]],
    "an integer where floats were": [[[PLAIN, {**PLAIN, "x": 2}]]],
    "a float where integers were": [[[PLAIN, {**PLAIN, "id": 2.5}], [PLAIN]]],
    "a text where numbers were": [[[PLAIN], [{**PLAIN, "x": "many"}], [{**PLAIN, "x": "7"}]]],
    "a text where times were": [[[PLAIN], [{**PLAIN, "at": "yesterday"}]]],
    "a time finer than microseconds": [[[PLAIN, {**PLAIN, "at": "2026-01-01T00:00:00.1234567Z"}]]],
    "times with and without a zone": [[[PLAIN, {**PLAIN, "at": "2026-01-01 10:00"}]]],
    "an object where a number was": [[[PLAIN], [{**PLAIN, "x": {"a": 1}}]]],
    "a column that comes late": [[[PLAIN], [{**PLAIN, "new": True}], [PLAIN]], [[PLAIN]]],
    "a table that comes late": [[[{"id": 1}], [PLAIN]], [[{"id": 2}]]],
    "a column that is null at first": [[[{"id": 1, "a": None}], [{"id": 2, "a": 5}]]],
    "a column that is always null": [[[{"id": 1, "a": None, "b": {"c": None}}]]],
    "a number beyond 64 bits": [[[PLAIN], [{**PLAIN, "big": 2**70}]]],
    "a number that 64 bits hold only without a sign": [
        [[PLAIN], [{**PLAIN, "id": 2, "big": 2**63}]],
        [[{**PLAIN, "id": 3}], [{**PLAIN, "id": 4, "items": [{"sku": "c", "n": 2**64 - 1}]}]],
    ],
    "lists of numbers, of lists and of both": [
        [[{"id": 1, "a": [1, 2], "b": ["x", None]}], [{"id": 2, "a": [[1], [2]]}]],
        [[{"id": 3, "a": [3], "b": [{"c": 1}, 2]}]],
    ],
    "tables below tables": [
        [[{"id": 1, "a": [{"b": [{"c": [1, 2]}, {"c": []}]}, {"b": []}]}, {"id": 2, "a": []}]]
    ],
    "names that are alike": [[[PLAIN], [{"id": 1, "myName": 1, "my_name": 1}]]],
    "other names for columns": [[[{"Order ID": 1, "größe": 2, "a.b": 3, "_x_": 4, "1st": 5}]]],
    "an object without fields": [[[{"id": 1, "a": {}}, {"id": 2, "a": {"b": 1}}]]],
    "a first value of another type than the rest": [
        [[{"id": 1, "a": None}, {"a": False, "b": "x"}, {"a": "y", "b": 2, "c": [{"d": 1}]}]]
    ],
    "records of no fields": [[[{}, PLAIN, {}]]],
    "records that are no objects": [[["a", "b"], ["c"]]],
}


@pytest.mark.parametrize("case", CASES)
def test_columns_and_rows_lead_to_the_same_tables(
    api: ApiServer, tmp_path: Path, case: str
) -> None:
    compare(api, tmp_path, CASES[case])
    assert dump(make_settings(tmp_path / "rows"))


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_lists_below_the_nesting_that_is_asked_for_stay_json(
    api: ApiServer, tmp_path: Path, levels: int
) -> None:
    record = {"id": 1, "o": {"p": {"q": [1]}}, "a": [{"b": [{"c": 1}], "d": {"e": 2}}], "n": [1]}
    compare(api, tmp_path, [[[record]]], max_table_nesting=levels)


@given(
    runs=strategies.lists(strategies.lists(PAGE, min_size=1, max_size=3), min_size=1, max_size=2)
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes an hour
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_columns_and_rows_agree_on_whatever_comes(
    api: ApiServer, tmp_path_factory: pytest.TempPathFactory, runs: list[Pages]
) -> None:
    compare(api, tmp_path_factory.mktemp("tables"), runs)


def test_what_was_written_how_is_told(api: ApiServer, tmp_path: Path) -> None:
    odd, next_one = {**PLAIN, "x": "many"}, {**PLAIN, "id": 2}
    told = [
        outcome_of(api, tmp_path / str(at), pages).written
        for at, pages in enumerate(
            [[[PLAIN], [next_one]], [[odd, PLAIN]], [[PLAIN, next_one], [odd]]]
        )
    ]
    assert told[0] == "columns"
    assert told[1].startswith("rows: x is ")
    assert told[2] == "columns for the first 2 rows, then rows: x is double and got str"


def test_rows_stay_rows_if_the_file_says_so(api: ApiServer, tmp_path: Path) -> None:
    assert outcome_of(api, tmp_path, [[PLAIN]], mode="rows").written == "rows"


def test_columnar_keeps_nested_values_as_json(api: ApiServer, tmp_path: Path) -> None:
    outcome = outcome_of(api, tmp_path, [[PLAIN]], mode="columnar")
    assert (outcome.written, outcome.nested_tables) == ("columns", {})
    assert query(make_settings(tmp_path), "SELECT items FROM shop.things") == [
        ('[{"sku":"a"},{"sku":"b"}]',)
    ]


@pytest.mark.parametrize(
    "hints",
    [
        {"write_disposition": "merge", "primary_key": "id"},
        {"write_disposition": "replace"},
        {"write_disposition": {"disposition": "merge", "strategy": "upsert"}, "primary_key": "id"},
        {"columns": {"x": {"data_type": "decimal"}, "items": {"data_type": "json"}}},
        {"columns": {"at": {"data_type": "text"}, "id": {"data_type": "double"}}},
        {"schema_contract": {"columns": "discard_value"}},
        {"schema_contract": {"tables": "freeze"}},
        {"table_name": "other"},
    ],
    ids=str,
)
def test_hints_work_for_columns_as_for_rows(
    api: ApiServer, tmp_path: Path, hints: dict[str, Any]
) -> None:
    again = [{**PLAIN, "id": 2, "new": 1}, {**PLAIN, "x": 7.25}]
    compare(api, tmp_path, [[[PLAIN, {**PLAIN, "id": 2}]], [again]], **hints)


def test_cursors_work_for_columns_as_for_rows(api: ApiServer, tmp_path: Path) -> None:
    rows = [{**PLAIN, "id": at, "at": f"2026-01-0{at}T00:00:00Z"} for at in range(1, 6)]
    cursor = {"cursor_path": "at", "initial_value": "2026-01-02T00:00:00Z"}
    for name, hints in {"append": {}, "merge": MERGE}.items():
        endpoint = {**THING["endpoint"], "incremental": cursor}
        runs = [[rows[:3], rows[2:4]], [rows[2:]]]
        compare(api, tmp_path / name, runs, endpoint=endpoint, **hints)
