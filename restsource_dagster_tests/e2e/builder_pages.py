"""What a person clicks in the builder, from a pasted line to a saved file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page, WebSocket

__all__ = ["SECRET", "paste", "received_by_the_page", "take_guess"]

SECRET = "s3cr3t-of-the-web-shop"


@contextmanager
def received_by_the_page(page: "Page") -> Iterator[list[str]]:
    """All that the server sends to the page over its WebSockets while this is open."""
    frames: list[str] = []

    def note(frame: str | bytes) -> None:
        frames.append(frame if isinstance(frame, str) else frame.decode("utf-8", "replace"))

    def watch(socket: "WebSocket") -> None:
        socket.on("framereceived", note)

    page.on("websocket", watch)
    try:
        yield frames
    finally:
        page.remove_listener("websocket", watch)


def paste(page: "Page", text: str, name: str) -> None:
    """Make a new file of what is pasted, and wait until it is open."""
    page.get_by_role("button", name="New", exact=True).click()
    page.get_by_role("tab", name="Paste").click()
    page.locator("textarea").fill(text)
    page.get_by_role("button", name="Read it").click()
    page.get_by_label("Name of the connector").fill(name)
    page.get_by_role("button", name="Make the file").click()
    page.get_by_text(f"{name}.json").wait_for()


def take_guess(page: "Page", place: str) -> None:
    """Take the first guess for a place of the file."""
    card = page.locator(".card", has=page.get_by_text(place, exact=True)).first
    card.get_by_role("button", name="Take it").click()
    card.get_by_text("in the file").wait_for()
