"""Grades: files for which the right verdict is known, each attack with one that survives and one that falls."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.grading.attacks import ATTACKS
from restsource_dagster.authoring.grading.grade import Grade, GradedResource, grade
from restsource_dagster.authoring.grading.twin_rows import CannotModelError, twin_cursor
from restsource_dagster.connector.loader import load_text
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.incremental_cursor import Incremental

PAGES = {"type": "page_number", "total_path": None}
OFFSET = {"type": "offset", "limit": 100}
CURSOR = {"type": "cursor", "cursor_path": "meta.next"}
LINK = {"type": "json_link", "next_url_path": "links.next"}
HEADER = {"type": "header_link"}


def resource(name: str, paginator: Any, **changes: Any) -> dict[str, Any]:
    """A resource with a text and a number; `cursor` has the fields of its cursor."""
    cursor = changes.pop("cursor", None)
    endpoint: dict[str, Any] = {
        "path": f"v2/{name}",
        "data_selector": "data",
        "paginator": paginator,
        **changes.pop("endpoint", {}),
    }
    if cursor is not None:
        endpoint["params"] = {"since": "{incremental.start_value}"}
        endpoint["incremental"] = {
            "cursor_path": "at",
            "initial_value": "2020-01-01T00:00:00Z",
            **cursor,
        }
    columns = {"name": {"data_type": "text"}, "size": {"data_type": "bigint"}}
    return {"name": name, "columns": columns, "endpoint": endpoint, **changes}


def connector(*resources: Mapping[str, Any], **client: Any) -> Connector:
    """A connector of these resources, with a token that has no value."""
    auth = {"type": "bearer", "token": "${SHOP_TOKEN}"}
    value = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": "https://${SHOP_HOST}/v1", "auth": auth, **client},
        "resources": list(resources),
    }
    loaded = load_text(json.dumps(value), Path("shop.json"))
    assert loaded.connector is not None, [problem.as_text() for problem in loaded.problems]
    return loaded.connector


def graded(made: Grade) -> Mapping[str, Mapping[str, str]]:
    """The verdicts by resource and attack."""
    return {one.name: verdicts(one) for one in made.resources}


def verdicts(one: GradedResource) -> Mapping[str, str]:
    """The verdicts of a resource by attack."""
    assert one.not_modelled is None, one.not_modelled
    return {each.attack: each.in_words for each in one.attacks}


def test_a_key_survives_what_pages_and_ties_do_but_no_late_row() -> None:
    orders = resource("orders", PAGES, primary_key="id", cursor={})
    # the example of docs/grade.md has the verdicts of the others
    others = {"insert", "rate_limit", "tie"}
    made = grade(connector(orders), None, attacks=ATTACKS.keys() - others, seconds=300)
    assert graded(made) == {
        "orders": {
            "page_twice": "failed loudly",
            "delete": "lost 1",
            "stuck": "failed loudly",
            "server_error": "survived",
            "cut": "survived",
            "kill": "survived",
            "late": "lost 1",
            "change": "survived",
        }
    }
    assert not made.is_fine
    helps = {one.attack: one.helps for one in made.resources[0].attacks if one.helps}
    assert helps["late"].startswith("`incremental.lag`")
    assert "a paginator whose next page is named by a cursor" in helps["delete"]


def test_a_file_that_takes_errors_for_answers_loses_rows() -> None:
    actions = [{"status_code": status, "action": "ignore"} for status in (429, 500)]
    log = resource(
        "log",
        {**PAGES, "stop_when_repeated": True},
        cursor={},
        write_disposition="append",
        endpoint={"response_actions": actions},
    )
    attacks = ["page_twice", "insert", "stuck", "rate_limit", "server_error", "change"]
    made = grade(connector(log), None, attacks=attacks, seconds=300)
    found = verdicts(made.resources[0])
    assert {name: text.partition(" ")[0] for name, text in found.items()} == {
        "page_twice": "lost",
        "insert": "doubled",
        "stuck": "lost",
        "rate_limit": "lost",
        "server_error": "lost",
        "change": "doubled",
    }
    helps = {one.attack: str(one.helps) for one in made.resources[0].attacks}
    assert "response_actions" in helps["rate_limit"]
    assert "stop_when_repeated" in helps["stuck"]
    assert "primary_key" in helps["insert"]


def test_the_options_that_help_do() -> None:
    made = grade(
        connector(
            resource("lagging", CURSOR, primary_key="id", cursor={"lag": 3600}),
            resource("open_end", HEADER, primary_key="id", cursor={"range_start": "open"}),
        ),
        None,
        attacks=["late", "change", "tie"],
        seconds=300,
    )
    assert graded(made) == {
        "lagging": {"late": "survived", "change": "survived", "tie": "survived"},
        "open_end": {"late": "lost 1", "change": "stale 1", "tie": "lost 1"},
    }
    helps = {one.attack: str(one.helps) for one in made.resources[1].attacks}
    assert helps["tie"].startswith("`incremental.range_start`: `closed`")
    whole = resource("whole", OFFSET, write_disposition="replace")
    newest_first = resource("linked", LINK, primary_key="id", cursor={"row_order": "desc"})
    made = grade(connector(whole, newest_first), None, attacks=["delete"], seconds=300)
    assert graded(made) == {"whole": {"delete": "survived"}, "linked": {"delete": "lost 1"}}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"initial_value": "2024-01-01"}, "2026-11-05"),
        ({"initial_value": "2024-01-01T00:00:00Z"}, "2026-11-05T12:00:00Z"),
        ({"initial_value": "2024-01-01T00:00:00.000+02:00"}, "2026-11-05T12:00:00Z"),
        ({"initial_value": 1_700_000_000}, "2026-11-05T12:00:00+00:00"),
        ({"initial_value": 1_700_000_000_000}, "2026-11-05T12:00:00+00:00"),
        ({"initial_value": "01.02.2024", "cursor_format": "%d.%m.%Y"}, "2026-11-05"),
        ({"initial_value": 0}, "17"),
        ({"initial_value": "17"}, "17"),
        ({}, "2026-11-05T12:00:00Z"),
    ],
)
def test_cursors_of_all_forms_have_an_order(given: Mapping[str, Any], sent: str) -> None:
    cursor = Incremental.of({"cursor_path": "at", **given}).in_standard_form()
    twin = twin_cursor(cursor, None, datetime(2026, 11, 28, 10, 30, tzinfo=UTC))
    keys = [twin.key(at) for at in range(0, 30, 3)]
    assert keys == sorted(set(keys))
    assert len({twin.write(at) for at in range(30)}) == 30
    assert twin.read(sent) is not None
    assert type(twin.read(sent)) is type(keys[0])


def test_a_cursor_without_an_order_is_not_modelled() -> None:
    cursor = Incremental.of({"cursor_path": "at", "initial_value": "abc"})
    with pytest.raises(CannotModelError, match="neither a time nor a number"):
        twin_cursor(cursor, None, datetime.now(UTC))


def test_a_counter_and_dates_in_a_format_are_filtered() -> None:
    counted = resource(
        "counted",
        CURSOR,
        primary_key="id",
        cursor={"cursor_path": "id", "initial_value": 0, "start_param": "since"},
    )
    counted["endpoint"]["params"] = {}
    dated = {"initial_value": "01.02.2024 10:00", "cursor_format": "%d.%m.%Y %H:%M"}
    made = grade(
        connector(counted, resource("dated", CURSOR, primary_key="id", cursor=dated)),
        None,
        attacks=["late"],
        seconds=300,
    )
    assert graded(made) == {"counted": {"late": "lost 1"}, "dated": {"late": "lost 1"}}


def test_the_last_row_can_ask_for_the_next_page() -> None:
    paginator = {
        "type": "cursor",
        "cursor_path": "data[-1].id",
        "cursor_param": "starting_after",
        "has_more_path": "has_more",
    }
    charges = resource("charges", paginator, primary_key="id", cursor={})
    made = grade(connector(charges), None, attacks=["delete"], seconds=300)
    assert graded(made) == {"charges": {"delete": "survived"}}
    charges.pop("primary_key")
    made = grade(connector(charges), None, attacks=["delete"], seconds=300)
    assert "`id` of the last row" in str(made.resources[0].not_modelled)


def test_lists_below_a_parent_are_graded_with_it() -> None:
    orders = resource("orders", PAGES, primary_key="number", cursor={})
    # a key with a column of the parent
    lines = resource("lines", CURSOR, primary_key=["id", "_orders_number"])
    # what stands beside the parent's number may look like one
    lines["endpoint"]["path"] = "api/3/orders/{resources.orders.number}/lines"
    lines["include_from_parent"] = ["number"]
    # two levels below, named in a param
    notes = resource("notes", PAGES, primary_key="id")
    notes["endpoint"]["params"] = {"level": "1", "line": "{resources.lines.id}"}
    whole = resource("whole", OFFSET, primary_key="code")
    parts = resource("parts", LINK, primary_key="id")
    parts["endpoint"]["path"] = "whole/{resources.whole.code}/parts"
    made = grade(
        connector(orders, lines, notes, whole, parts),
        None,
        resources=["lines", "notes", "parts"],
        attacks=["change"],
        seconds=300,
    )
    # only the lines of orders that have changed are asked for
    assert graded(made) == {
        "lines": {"change": "stale 1"},
        "notes": {"change": "stale 1"},
        "parts": {"change": "survived"},
    }
    assert [str(one.attacks[0].helps)[:34] for one in made.resources[:2]] == [
        "leave `incremental` of `orders` ou",
        "leave `incremental` of `orders` ou",
    ]


def test_what_the_twin_cannot_be_is_named() -> None:
    made = grade(
        connector(
            resource("orders", PAGES, primary_key="id"),
            {"name": "lines", "endpoint": {"path": "orders/o-{resources.orders.id}/lines"}},
            resource("search", PAGES, endpoint={"method": "POST", "json": {"q": "*"}}),
            resource("guessed", None),
            resource("steps", PAGES, processing_steps=[{"map": "{id: .name}"}]),
            auth={
                "type": "oauth2_client_credentials",
                "access_token_url": "https://login.example.com/token",
                "client_id": "a",
                "client_secret": "${SHOP_SECRET}",
            },
        ),
        None,
        attacks=["cut"],
        seconds=300,
    )
    assert made.not_modelled == ("the login `oauth2_client_credentials`: the twin asks for none",)
    reasons = {one.name: str(one.not_modelled) for one in made.resources if one.not_modelled}
    assert "a field of its parent that is a part of a text" in reasons["lines"]
    assert "a request with a body" in reasons["search"]
    assert "name it in the file" in reasons["guessed"]
    assert "leave out what rows are known by" in reasons["steps"]
    assert made.resources[0].attacks[0].verdict == "survived"


def test_when_the_time_is_up_nothing_passes_silently() -> None:
    made = grade(connector(resource("orders", PAGES, primary_key="id")), None, seconds=0)
    assert made.ended == "the time is up (0 s)"
    assert {one.verdict for one in made.resources[0].attacks} <= {"not tried", "does not apply"}


def test_all_attacks_have_a_name_and_a_text() -> None:
    assert len(ATTACKS) == 11
    assert all(attack.text for attack in ATTACKS.values())
