"""`restsource forecast`: the requests of a connector, counted against those that a load makes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.forecast import forecast
from restsource_dagster.connector.loader import load_file
from restsource_dagster.engine.preview.preview_limits import PreviewLimits
from restsource_dagster.engine.preview.preview_run import preview
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.settings import Settings
from restsource_dagster_tests.cli.runner import invoke
from restsource_dagster_tests.making import make_settings
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

PAGES: Mapping[str, Any] = {"type": "page_number", "base_page": 1, "total_path": "pages"}
ROWS: list[dict[str, Any]] = [
    {"id": number, "at": f"2026-01-01T00:00:{number:02d}Z"} for number in range(1, 51)
]


def orders(seen: Seen) -> Any:
    rows = [row for row in ROWS if row["at"] >= seen.query.get("since", "")]
    page = int(seen.query["page"])
    body = {
        "data": rows[10 * page - 10 : 10 * page],
        "total": len(rows),
        "pages": -(-len(rows) // 10),
    }
    return Answer(body, headers={"X-RateLimit-Remaining": "4990"})


def shop(path: Path, base_url: str, *resources: Any, **more: Any) -> Path:
    value = {
        "schedule": {"mode": "hours", "interval": 1},
        "client": {"base_url": base_url},
        "resource_defaults": {"primary_key": "id"},
        "resources": list(resources),
        **more,
    }
    path.write_text(json.dumps(value))
    return path


def resource(name: str, path: str, **endpoint: Any) -> Mapping[str, Any]:
    return {
        "name": name,
        "endpoint": {"path": path, "data_selector": "data", "paginator": PAGES, **endpoint},
    }


INCREMENTAL = {
    "params": {"since": "{incremental.start_value}"},
    "incremental": {"cursor_path": "at", "initial_value": "2026-01-01T00:00:00Z"},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


def test_requests_are_those_that_loads_make(
    api: ApiServer, settings: Settings, tmp_path: Path
) -> None:
    api.answers["/orders"] = api.answers["/all"] = orders
    for row in ROWS:
        api.answers[f"/orders/{row['id']}/lines"] = {
            "data": [{"id": row["id"]}],
            "total": 1,
            "pages": 1,
        }
    loaded = load_file(
        shop(
            tmp_path / "shop.json",
            api.url,
            resource("orders", "orders", **INCREMENTAL),
            resource("all", "all"),
            resource("lines", "orders/{resources.orders.id}/lines"),
        )
    )
    assert loaded.connector is not None, loaded.problems
    seen = preview(
        loaded.connector, settings=settings, environment={}, limits=PreviewLimits(rows=0)
    )
    made = forecast(loaded.connector, seen)

    api.seen.clear()
    list(ingest(loaded.connector, settings=settings, environment={}))
    assert made.first_load == len(api.seen) == 5 + 5 + 50

    api.seen.clear()
    list(ingest(loaded.connector, settings=settings, environment={}))
    # the row at the cursor is read again, and it is a parent
    assert made.each_run == 1 + 5 + 0 == len(api.seen) - 1
    assert made.each_day == 24 * 6
    unknown = {one.name: one.unknown for one in made.resources}
    assert unknown["lines"] == ("a run asks once more for each row of `orders` that has changed",)
    assert made.told_by_api == {"x-ratelimit-remaining": "4990"}


def test_what_no_answer_tells_is_named_and_not_guessed(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers["/orders"] = lambda seen: {"data": [{"id": int(seen.query["page"])}]}
    pages = {"type": "page_number", "base_page": 1, "total_path": None}
    monkeypatch.chdir(tmp_path)
    limits = {"rate_limits": [{"requests": 10, "per": "60s"}]}
    file = shop(
        tmp_path / "shop.json", api.url, resource("orders", "orders", paginator=pages), http=limits
    )

    made = invoke("forecast", file)

    assert made.exit_code == 0, made.output
    assert "first load  ? requests: orders ?" in made.stdout
    assert "each day    ? requests in 24 runs" in made.stdout
    assert "limit       10 per 60s: a day's runs use an unknown share" in made.stdout
    assert "not known   orders: the API names no total, and the paging did not end" in made.stdout


def test_share_of_a_limit_and_the_time_that_it_takes_are_told(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers["/orders"] = orders
    monkeypatch.chdir(tmp_path)
    limits = {"rate_limits": [{"requests": 2, "per": "60s"}]}
    file = shop(
        tmp_path / "shop.json", api.url, resource("orders", "orders", **INCREMENTAL), http=limits
    )

    made = json.loads(invoke("forecast", file, "--json").stdout)

    (limit,) = made["limits"]
    assert (made["first_load"], made["each_day"]) == (5, 24)
    assert limit["limit"] == "2 per 60s"
    # 24 of the 2,880 requests of a day; three more than the two that go at once, at one in 30 seconds
    assert limit["day_share"] == pytest.approx(24 / 2880)
    assert limit["first_load_seconds"] == pytest.approx(90)


def test_wrong_file_ends_with_an_error(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers["/orders"] = Answer(status=401)
    monkeypatch.chdir(tmp_path)
    made = invoke("forecast", shop(tmp_path / "shop.json", api.url, resource("orders", "orders")))
    assert made.exit_code == 1
    assert "401" in made.output
