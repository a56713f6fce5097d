"""What `processing_steps` make of the records, in rows and as columns."""

import hashlib
import hmac
import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.models.processing_steps import DropStep, FilterStep, MapStep
from restsource_dagster.engine.errors import RecordError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.source.record_steps import RecordSteps, read_fields
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

MODE_NAMES = ("auto", "rows")
MODES = pytest.mark.parametrize("mode", MODE_NAMES)
BIG = 12_345_678_901_234_567_891


def run(
    api: ApiServer, settings: Settings, records: Any, *steps: Any, mode: str = "auto", **hints: Any
) -> Outcome:
    api.answers["/things"] = records
    resource = steps_of("things", *steps, mode=mode, **hints)
    return load(make_connector(api.url, resource), settings)["things"]


def steps_of(name: str, *steps: Any, **hints: Any) -> dict[str, Any]:
    """A resource that reads the things with these steps."""
    return {
        "name": name,
        "endpoint": {"path": "things", "data_selector": "$", "paginator": "single_page"},
        "processing_steps": list(steps),
        **hints,
    }


def rows(settings: Settings, columns: str = "*") -> list[Any]:
    return query(settings, f"SELECT {columns} FROM shop.things ORDER BY ALL")


def failure(outcome: Outcome) -> str:
    assert outcome.failure is not None
    return outcome.failure.message


@MODES
def test_a_filter_keeps_records_as_they_are(api: ApiServer, settings: Settings, mode: str) -> None:
    records = [
        {"id": 1, "open": True, "n": 9_007_199_254_740_993, "price": 1.0},
        {"id": 2, "open": False, "n": 1, "price": 2.0},
        {"id": 3, "open": None, "n": 1, "price": 2.5},
        {"id": 4, "n": 1, "price": 2.5},
    ]
    outcome = run(api, settings, records, {"filter": ".open"}, mode=mode)
    assert rows(settings, "id, n, price") == [(1, 9_007_199_254_740_993, 1.0)]
    assert outcome.write_mode == {"auto": "columns", "rows": "rows"}[mode]
    assert outcome.records_received == 4


@MODES
def test_a_map_makes_one_record_of_each(api: ApiServer, settings: Settings, mode: str) -> None:
    """Arrays as records, as APIs of measurements send them."""
    outcome = run(
        api, settings, [["a", 1], ["b", 2]], {"map": "{day: .[0], value: .[1]}"}, mode=mode
    )
    assert rows(settings, "day, value") == [("a", 1), ("b", 2)]
    assert outcome.write_mode == {"auto": "columns", "rows": "rows"}[mode]


@MODES
def test_a_yield_map_makes_any_number_of_records(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    records = [{"id": 1, "lines": [{"n": 1}, {"n": 2}]}, {"id": 2, "lines": []}]
    step = {"yield_map": ".id as $order | .lines[] | . + {order: $order}"}
    run(api, settings, records, step, mode=mode)
    assert rows(settings, 'n, "order"') == [(1, 1), (2, 1)]


@MODES
def test_fields_are_renamed_dropped_hashed_and_parsed(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    records = [
        {
            "ID": 1,
            "mail": "ann@x.test",
            "who": {"name": "Ann", "age": 40},
            "people": [{"name": "Bob", "n": 1}, {"n": 2}],
            "payload": '{"x": 1}',
        },
        {"ID": 2, "mail": None, "who": None, "people": [], "payload": ""},
    ]
    outcome = run(
        api,
        settings,
        records,
        {"rename": {"ID": "id", "who.age": "years"}},
        {"drop": ["who.name", "people.n"]},
        {"hash": {"fields": ["mail"], "key": "k"}},
        {"hash": ["people.name"]},
        {"parse_json": ["payload"]},
        mode=mode,
    )
    mail = hmac.new(b"k", b"ann@x.test", hashlib.sha256).hexdigest()
    assert rows(settings, "id, mail, who__years, payload__x") == [
        (1, mail, 40, 1),
        (2, None, None, None),
    ]
    assert query(settings, "SELECT name FROM shop.things__people ORDER BY 1") == [
        (hashlib.sha256(b"Bob").hexdigest(),),
        (None,),
    ]
    described = {row[0] for row in query(settings, "DESCRIBE shop.things")}
    assert not described & {"who__name", "who", "i_d"}
    assert outcome.write_mode == {"auto": "columns", "rows": "rows"}[mode]


def test_values_are_the_same_after_a_program_that_leaves_them(
    api: ApiServer, settings: Settings
) -> None:
    record = {
        "whole": 2.0,
        "long": BIG,
        "exact": 2**53 + 1,
        "text": "ü\u2028\x00",
        "in": {"f": 3.0},
    }
    api.answers["/things"] = [record, {**record, "whole": 2.5}]
    steps: list[dict[str, Any]] = [{"map": "."}, {"yield_map": "."}, {"filter": "true"}]
    made = {f"{next(iter(step))}_{mode}": (step, mode) for step in steps for mode in MODE_NAMES}
    resources = [steps_of(name, step, mode=mode) for name, (step, mode) in made.items()]
    load(make_connector(api.url, *resources), settings)
    for name in made:
        sql = f"SELECT whole, long::hugeint, exact, in__f FROM shop.{name} ORDER BY ALL"
        found = query(settings, sql)
        assert found == [(2.0, BIG, 2**53 + 1, 3.0), (2.5, BIG, 2**53 + 1, 3.0)], name


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=4), max_size=4))
def test_jq_changes_no_value(records: list[Any]) -> None:
    steps = RecordSteps("things", [MapStep(map=".")], Redactor(frozenset()))
    before = json.dumps(records)
    assert json.dumps(list(steps.apply(records, 1))) == before


