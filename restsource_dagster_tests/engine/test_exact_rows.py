"""A value is stored as it came, in the column of its field or in one of its own, in every mode."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer

ENDPOINT = {"path": "things", "data_selector": "$", "paginator": "single_page"}
MOMENT = "2026-01-01T00:00:00Z"

OWN_COLUMN: dict[str, tuple[Any, Any, str]] = {
    "beyond 53 bits": (1.5, 2**53 + 1, "bigint"),
    "24 digits": (1.5, 123456789012345678901234, "decimal"),
    "40 digits": (1.5, 1234567890123456789012345678901234567891, "text"),
    "40 digits among integers": (7, 1234567890123456789012345678901234567891, "text"),
    "digits as text": (1.5, "9007199254740993", "text"),
    "NaN": (1.5, "NaN", "text"),
    "infinity": (1.5, "-inf", "text"),
    "hexadecimal": (7, "0x10", "text"),
    "underscores": (7, "1_000", "text"),
    "leading zeros": (7, "007", "text"),
    "leading zeros among doubles": (1.5, "007.5", "text"),
    "spaces": (7, " 7", "text"),
    "a plus": (7, "+7", "text"),
    "other digits": (7, "\u0664\u0662", "text"),
    "beyond 64 bits as text": (7, "99999999999999999999", "text"),
    "a large double among integers": (7, 1e300, "double"),
    "five among bools": (True, 5, "bigint"),
    "one among bools": (True, 1, "bigint"),
    "a half among bools": (True, 0.5, "double"),
    "yes among bools": (True, "yes", "text"),
    "true among texts": ("a", True, "bool"),
    "true among numbers": (7, True, "bool"),
    "five among times": (MOMENT, 5, "bigint"),
    "a fraction among times": (MOMENT, 1.5, "double"),
    "a month among times": (MOMENT, "2026-05", "text"),
    "digits among times": (MOMENT, "20260101", "text"),
    "a small double among decimals": (2**70, 1e-12, "double"),
}
SAME_COLUMN: dict[str, tuple[Any, Any, Any]] = {
    "a whole double": (7, 2.0, 2),
    "an integer among doubles": (1.5, 2**53, float(2**53)),
    "digits": (7, "42", 42),
    "digits with a fraction": (1.5, "-4.25", -4.25),
    "a number among texts": ("a", 7, "7"),
    "an integer among decimals": (2**70, 7, Decimal(7)),
    "true as text": (True, "true", True),
}


def resource(place: str, mode: str, **hints: Any) -> dict[str, Any]:
    return {"name": f"{place}_{mode}", "mode": mode, "endpoint": ENDPOINT, **hints}


def load_rows(api: ApiServer, settings: Settings, rows: list[Any], **hints: Any) -> None:
    """Load rows in both modes."""
    api.answers["/things"] = Answer(json.dumps(rows).encode())
    connector = make_connector(
        api.url, *(resource("t", mode, **hints) for mode in ("auto", "rows"))
    )
    for outcome in load(connector, settings).values():
        assert outcome.failure is None, outcome.failure


def test_a_value_that_would_change_gets_a_column_of_its_own(
    api: ApiServer, settings: Settings
) -> None:
    rows = {
        case: [
            {"id": number, "x": x, "o": {"x": x}, "l": [{"x": x}], "s": [x]}
            for number, x in enumerate((first, value, None), 1)
        ]
        for case, (first, value, _) in OWN_COLUMN.items()
    }
    for case, table in load_cases(api, settings, rows):
        _, value, kind = OWN_COLUMN[case]
        kept = str(value) if kind == "text" else value
        root = f"id, x IS NULL, x__v_{kind}, o__x IS NULL, o__x__v_{kind}"
        assert query(settings, f"SELECT {root} FROM shop.{table} ORDER BY 1") == [
            (1, False, None, False, None),
            (2, True, kept, True, kept),
            (3, True, None, True, None),
        ], case
        for nested, column in (("l", "x"), ("s", "value")):
            found = query(
                settings,
                f"SELECT {column}__v_{kind} FROM shop.{table}__{nested} "
                f"WHERE {column}__v_{kind} IS NOT NULL",
            )
            assert found == [(kept,)], case


def test_a_value_of_another_type_that_is_the_same_stays_in_its_column(
    api: ApiServer, settings: Settings
) -> None:
    rows = {
        case: [{"id": 1, "x": first}, {"id": 2, "x": value}]
        for case, (first, value, _) in SAME_COLUMN.items()
    }
    for case, table in load_cases(api, settings, rows):
        stored = SAME_COLUMN[case][2]
        assert query(settings, f"SELECT x FROM shop.{table} WHERE id = 2") == [(stored,)], case


def load_cases(
    api: ApiServer, settings: Settings, rows: dict[str, list[Any]]
) -> Iterator[tuple[str, str]]:
    """Load the rows of all cases in both modes; yield each case with each of its tables."""
    tables = {}
    resources = []
    for number, (case, records) in enumerate(rows.items()):
        api.answers[f"/case{number}"] = Answer(json.dumps(records).encode())
        endpoint = {**ENDPOINT, "path": f"case{number}"}
        for mode in ("auto", "rows"):
            made = {**resource(f"t{number}", mode), "endpoint": endpoint}
            resources.append(made)
            tables[made["name"]] = case
    for outcome in load(make_connector(api.url, *resources), settings).values():
        assert outcome.failure is None, (tables[outcome.resource], outcome.failure)
    for table, case in tables.items():
        yield case, table


def test_the_types_of_earlier_runs_count(api: ApiServer, settings: Settings) -> None:
    merged = {"primary_key": "id"}
    load_rows(api, settings, [{"id": 1, "x": 1.5}], **merged)
    load_rows(api, settings, [{"id": 2, "x": 2**53 + 1}], **merged)
    for mode in ("auto", "rows"):
        found = query(settings, f"SELECT x, x__v_bigint FROM shop.t_{mode} ORDER BY id")
        assert found == [(1.5, None), (None, 2**53 + 1)]


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_dependents_get_the_value_of_their_parent_as_it_came(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    api.answers["/things"] = [{"id": 1, "x": 7}, {"id": 2, "x": "007"}]
    for x in ("7", "007"):
        api.answers[f"/things/{x}/lines"] = [{"n": 1}]
    lines = {
        "name": "lines",
        "include_from_parent": ["x"],
        "endpoint": {"path": "things/{resources.t_MODE.x}/lines", "data_selector": "$"},
    }
    lines = json.loads(json.dumps(lines).replace("MODE", mode))
    connector = make_connector(api.url, resource("t", mode), {**lines, "mode": mode})
    for outcome in load(connector, settings).values():
        assert outcome.failure is None, outcome.failure
    assert query(settings, f"SELECT x, x__v_text FROM shop.t_{mode} ORDER BY id") == [
        (7, None),
        (None, "007"),
    ]
    columns = f"_t_{mode}_x, _t_{mode}_x__v_text"
    assert query(settings, f"SELECT {columns} FROM shop.lines ORDER BY 1 NULLS LAST") == [
        (7, None),
        (None, "007"),
    ]
