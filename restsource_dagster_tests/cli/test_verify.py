"""`restsource verify`: the keys in the tables against those that the API lists."""

import json
from typing import Any

from restsource_dagster_tests.cli.project import Project
from restsource_dagster_tests.cli.runner import invoke
from restsource_dagster_tests.servers.api import Answer, Seen


def rows(*numbers: int) -> dict[str, Any]:
    return {"data": [{"id": n, "updated_at": f"2026-11-0{n}T00:00:00Z"} for n in numbers]}


def orders(seen: Seen, *numbers: int) -> Any:
    """Two on a page, from a cursor on, with a total."""
    page = int(seen.query.get("page", 1))
    wanted = [n for n in numbers if f"2026-11-0{n}" >= seen.query["since"][:10]]
    return {**rows(*wanted[2 * page - 2 : 2 * page]), "total": len(wanted)}


def write(shop: Project) -> None:
    cursor = {"cursor_path": "updated_at", "initial_value": "2026-01-01", "start_param": "since"}
    pages = {"type": "page_number", "base_page": 1, "total_path": None}
    single = {"paginator": "single_page"}
    shop.write_connector(
        {
            "name": "orders",
            "primary_key": "id",
            "processing_steps": [{"filter": ".id != 4"}],
            "endpoint": {"path": "orders", "paginator": pages, "incremental": cursor},
        },
        {"name": "marked", "primary_key": "id", "endpoint": {**single, "path": "marked"}},
        {"name": "countries", "endpoint": {**single, "path": "countries"}},
        {"name": "times", "primary_key": "updated_at", "endpoint": {**single, "path": "marked"}},
    )


def test_missing_keys_and_those_that_the_api_no_longer_has_are_named(shop: Project) -> None:
    """All pages are asked for from the first row on, and what the steps leave out is not missing."""
    write(shop)
    shop.api.answers["/orders"] = lambda seen: orders(seen, 1, 2, 3, 4, 5)
    shop.api.answers["/marked"] = rows(1, 2)
    assert invoke("run", "shop").exit_code == 0
    equal = invoke("verify", "shop", "orders", "marked")
    assert equal.stdout.splitlines() == [
        "orders: equal (table 4, API lists 4, states 5)",
        "marked: equal (table 2, API lists 2)",
    ]
    assert equal.exit_code == 0
    shop.api.answers["/orders"] = lambda seen: orders(seen, 1, 3, 4, 5, 6, 7)
    different = invoke("verify", "shop", "orders")
    assert different.stdout.splitlines() == [
        "orders: 2 missing, 1 too many (table 4, API lists 5, states 6)",
        "  missing: 6, 7",
        "  too many: 2",
    ]
    assert different.exit_code == 1
    found = json.loads(invoke("verify", "shop", "orders", "--json").stdout)
    assert [(one["resource"], one["missing_keys"], one["extra_keys"]) for one in found] == [
        ("orders", [["6"], ["7"]], [["2"]])
    ]
    # nothing is written, and no cursor moves
    again = invoke("verify", "shop", "orders")
    assert again.stdout == different.stdout


def test_what_cannot_be_compared_says_why(shop: Project) -> None:
    """An answer that is an error names itself, and is no difference."""
    write(shop)
    shop.api.answers["/orders"] = lambda seen: orders(seen, 1)
    shop.api.answers["/marked"] = rows(1)
    assert invoke("run", "shop").exit_code == 0
    shop.api.answers["/orders"] = Answer({"error": "no"}, 400)
    result = invoke("verify", "shop", "orders", "countries", "times")
    told = result.stdout.splitlines()
    assert "orders: not compared: " in told[0]
    assert "400" in told[0]
    assert told[1] == "countries: not compared: it has no primary key"
    assert "updated_at is timestamp" in told[2]
    assert result.exit_code == 1
