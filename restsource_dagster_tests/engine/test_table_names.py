"""Tables have the names that stock dlt gives them, and two names never become one table or column."""

from typing import Any

import dlt
import duckdb
import pytest

from restsource_dagster.engine.destination.dlt_config import configure_dlt
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

NAMES = ("user__events", "a__b__c", "Order__Lines", "x___y", "orderItems", "_p__q", "v2.z__1")
ROWS = [{"id": 1, "t__u": 1, "l": [{"n": 1}]}, {"id": 2, "t": {"v__w": 2}, "l": [{"n": 2}]}]


def resource(name: str, path: str = "things", **hints: Any) -> dict[str, Any]:
    endpoint = {"path": path, "data_selector": "$", "paginator": "single_page"}
    return {"name": name, "endpoint": {**endpoint, **hints.pop("endpoint", {})}, **hints}


def tables(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    found = connection.execute(
        "SELECT table_name, list(column_name ORDER BY column_name) "
        "FROM information_schema.columns WHERE table_schema = 'shop' "
        "AND NOT starts_with(table_name, '_dlt') AND NOT starts_with(table_name, '_restsource') "
        "AND NOT starts_with(column_name, '_dlt') GROUP BY ALL"
    ).fetchall()
    counts = {
        table: connection.execute(f'SELECT count(*) FROM shop."{table}"').fetchall()[0][0]
        for table, _ in found
    }
    return {table: (columns, counts[table]) for table, columns in found}


@pytest.fixture(scope="module")
def stock_tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of all names that stock dlt makes."""
    configure_dlt()
    folder = tmp_path_factory.mktemp("stock")
    path = str(folder / "stock.duckdb")
    stock = dlt.pipeline(
        "stock",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.duckdb(path),
        dataset_name="shop",
    )
    stock.run([dlt.resource(ROWS, name=name) for name in NAMES])
    with duckdb.connect(path, read_only=True) as connection:
        return tables(connection)


@pytest.mark.parametrize("mode", ["auto", "rows"])
@pytest.mark.parametrize("hints", [{"primary_key": "id"}, {"write_disposition": "replace"}, {}])
def test_tables_have_the_names_that_stock_dlt_gives_them(
    api: ApiServer, settings: Settings, stock_tables: dict[str, Any], mode: str, hints: Any
) -> None:
    api.answers["/things"] = ROWS
    connector = make_connector(api.url, *(resource(name, mode=mode, **hints) for name in NAMES))
    for _ in range(2):
        assert [one.failure for one in load(connector, settings).values() if one.failure] == []
    with duckdb.connect(str(settings.data_dir / "warehouse.duckdb"), read_only=True) as got:
        assert tables(got) == stock_tables


@pytest.mark.parametrize("name", ["user__events", "orderItems"])
def test_rows_of_such_a_table_are_counted_before_it_is_appended_to(
    api: ApiServer, settings: Settings, name: str
) -> None:
    api.answers["/things"] = [{"id": 1}]
    load(make_connector(api.url, resource(name)), settings)
    cursor: dict[str, Any] = {"endpoint": {"incremental": {"cursor_path": "id"}}}
    failure = load(make_connector(api.url, resource(name, **cursor)), settings)[name].failure
    assert failure is not None
    assert "rows from before" in failure.message


def test_a_full_refresh_replaces_the_rows_of_such_a_table(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/things"] = [{"id": 1}, {"id": 2}]
    cursor: dict[str, Any] = {"endpoint": {"incremental": {"cursor_path": "id"}}}
    connector = make_connector(api.url, resource("user__events", **cursor))
    load(connector, settings)
    outcomes = list(
        ingest(connector, settings=settings, environment={}, full_refresh=["user__events"])
    )
    assert [outcome.failure for outcome in outcomes] == [None]
    assert query(settings, "SELECT id FROM shop.user__events ORDER BY 1") == [(1,), (2,)]


@pytest.mark.parametrize("mode", ["auto", "rows"])
@pytest.mark.parametrize("names", [("user", "user__events"), ("user__events", "user")])
def test_a_list_never_shares_a_table_with_a_resource(
    api: ApiServer, settings: Settings, names: tuple[str, str], mode: str
) -> None:
    api.answers["/user"] = [{"id": 1, "events": [{"n": 1}]}]
    api.answers["/user__events"] = [{"n": 2}]
    for _ in range(2):
        connector = make_connector(api.url, *(resource(name, name, mode=mode) for name in names))
        outcomes = load(connector, settings)
        assert outcomes["user__events"].failure is None
        failure = outcomes["user"].failure
        assert failure is not None
        assert "resource user, page 1, row 1, field events" in failure.message
        assert "table_name" in failure.message
    assert query(settings, "SELECT n FROM shop.user__events") == [(2,)]


def test_a_resource_never_shares_a_table_with_a_list_that_was_there_before(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/user"] = [{"id": 1, "events": [{"n": 1}]}]
    api.answers["/user__events"] = [{"n": 2}]
    load(make_connector(api.url, resource("user", "user")), settings)
    connector = make_connector(api.url, resource("user__events", "user__events"))
    failure = load(connector, settings)["user__events"].failure
    assert failure is not None
    assert "a list in user" in failure.message
    assert query(settings, "SELECT n FROM shop.user__events") == [(1,)]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two lists": ({"order": {"lines": [{"v": 1}]}, "order__lines": [{"v": 3}]}, "order__lines"),
    "two fields": ({"a__b": 1, "a": {"b": 2}}, "a__b"),
    "a field and none": ({"a": {"b": 2}, "a__b": None}, "a__b"),
    "two objects": ({"a__b": {"c": 1}, "a": {"b": {"c": 2}}}, "a__b__c"),
    "in a list": ({"l": [{"a__b": 1, "a": {"b": 2}}]}, "a__b"),
    "in an object": ({"o": {"a__b": 1, "a": {"b": 2}}}, "a__b"),
    "a column of another type": ({"x": "text", "x__v_text": "other"}, "x__v_text"),
    "two spellings": ({"aB__c": 1, "a_b": {"C": 2}}, "a_b__c"),
}
TAKEN: dict[str, tuple[dict[str, Any], str, int]] = {
    "equal fields": ({"a__b": 1, "a": {"b": 1}}, "a__b", 1),
    "a list and a field": ({"a__b": 1, "a": {"b": [{"c": 2}]}}, "a__b", 1),
    "folded apart": ({"a__b": 1, "a_b": 2}, "a__b * 10 + a_b", 12),
}


def test_fields_that_become_one_column_or_table_are_refused_by_name(
    api: ApiServer, settings: Settings
) -> None:
    rows = {case: [{"id": 1}, {"id": 2, **record}] for case, (record, _) in REFUSED.items()}
    for case, outcome in load_in_both_modes(api, settings, rows):
        assert outcome.failure is not None, case
        assert f"resource {outcome.resource}, page 1, row 2, field" in outcome.failure.message
        assert REFUSED[case][1] in outcome.failure.message


def test_fields_that_become_no_one_column_are_loaded(api: ApiServer, settings: Settings) -> None:
    rows = {case: [record] for case, (record, *_) in TAKEN.items()}
    for case, outcome in load_in_both_modes(api, settings, rows):
        _, column, value = TAKEN[case]
        assert outcome.failure is None, outcome.failure
        assert query(settings, f"SELECT {column} FROM shop.{outcome.table}") == [(value,)]


def test_objects_that_stay_json_share_no_column_with_other_fields(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/things"] = [{"a__b": 1, "a": {"b": 2}}]
    columns = {"a": {"data_type": "json"}}
    given = {
        "nested": resource("nested", max_table_nesting=0),
        "json": resource("json", columns=columns),
    }
    outcomes = load(make_connector(api.url, *given.values()), settings)
    for name, outcome in outcomes.items():
        assert outcome.failure is None, outcome.failure
        assert query(settings, f'SELECT a__b, a FROM shop."{name}"') == [(1, '{"b":2}')]


def load_in_both_modes(
    api: ApiServer, settings: Settings, rows: dict[str, Any]
) -> list[tuple[str, Outcome]]:
    """Load the rows of each case in both modes in one run; each outcome with its case."""
    cases = {}
    resources = []
    for number, (case, records) in enumerate(rows.items()):
        api.answers[f"/case{number}"] = records
        for mode in ("auto", "rows"):
            name = f"case{number}_{mode}"
            cases[name] = case
            resources.append(resource(name, f"case{number}", mode=mode))
    outcomes = load(make_connector(api.url, *resources), settings)
    return [(cases[name], outcome) for name, outcome in outcomes.items()]