CONDITIONS = [
    '.a == "x" and .b > 3',
    ".a.c or (.b | not)",
    ".a | length > 1",
    '.a | test("x")',
    ".b != null and (.a.c == 1.5 or .b <= -2)",
]
UNSAFE = [
    ".",
    "length > 1",
    ". == {}",
    ".a as $x | true",
    'has("a")',
    ".a | ..",
    "keys | any",
    '"\\(.)" == "x"',
]
fields = st.none() | st.integers(-5, 5) | st.sampled_from(["x", "xx", ""]) | st.just({"c": 1.5})


@given(st.lists(st.dictionaries(st.sampled_from("abd"), fields), min_size=1, max_size=3))
def test_a_condition_has_one_verdict_with_all_fields_and_with_those_that_it_reads(
    records: list[Any],
) -> None:
    for program in CONDITIONS:
        assert read_fields(program) is not None
        found = []
        # a bare dot reads all fields
        for text in (program, f"({program}) and (. == .)"):
            steps = RecordSteps("things", [FilterStep(filter=text)], Redactor(frozenset()))
            try:
                found.append(list(steps.apply(deepcopy(records), 1)))
            except RecordError as error:
                found.append([str(error)])
        assert found[0] == found[1], program


@pytest.mark.parametrize("program", UNSAFE)
def test_a_condition_that_may_read_any_field_gets_all(program: str) -> None:
    assert read_fields(program) is None


def test_what_stands_for_a_big_number_is_never_computed_with(
    api: ApiServer, settings: Settings
) -> None:
    for program in (".n + 1", ".n * 2", ".n + .m", "(.n | tostring)", "[.n, 1] | add", "-.n"):
        outcome = run(
            api, settings, [{"n": 1}, {"n": BIG, "m": BIG - 1}], {"map": f"{{r: ({program})}}"}
        )
        assert "row 2" in failure(outcome), program
        assert "2^53" in failure(outcome), program


ERRORS: list[tuple[Any, str, str]] = [
    ({"map": ".a.b"}, "row 2", "Cannot index number"),
    ({"map": 'if .a == 5 then error("too many") else . end'}, "row 2", "too many"),
    ({"map": "select(.a != 5)"}, "row 2", "use `filter`"),
    ({"map": "if .a == 5 then (., .) else . end"}, "row 2", "use `yield_map`"),
    ({"filter": "if .a == 5 then (true, true) else true end"}, "row 2", "any(...)"),
    ({"filter": "env | length > 0"}, "row 1", "env has no use here"),
    ({"yield_map": "input"}, "row 1", "input has no use here"),
    ({"map": "halt"}, "row 1", "halt has no use here"),
    ({"rename": {"a": "id"}}, "row 1", "has a field `id` already"),
    ({"parse_json": ["t"]}, "row 2", "field t"),
]


def test_the_error_of_a_step_names_the_step_the_page_the_row_and_the_reason(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/things"] = [
        {"id": 1, "a": {"b": {}}, "t": "{}"},
        {"id": 2, "a": 5, "t": "{"},
    ]
    resources = [
        steps_of(f"things{number}", {"filter": "true"}, step)
        for number, (step, _, _) in enumerate(ERRORS)
    ]
    outcomes = load(make_connector(api.url, *resources), settings)
    for number, (step, row, text) in enumerate(ERRORS):
        message, name = failure(outcomes[f"things{number}"]), next(iter(step))
        assert f"page 1, {row}" in message, step
        assert f"processing_steps[1] ({name})" in message, step
        assert text in message, step


@pytest.mark.parametrize("step", [{"drop": ["a"]}, {"rename": {"a": "b"}}, {"hash": ["a"]}])
def test_a_record_without_fields_is_refused(api: ApiServer, settings: Settings, step: Any) -> None:
    assert "no object" in failure(run(api, settings, [["a", 1]], step))


def test_a_duplicate_key_is_refused_before_a_step_sees_one_of_its_values(
    api: ApiServer, settings: Settings
) -> None:
    body = Answer(b'[{"id": 1}, {"id": 2, "l": [{"a": 1, "a": 2}]}]')
    message = failure(run(api, settings, body, {"map": "{id}"}))
    assert "row 2, field a" in message


