"""`rename_from`: fields that the API gives by codes are named by the rows of another resource."""

import json
from typing import Any

import pytest

from restsource_dagster.engine.run_progress import Observer
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.watching import Notes
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

CODES = [letter * 40 for letter in "abcde"]
A, B, C, D, E = CODES


def fields(**labels: str) -> list[Any]:
    """The rows of the fields: their labels by the first letter of the code."""
    return [
        {"field_code": "title", "field_name": "Deal title"},
        *({"field_code": code * 40, "field_name": label} for code, label in labels.items()),
    ]


def connector_of(api: ApiServer, mode: str, **rename: Any) -> Any:
    rename = {"resource": "deal_fields", "from": "field_code", "to": "field_name", **rename}
    deals = {
        "name": "deals",
        "primary_key": "id",
        "mode": mode,
        "nested": "tables",
        "rename_from": rename,
        "endpoint": {"path": "deals", "paginator": "single_page"},
    }
    # after the deals, and all the same read first
    listed = {"name": "deal_fields", "endpoint": {"path": "fields", "paginator": "single_page"}}
    return make_connector(api.url, deals, listed)


def columns(settings: Settings, table: str = "deals") -> set[str]:
    rows = query(
        settings, f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"
    )
    return {name for (name,) in rows if not name.startswith("_dlt")}


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_fields_have_their_labels_as_names_and_keep_them(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    connector = connector_of(api, mode, at="custom")
    api.answers["/fields"] = fields(a="Region (EU)", b="region eu", c="Budget", d="Tags")
    values = {A: "north", B: "south", C: {"value": 5, "currency": "EUR"}, D: ["x"], E: "no label"}
    api.answers["/deals"] = [{"id": 1, "title": "one", "custom": values}]
    load(connector, settings)
    assert columns(settings) == {
        *("id", "title", "custom__region_eu", "custom__region_eu_bbbbbbbb"),
        *("custom__budget__value", "custom__budget__currency", f"custom__{E}"),
    }
    assert columns(settings, "deals__custom__tags") == {"value"}
    # a label changes, another field takes it, and one with no label gets one
    api.answers["/fields"] = fields(
        e="Late", a="Area", b="region eu", c="Budget", d="Tags", f="Region (EU)"
    )
    api.answers["/deals"] = [{"id": 2, "title": "two", "custom": {A: "w", "f" * 40: "new"}}]
    notes = Notes()
    observer: Observer = notes
    load(connector, settings, observer=observer)
    assert query(
        settings,
        "SELECT custom__region_eu, custom__region_eu_ffffffff FROM shop.deals WHERE id = 2",
    ) == [("w", "new")]
    assert any("is called 'Area' now; its column stays region_eu" in one for one in notes.messages)


def test_a_label_with_the_name_of_another_field_gets_the_code(
    api: ApiServer, settings: Settings
) -> None:
    connector = connector_of(api, "auto", match="[a-f]{40}")
    api.answers["/fields"] = fields(a="Title", b="Stage")
    api.answers["/deals"] = [{"id": 1, "title": "one", A: "mine", B: 3}]
    load(connector, settings, resources=["deals"])
    assert query(settings, "SELECT id, title, title_aaaaaaaa, stage FROM shop.deals") == [
        (1, "one", "mine", 3)
    ]
    assert len(api.asked("/fields")) == 1


def test_a_list_without_the_named_fields_fails_the_resource(
    api: ApiServer, settings: Settings
) -> None:
    connector = connector_of(api, "auto")
    api.answers["/fields"] = [{"key": A, "name": "Region"}]
    api.answers["/deals"] = [{"id": 1, A: "north"}]
    outcomes = load(connector, settings)
    assert outcomes["deals"].failed
    assert "no row of deal_fields has the fields `field_code`" in json.dumps(
        outcomes["deals"].failure and outcomes["deals"].failure.message
    )
    assert not outcomes["deal_fields"].failed
