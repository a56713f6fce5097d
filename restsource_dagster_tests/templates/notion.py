"""A small Notion: data sources with rows, pages with blocks, users, and the trash.

As in https://developers.notion.com/reference/query-a-data-source: queries and searches are sent by POST and page by
`start_cursor`, times of edits are whole minutes, and what is in the trash is found by a search for it only.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import TOKEN, Record, StandIn, body_of

__all__ = ["Notion"]

_GET = {"page_size", "start_cursor"}


class Notion(StandIn):
    """The server's truth, by id."""

    template = "notion"
    inputs: ClassVar[Mapping[str, Any]] = {"token": TOKEN, "requests_per_second": 10_000}
    base_path = "/v1"
    headers: ClassVar[Mapping[str, str]] = {"notion-version": "2026-03-11"}
    unauthorized = Answer({"object": "error", "status": 401, "code": "unauthorized"}, 401)
    too_many = Answer({"object": "error", "code": "rate_limited"}, 429, {"Retry-After": "0"})
    bad_request = Answer({"object": "error", "code": "validation_error"}, 400)
    expired_cursor = Answer({"object": "error", "code": "validation_error"}, 400)

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.sources = ["source-1", "source-2"]
        self.pages: dict[str, Record] = {}
        """All pages; those with a `source` are rows of a data source."""
        self.blocks: dict[str, dict[str, Record]] = {}
        """By page."""
        self.users = [{"object": "user", "id": f"user-{number}"} for number in range(9)]
        self.serve("/search", self._search)
        for source in self.sources:
            self.serve(f"/data_sources/{source}/query", partial(self._query, source))
        self.serve("/users", lambda seen: self._page(self.users, seen.query), _GET)
        sources = [(source,) for source in self.sources]
        self.expect("data_sources", "id", lambda: sources)
        self.expect("rows", "id, _data_sources_id, properties ->> 'name'", self._row_rows)
        # the blocks of drafts are not compared: those in the trash may or may not have been loaded
        blocks = "blocks WHERE starts_with(_pages_id, 'page')"
        self.expect(blocks, "id, _pages_id", self._block_rows)
        self.expect("users", "id", lambda: [(one["id"],) for one in self.users])

    def change_one(self) -> None:
        """Create or edit a page and its blocks, or move one to the trash."""
        living = [key for key, one in self.pages.items() if not one["in_trash"]]
        kind = self.random.random()
        drafts = [key for key in living if key.startswith("draft")]
        if drafts and kind < 0.15:
            self.pages[self.random.choice(drafts)]["in_trash"] = True
            return
        new = f"{self.random.choice(['page', 'draft'])}-{self.new_id()}"
        key = self.random.choice(living) if living and kind < 0.5 else new
        source = self.random.choice([*self.sources, None])
        page = self.pages.setdefault(key, {"object": "page", "id": key, "source": source})
        edited = self.now.strftime("%Y-%m-%dT%H:%M:00.000Z")
        page |= {"last_edited_time": edited, "in_trash": False}
        page["properties"] = {"name": self.text()}
        blocks = self.blocks.setdefault(key, {})
        if blocks and kind < 0.3:
            del blocks[self.random.choice(list(blocks))]
        else:
            block = f"block-{self.new_id()}"
            blocks[block] = {"object": "block", "id": block}
        self.serve(f"/blocks/{key}/children", partial(self._children, key), _GET)

    def _row_rows(self) -> Iterable[tuple[Any, ...]]:
        for key, one in self.pages.items():
            if one["source"] and not one["in_trash"]:
                yield key, one["source"], one["properties"]["name"]

    def _block_rows(self) -> Iterable[tuple[Any, ...]]:
        for key, blocks in self.blocks.items():
            if key.startswith("page"):
                yield from ((block, key) for block in blocks)

    def _shown(self, page: Record) -> Record:
        return {name: value for name, value in page.items() if name != "source"}

    def _query(self, source: str, seen: Seen) -> Answer:
        body = body_of(seen)
        since = body["filter"]["last_edited_time"]["on_or_after"]
        if body["sorts"] != [{"timestamp": "last_edited_time", "direction": "ascending"}]:
            return self.bad_request
        found = [
            one
            for one in self.pages.values()
            if one["source"] == source and not one["in_trash"] and one["last_edited_time"] >= since
        ]
        return self._page(map(self._shown, sorted(found, key=_edited)), body)

    def _search(self, seen: Seen) -> Answer:
        body = body_of(seen)
        if body["filter"]["value"] == "data_source":
            return self._page([{"object": "data_source", "id": key} for key in self.sources], body)
        is_trash = body["filter"].get("in_trash", False)
        found = [one for one in self.pages.values() if one["in_trash"] == is_trash]
        found.sort(key=_edited, reverse=body["sort"]["direction"] == "descending")
        return self._page(map(self._shown, found), body)

    def _children(self, page: str, seen: Seen) -> Answer:
        if self.pages[page]["in_trash"]:
            return Answer({"object": "error", "code": "object_not_found"}, 404)
        return self._page(self.blocks[page].values(), seen.query)

    def _page(self, records: Iterable[Record], asked: Mapping[str, Any]) -> Answer:
        page = self.by_cursor(records, asked.get("start_cursor"))
        if page is None or int(asked["page_size"]) > 100:
            return self.expired_cursor or self.bad_request
        shown, following = page
        more = {"next_cursor": following, "has_more": following is not None}
        return Answer({"object": "list", "results": shown, **more})


def _edited(page: Record) -> str:
    return str(page["last_edited_time"])
