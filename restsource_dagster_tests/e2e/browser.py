"""A real browser that looks at Dagster's UI, and pictures of what it sees."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from restsource_dagster_tests.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["CHROMIUM", "open_page", "take_picture"]

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
WIDTH, HEIGHT = 1440, 900

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def open_page(address: str) -> Iterator["Page"]:
    """A page of a fresh browser; paths are relative to `address`.

    Look at it through `expect`, which looks again until what it expects is drawn.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            context = browser.new_context(
                base_url=address, viewport={"width": WIDTH, "height": HEIGHT}
            )
            context.set_default_timeout(PATIENCE_SECONDS * 1000)
            context.set_default_navigation_timeout(PATIENCE_SECONDS * 1000)
            yield context.new_page()
        finally:
            browser.close()


def take_picture(page: "Page", name: str, *, for_documents: bool = False) -> Path:
    """A picture of the page in `artifacts/`, once nothing on it is loading any more.

    A picture `for_documents` is renewed in `docs/images/` too if `RESTSOURCE_SCREENSHOTS` is set.
    """
    loading = page.get_by_text("Loading", exact=False)
    loading.first.wait_for(state="detached")
    page.evaluate("document.fonts.ready")
    path = ROOT / "artifacts" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    page.screenshot(path=path, animations="disabled")
    if for_documents and os.environ.get("RESTSOURCE_SCREENSHOTS"):
        shutil.copyfile(path, ROOT / "docs" / "images" / path.name)
    return path
