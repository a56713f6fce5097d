"""Rows that a table can't take as the file says are refused by resource, page, row and field."""

from collections.abc import Callable
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

PAGED = {
    "data_selector": "$",
    "paginator": {"type": "page_number", "base_page": 1, "total_path": None},
}


def load_pages(api: ApiServer, settings: Settings, *pages: Any, **hints: Any) -> Outcome:
    def answer(seen: Seen) -> Any:
        number = int(seen.query["page"])
        return pages[number - 1] if number <= len(pages) else []

    api.answers["/things"] = answer
    endpoint = {"path": "things", **PAGED, **hints.pop("endpoint", {})}
    connector = make_connector(api.url, {"name": "things", "endpoint": endpoint, **hints})
    return load(connector, settings)["things"]


def load_cases(
    api: ApiServer, settings: Settings, cases: dict[str, tuple[list[Any], dict[str, Any]]]
) -> dict[str, Outcome]:
    """Load the pages of each case with its hints, as a resource of its own; its outcome by case."""

    def serve(pages: list[Any]) -> Callable[[Seen], Any]:
        return lambda seen: [*pages, []][min(int(seen.query["page"]), len(pages) + 1) - 1]

    names = {case: f"case{number}" for number, case in enumerate(cases)}
    resources = []
    for case, (pages, hints) in cases.items():
        api.answers[f"/{names[case]}"] = serve(pages)
        endpoint = {"path": names[case], **PAGED}
        resources.append({"name": names[case], "endpoint": endpoint, **hints})
    outcomes = load(make_connector(api.url, *resources), settings)
    return {case: outcomes[name] for case, name in names.items()}


def refusal(outcome: Outcome) -> str:
    assert outcome.failure is not None
    return outcome.failure.message


