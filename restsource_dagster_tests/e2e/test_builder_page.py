"""The builder that `make run` starts, in a browser: from a pasted line to an asset with its rows."""

import json
from typing import TYPE_CHECKING

import pytest

from restsource_dagster_tests.e2e.browser import take_picture
from restsource_dagster_tests.e2e.builder_pages import (
    SECRET,
    paste,
    received_by_the_page,
    take_guess,
)
from restsource_dagster_tests.e2e.project import LiveProject
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

ORDERS = [
    {
        "id": number,
        "customer": f"Customer {number % 4}",
        "total": 12.5 * number,
        "updated_at": f"2026-03-{number:02d}T10:00:00Z",
        "lines": [{"sku": "A-1", "pieces": number}],
    }
    for number in range(1, 25)
]


def orders(seen: Seen) -> Answer:
    if seen.headers.get("authorization") != f"Bearer {SECRET}":
        return Answer({"error": "who are you?"}, status=401)
    page = int(seen.query.get("page", 1))
    following = f"/v2/orders?page={page + 1}" if page * 10 < len(ORDERS) else None
    return Answer({"orders": ORDERS[(page - 1) * 10 : page * 10], "links": {"next": following}})


def test_a_pasted_line_becomes_an_asset_with_three_guesses_taken(
    project: LiveProject, page: "Page", shop_api: ApiServer
) -> None:
    from playwright.sync_api import expect

    shop_api.answers["/v2/orders"] = orders
    with received_by_the_page(page) as frames:
        page.goto(project.builder)
        line = f"curl '{shop_api.url}/v2/orders' -H 'Authorization: Bearer {SECRET}'"
        paste(page, line, "webshop")
        expect(page.get_by_text("No problems")).to_be_visible()
        preview = page.get_by_role("button", name="Preview")
        preview.click()
        page.get_by_text("Nothing was loaded.").wait_for()
        page.get_by_role("tab", name="Guesses").click()
        for place in ("endpoint.data_selector", "endpoint.paginator", "primary_key"):
            take_guess(page, place)
        preview.click()
        page.get_by_role("tab", name="Rows").click()
        page.get_by_text("written by merge").wait_for()
        page.get_by_text("proved: the second page was asked for").wait_for()
        expect(preview).to_be_visible()
        expect(page.get_by_text("Customer 3").first).to_be_visible()
        page.mouse.move(700, 450)
        take_picture(page, "builder", for_documents=True)
        page.get_by_role("tab", name="Answer").click()
        page.get_by_text('next: "/v2/orders?page=2"').click()
        page.get_by_text("This is the link to the next page").wait_for()
        take_picture(page, "builder_answer", for_documents=True)
        # what a list has beyond the first five items is a click away
        page.get_by_text("more: click to see them").first.click()
        page.get_by_text("6  {", exact=False).first.wait_for()
        # what is typed outlives a reload
        page.reload()
        page.get_by_text("not saved").wait_for()
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved. Dagster has it in some seconds:").wait_for()
    assert frames
    assert not [frame for frame in frames if SECRET in frame]

    value = json.loads((project.folder / "configs" / "webshop.json").read_text())
    assert value["resources"][0]["primary_key"] == "id"
    assert SECRET not in json.dumps(value)
    assert f"WEBSHOP_TOKEN={SECRET}" in (project.folder / ".env").read_text()
    assert project.dagster.wait_for_first_run("webshop").status == "SUCCESS"
    assert project.count("webshop.orders") == len(ORDERS)
    asset = project.dagster.asset("webshop/orders")
    assert asset.latest["rows_loaded"] == len(ORDERS)
    address = project.builder.partition("/?")[0]
    assert asset.metadata["builder"] == f"{address}/open/webshop"