@pytest.mark.parametrize("levels", [250, 900])
def test_a_record_that_is_nested_too_deeply_is_refused(
    api: ApiServer, settings: Settings, levels: int
) -> None:
    body = Answer(b'[{"id": 1, "x": %s1%s}]' % (b"[" * levels, b"]" * levels))
    message = failure(run(api, settings, body, {"map": "."}))
    assert "page 1, row 1" in message
    assert "200 levels" in message


def test_a_field_that_no_record_has_is_told() -> None:
    steps = RecordSteps("things", [DropStep(drop=["a", "emial"])], Redactor(frozenset()))
    assert steps.describe_unseen() is None
    steps.apply([{"a": 1}], 1)
    assert steps.describe_unseen() == "processing_steps: no record had the field emial (drop)"


def test_paging_counts_the_records_of_the_api(api: ApiServer, settings: Settings) -> None:
    """A page of which a filter leaves nothing is not the end."""
    records = [{"id": number, "ok": number == 3} for number in (1, 2, 3)]

    def answer(seen: Seen) -> Any:
        start = int(seen.query["offset"])
        return {"data": records[start : start + 2]}

    api.answers["/things"] = answer
    resource = {
        "name": "things",
        "endpoint": {
            "path": "things",
            "data_selector": "data",
            "paginator": {"type": "offset", "limit": 2, "total_path": None},
        },
        "processing_steps": [{"filter": ".ok"}],
    }
    assert load(make_connector(api.url, resource), settings)["things"].failure is None
    assert rows(settings, "id") == [(3,)]


@MODES
def test_the_cursor_is_that_of_the_record_which_the_steps_leave(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    incremental = {"cursor_path": "day", "initial_value": "2026-01-01"}
    endpoint = {
        "path": "things",
        "data_selector": "$",
        "paginator": "single_page",
        "params": {"since": "{incremental.start_value}"},
        "incremental": incremental,
    }
    step = {"map": "{id: .[0], day: .[1]}"}
    options: Any = {"mode": mode, "endpoint": endpoint, "primary_key": "id"}
    run(api, settings, [[1, "2026-01-02"], [2, "2026-01-03"]], step, **options)
    run(api, settings, [[2, "2026-01-03"], [3, "2026-01-04"]], step, **options)
    assert api.seen[-1].query["since"] == "2026-01-03"
    assert rows(settings, "id") == [(1,), (2,), (3,)]


@MODES
def test_a_step_below_a_parent_sees_its_fields(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    api.answers.update({"/a": [{"id": 1}, {"id": 2}], "/a/1": [{"n": 1}], "/a/2": [{"n": 2}]})
    one = {"data_selector": "$", "paginator": "single_page"}
    parent = {"name": "a", "endpoint": {"path": "a", **one}}
    child = {
        "name": "things",
        "endpoint": {"path": "a/{resources.a.id}", **one},
        "include_from_parent": ["id"],
        "processing_steps": [{"filter": "._a_id == 2"}, {"rename": {"_a_id": "parent"}}],
        "mode": mode,
    }
    assert load(make_connector(api.url, parent, child), settings)["things"].failure is None
    assert query(settings, "SELECT n, parent FROM shop.things") == [(2, 2)]
    assert "_a_id" not in {row[0] for row in query(settings, "DESCRIBE shop.things")}


def test_children_are_asked_for_what_the_steps_of_their_parent_leave(
    api: ApiServer, settings: Settings
) -> None:
    api.answers.update({"/a": [{"id": 1, "x": 0}, {"id": 2, "x": 1}], "/a/2": [{"n": 2}]})
    one = {"data_selector": "$", "paginator": "single_page"}
    steps = [{"filter": ".x == 1"}, {"rename": {"id": "key"}}]
    parent = {"name": "a", "endpoint": {"path": "a", **one}, "processing_steps": steps}
    child = {"name": "things", "endpoint": {"path": "a/{resources.a.key}", **one}}
    assert load(make_connector(api.url, parent, child), settings)["things"].failure is None
    assert [seen.path for seen in api.seen] == ["/a", "/a/2"]


@pytest.mark.parametrize("key", ["${HASH_KEY}", "s3cret-key-1"])
def test_the_key_of_a_hash_is_a_secret(api: ApiServer, settings: Settings, key: str) -> None:
    step = {"hash": {"fields": ["id"], "key": key}}
    api.answers["/things"] = [{"id": "s3cret-key-1"}, {"id": 1, "t": "x"}]
    resource = {
        "name": "things",
        "endpoint": {"path": "things", "data_selector": "$", "paginator": "single_page"},
        "processing_steps": [{"map": "error(.id)"}, step],
    }
    connector = make_connector(api.url, resource)
    outcome = load(connector, settings, environment={"HASH_KEY": "s3cret-key-1"})["things"]
    assert "s3cret-key-1" not in failure(outcome)