KEYS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "null": ({"primary_key": "id"}, {"id": None}, "id"),
    "absent": ({"primary_key": "id"}, {"v": 1}, "id"),
    "one of two": ({"primary_key": ["id", "n"]}, {"id": 4, "n": None}, "n"),
    "a merge key": ({"merge_key": "n", "write_disposition": "merge"}, {"id": 4}, "n"),
    "an appended key": ({"primary_key": "id", "write_disposition": "append"}, {"v": 1}, "id"),
    "in an object": ({"primary_key": "o__id"}, {"id": 4, "n": 4, "o": {"id": None}}, "o__id"),
    "nullable: false": (
        {"columns": {"n": {"nullable": False, "data_type": "bigint"}}},
        {"id": 4},
        "n",
    ),
    "of another type": ({"primary_key": "id"}, {"id": "x", "n": 4}, "id"),
    "an object": ({"primary_key": "id"}, {"id": {"a": 4}, "n": 4}, "id"),
    "a list": ({"primary_key": "id"}, {"id": [4], "n": 4}, "id"),
    "an object in place of a column": (
        {"columns": {"n": {"nullable": False}}},
        {"id": 4, "n": {"a": 4}},
        "n",
    ),
    "no object": ({"primary_key": "id"}, 4, "id"),
    "a fraction": ({"primary_key": "id"}, {"id": 4.5, "n": 4}, "id"),
}


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_a_row_without_the_value_that_the_file_needs_is_refused_by_name(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    sound = [{"id": n, "n": n, "o": {"id": n}} for n in (1, 2, 3)]
    cases = {
        case: ([sound[:2], [sound[2], record]], {"mode": mode, **hints})
        for case, (hints, record, _) in KEYS.items()
    }
    for case, outcome in load_cases(api, settings, cases).items():
        field = KEYS[case][2]
        told = f"resource {outcome.resource}, page 2, row 2, field {field}: "
        assert told in refusal(outcome), case


def test_a_key_that_changes_between_runs_is_refused_by_name(
    api: ApiServer, settings: Settings
) -> None:
    records = {"a text": {"id": "x"}, "absent": {"v": 2}, "an object": {"id": {"a": 1}}}
    merged = {"primary_key": "id"}

    def load_records(*sound: Any, changed: bool = False) -> dict[str, Outcome]:
        cases: dict[str, tuple[list[Any], dict[str, Any]]] = {
            case: ([[*sound, record] if changed else [*sound]], merged)
            for case, record in records.items()
        }
        return load_cases(api, settings, cases)

    load_records({"id": 1})
    for _ in range(2):
        for case, outcome in load_records({"id": 2}, changed=True).items():
            told = f"resource {outcome.resource}, page 1, row 2, field id: "
            assert told in refusal(outcome), case
            assert query(settings, f"SELECT id FROM shop.{outcome.resource}") == [(1,)], case
    for case, outcome in load_records({"id": 2}).items():
        assert outcome.failure is None, case


@pytest.mark.parametrize("key", ["info.run", "info__run"])
def test_a_key_inside_of_an_object_is_named_by_its_path_or_its_column(
    api: ApiServer, settings: Settings, key: str
) -> None:
    for run in (1, 2, 2):
        row = {"info": {"run": run}}
        assert load_pages(api, settings, [row], primary_key=key).failure is None
    assert query(settings, "SELECT info__run FROM shop.things ORDER BY 1") == [(1,), (2,)]


def test_rows_that_the_cursor_leaves_out_need_no_key(api: ApiServer, settings: Settings) -> None:
    cursor = {"incremental": {"cursor_path": "n", "initial_value": 5}}
    rows = [{"id": None, "n": 1}, {"id": 2, "n": 7}]
    assert load_pages(api, settings, rows, primary_key="id", endpoint=cursor).failure is None
    assert query(settings, "SELECT id FROM shop.things") == [(2,)]


def test_a_key_that_comes_from_the_parent_is_checked_with_its_row(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/things"] = [{"id": 1, "code": "a"}, {"id": 2, "code": None}]
    for number in (1, 2):
        api.answers[f"/things/{number}/lines"] = [{"n": 1}]
    lines = {
        "name": "lines",
        "primary_key": ["_things_code", "n"],
        "include_from_parent": ["code"],
        "endpoint": {"path": "things/{resources.things.id}/lines", "data_selector": "$"},
    }
    things = {"name": "things", "endpoint": {"data_selector": "$", "paginator": "single_page"}}
    failure = load(make_connector(api.url, things, lines), settings)["lines"].failure
    assert failure is not None
    assert "resource lines, row 1, field _things_code" in failure.message


NUMBERS: dict[str, tuple[dict[str, Any], Any]] = {
    "too many digits": ({"data_type": "decimal", "precision": 5, "scale": 2}, 123456.75),
    "too many digits as text": ({"data_type": "decimal", "precision": 5, "scale": 2}, "123456.75"),
    "too many after the point": ({"data_type": "decimal", "precision": 5, "scale": 2}, 1.23456),
    "dlt's own decimal": ({"data_type": "decimal"}, 1.23456789012345),
    "16 bits": ({"data_type": "bigint", "precision": 16}, 70000),
    "16 bits below": ({"data_type": "bigint", "precision": 16}, -32769),
}


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_a_number_that_does_not_fit_the_declared_type_is_refused_by_name(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    sound = {"id": 1, "x": 1}
    hints = {case: {"columns": {"x": one}, "mode": mode} for case, (one, _) in NUMBERS.items()}
    refused = {
        case: ([[sound, {"id": 2, "x": value}]], hints[case])
        for case, (_, value) in NUMBERS.items()
    }
    for case, outcome in load_cases(api, settings, refused).items():
        text = refusal(outcome)
        assert f"resource {outcome.resource}, page 1, row 2, field x: " in text, case
        assert str(NUMBERS[case][1]) in text, case
    taken = {case: ([[sound]], hints[case]) for case in NUMBERS}
    for case, outcome in load_cases(api, settings, taken).items():
        assert outcome.failure is None, case


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_an_empty_first_answer_makes_the_table_and_the_key_comes_with_the_first_row(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    hints = {"primary_key": "id", "columns": {"title": {"data_type": "text"}}, "mode": mode}
    outcome = load_pages(api, settings, [], **hints)
    assert (outcome.failure, outcome.row_count) == (None, 0)
    assert query(settings, "SELECT count(title) FROM shop.things") == [(0,)]
    for title in ("a", "b"):
        assert load_pages(api, settings, [{"id": 1, "title": title}], **hints).failure is None
        assert query(settings, "SELECT id, title FROM shop.things") == [(1, title)]
    assert "field id" in refusal(load_pages(api, settings, [{"title": "c"}], **hints))


def test_an_empty_first_answer_of_a_dependent_with_a_key_makes_its_table(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/things"] = [{"id": 1}, {"id": 2}]
    api.answers["/things/1/lines"] = []
    lines = {
        "name": "lines",
        "primary_key": "n",
        "columns": {"title": {"data_type": "text"}},
        "endpoint": {"path": "things/{resources.things.id}/lines", "data_selector": "$"},
    }
    things = {
        "name": "things",
        "primary_key": "id",
        "endpoint": {"data_selector": "$", "paginator": "single_page"},
    }
    for answer in ([], [{"n": 1, "title": "a"}]):
        api.answers["/things/2/lines"] = answer
        for outcome in load(make_connector(api.url, things, lines), settings).values():
            assert outcome.failure is None, outcome.failure
        assert query(settings, "SELECT title FROM shop.lines") == [("a",)] * len(answer)


CONTRACTS: dict[str, tuple[dict[str, Any], str]] = {
    "columns": ({"id": 3, "o": {"n": 1}}, "field o__n, table {table}: it would be a new column"),
    "tables": ({"id": 3, "l": [{"n": 1}]}, "field l, table {table}__l: it would be a new table"),
    "data_type": ({"id": "x"}, "field id, table {table}: it would be a value of another type"),
}


def test_a_row_that_breaks_the_contract_is_named_with_page_row_and_field(
    api: ApiServer, settings: Settings
) -> None:
    sound: dict[str, Any] = {}
    broken: dict[str, Any] = {}
    for mode in ("rows", "auto"):
        for entity, (row, _) in CONTRACTS.items():
            given = {"mode": mode, "write_disposition": "append"}
            frozen = {**given, "schema_contract": {entity: "freeze"}}
            sound[f"{entity} {mode}"] = ([[{"id": 1}]], given)
            broken[f"{entity} {mode}"] = ([[{"id": 1}], [{"id": 2}, row]], frozen)
    for case, outcome in load_cases(api, settings, sound).items():
        assert outcome.failure is None, case
    for case, outcome in load_cases(api, settings, broken).items():
        text, entity, name = refusal(outcome), case.split(" ")[0], outcome.resource
        told = CONTRACTS[entity][1].format(table=name)
        assert f"resource {name}: page 2, row 2, {told}" in text, case
        assert f"et `{entity}` to `evolve`" in text, case
        assert query(settings, f"SELECT id FROM shop.{name}") == [(1,)], case


def test_a_parent_without_an_included_field_is_an_error_of_the_dependent_resource(
    api: ApiServer, settings: Settings
) -> None:
    api.answers |= {"/parents": [{"id": 1, "info": {"name": "x"}}], "/parents/1/lines": [{"n": 1}]}
    below = {
        "name": "lines",
        "include_from_parent": ["info.name"],
        "endpoint": {"path": "parents/{resources.parents.id}/lines", "data_selector": "$"},
    }
    outcomes = load(make_connector(api.url, "parents", below), settings)
    for outcome in outcomes.values():
        assert outcome.failure is not None
        assert outcome.failure.resource == "lines"
        assert "resource lines: include_from_parent takes the field 'info.name'" in refusal(outcome)
        assert "It has id, info." in refusal(outcome)
