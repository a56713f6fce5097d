"""The editor in a real browser: it completes, marks, corrects, and never overwrites another's work."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from restsource_dagster_tests.authoring.builder.builder_process import run_builder
from restsource_dagster_tests.e2e.browser import CHROMIUM, open_page
from restsource_dagster_tests.e2e.builder_pages import SECRET, received_by_the_page
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

if TYPE_CHECKING:
    from playwright.sync_api import Page

# looked for, not imported: each process that collects the tests would import it
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_spec("nicegui") is None, reason="the extra `builder` is not installed"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="Playwright is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]

VALUE = {
    "schedule": {"mode": "manual"},
    "client": {"base_url": "https://api.example.com", "auth": {"token": "${SHOP_TOKEN}"}},
    "resources": ["orders"],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "shop.json"
    path.write_text(json.dumps(VALUE, indent=2))
    return path


@pytest.fixture
def page(file: Path, tmp_path: Path) -> "Iterator[Page]":
    with run_builder(tmp_path) as builder, open_page(builder.origin) as opened:
        opened.goto(builder.address)
        # the list is drawn anew once, when its files are read
        opened.locator(".listed .good").wait_for()
        opened.get_by_role("link", name=file.stem).click()
        opened.get_by_text("No problems").wait_for()
        # what the schema knows has reached the editor
        opened.wait_for_function("window.editorsWithHelp > 0")
        yield opened


def test_one_types_completes_corrects_saves_and_overwrites_nobody(page: "Page", file: Path) -> None:
    from playwright.sync_api import expect

    page.locator(".cm-content").click()
    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.type('"own')
    page.get_by_role("option", name="owners").click()
    page.keyboard.press("ArrowRight")
    # fast, while the problems of each moment arrive: nothing that is typed may get lost
    page.keyboard.type(', "descripton": "one two three four five six seven eight nine ten",')
    page.get_by_text("There is no field `descripton` here").wait_for()
    # those of the last moment: a button that is drawn anew while it is clicked does nothing
    expect(page.locator(".problem")).to_have_count(1)
    page.get_by_role("button", name="Fix", exact=True).click()
    page.get_by_text("No problems").wait_for()

    theirs = json.dumps({**VALUE, "description": "theirs"})
    file.write_text(theirs)
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The file was changed by somebody else").wait_for()
    assert file.read_text() == theirs
    page.get_by_role("button", name="Show the difference").click()
    page.get_by_text("theirs").first.wait_for()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Keep mine").click()
    page.get_by_text("saved", exact=True).wait_for()
    saved = json.loads(file.read_text())
    expected = "one two three four five six seven eight nine ten"
    assert (saved["owners"], saved["description"]) == ([], expected)

    page.get_by_text("SHOP_TOKEN has no value").wait_for()
    page.get_by_placeholder("its value").fill("s3cr3t")
    page.get_by_role("button", name="Write into .env").click()
    page.get_by_text("SHOP_TOKEN has no value").wait_for(state="detached")
    assert (file.parent.parent / ".env").read_text() == "SHOP_TOKEN=s3cr3t\n"


def test_the_list_is_drawn_anew_only_if_it_changes(page: "Page", file: Path) -> None:
    link = page.locator(".listed")
    link.evaluate("one => one.setAttribute('data-seen', '')")
    read = page.evaluate("performance.now()")
    # longer than the list waits until it reads the files again
    page.wait_for_function(f"performance.now() > {read} + 11000")
    assert page.locator("[data-seen]").count() == 1
    file.with_name("crm.json").write_text(file.read_text())
    page.get_by_role("link", name="crm").wait_for()
    assert page.locator("[data-seen]").count() == 0


def test_a_secret_outlives_a_mistake_in_another_field(page: "Page", file: Path) -> None:
    def orders(seen: Seen) -> Answer:
        is_known = seen.headers.get("authorization") == f"Bearer {SECRET}"
        return Answer({"data": [{"id": 1}]} if is_known else {}, status=200 if is_known else 401)

    with (
        ApiServer({"/orders": orders}) as api,
        ApiServer({"/orders": orders}) as other,
        received_by_the_page(page) as frames,
    ):
        page.get_by_role("button", name="New", exact=True).click()
        page.get_by_label("Name of the connector").fill("store")
        page.get_by_label("URL", exact=True).fill(f"{api.url}/orders")
        body = page.get_by_label("Body, if the list is asked by POST")
        body.fill('{"page": ')
        page.get_by_text("no login").click()
        page.get_by_role("option", name="bearer token").click()
        page.get_by_label("Secret").fill(SECRET)
        page.get_by_role("button", name="Ask the API").click()
        page.get_by_text("kept as typed; type here to replace it").wait_for()
        assert page.get_by_label("Secret").input_value() == ""
        # it goes to no other host than the one that it was typed for
        body.fill("")
        page.get_by_label("URL", exact=True).fill(f"{other.url}/orders")
        page.get_by_role("button", name="Ask the API").click()
        page.get_by_text("Nothing is written").wait_for()
        assert not [seen for seen in other.seen if SECRET in str(seen.headers)]
        page.get_by_label("URL", exact=True).fill(f"{api.url}/orders")
        body.fill('{"page": ')
        page.get_by_label("Secret").fill(SECRET)
        page.get_by_role("button", name="Ask the API").click()
        page.get_by_text("kept as typed; type here to replace it").wait_for()
        body.fill("")
        page.get_by_role("button", name="Ask the API").click()
        page.get_by_text("store.json").wait_for()
    assert not [frame for frame in frames if SECRET in frame]
    assert (file.parent.parent / ".env").read_text() == f"STORE_TOKEN={SECRET}\n"
