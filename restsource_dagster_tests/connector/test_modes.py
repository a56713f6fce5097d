"""How rows are written is ours to say: dlt is handed a file without it."""

from restsource_dagster_tests.connector.helpers import from_corpus


def test_columnar_keeps_nested_values_as_json_unless_told_otherwise() -> None:
    resources = {resource.name: resource for resource in from_corpus("modes").resources}

    assert [(r.mode, r.max_table_nesting) for r in resources.values()] == [
        ("columnar", 0),
        ("columnar", None),
        ("rows", 0),
        ("auto", 1),
    ]


def test_they_are_no_hints_for_dlt() -> None:
    hints = {r.name: r.hints.as_json() for r in from_corpus("modes").resources}

    assert hints == {
        "customers": {},
        "orders": {},
        "events": {},
        "logs": {"max_table_nesting": 1},
    }
