"""A second real API: a key in a header, pages by Link header, a filter of its own."""

from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from restsource_dagster.connector.model import Connector
from restsource_dagster.settings import Settings
from restsource_dagster_tests.e2e.json_server import JSON_SERVER, JsonServer, serve_json
from restsource_dagster_tests.making import load, make_connector, query

pytestmark = pytest.mark.skipif(
    which("node") is None or not JSON_SERVER.is_file(),
    reason="json-server is not installed (`make test` installs it where there is npm)",
)

POSTS = [
    {"id": n, "title": f"Post {n}", "updated": f"2026-03-01T10:{n // 60:02}:{n % 60:02}Z"}
    for n in range(1, 121)
]
LAST = POSTS[-1]["updated"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JsonServer]:
    with serve_json(tmp_path, {"posts": POSTS}) as running:
        yield running


def make_posts(server: JsonServer) -> Connector:
    posts: dict[str, Any] = {
        "name": "posts",
        "primary_key": "id",
        "endpoint": {
            "path": "posts",
            "paginator": "header_link",
            "params": {
                "_sort": "updated",
                "_page": 1,
                "_limit": 50,
                "updated_gte": "{incremental.start_value}",
            },
            "incremental": {"cursor_path": "updated", "initial_value": "2026-01-01T00:00:00Z"},
        },
    }
    key = {"type": "api_key", "name": "X-Api-Key", "api_key": "${KEY}", "location": "header"}
    return make_connector(server.url, posts, client={"auth": key}, name="blog")


def test_pages_are_followed_by_their_link_header(server: JsonServer, settings: Settings) -> None:
    outcome = load(make_posts(server), settings, environment={"KEY": server.key})["posts"]
    assert (outcome.failure, outcome.rows_loaded, outcome.usage.requests) == (None, 120, 3)
    assert [asked["_page"] for asked in server.asked()] == ["1", "2", "3"]
    assert query(settings, "select count(*), max(id) from blog.posts") == [(120, 120)]


def test_the_next_run_asks_only_for_what_changed(server: JsonServer, settings: Settings) -> None:
    connector = make_posts(server)
    load(connector, settings, environment={"KEY": server.key})
    server.send("PATCH", "posts/3", {"title": "Changed", "updated": "2026-03-02T10:00:00Z"})
    server.send("POST", "posts", {"title": "New", "updated": "2026-03-02T11:00:00Z"})

    before = len(server.asked())
    outcome = load(connector, settings, environment={"KEY": server.key})["posts"]

    assert outcome.rows_loaded == 3  # with the last one of before, which is always taken again
    assert [asked["updated_gte"] for asked in server.asked()[before:]] == [LAST]
    changed = "select id, title from blog.posts where title not like 'Post %' order by id"
    assert query(settings, changed) == [(3, "Changed"), (121, "New")]


def test_a_wrong_key_is_said_with_the_api_s_own_words(
    server: JsonServer, settings: Settings
) -> None:
    outcome = load(make_posts(server), settings, environment={"KEY": "not-the-key"})["posts"]
    assert outcome.failure
    assert "401" in outcome.failure.message
    assert "a valid X-Api-Key is required" in outcome.failure.message
    assert "not-the-key" not in outcome.failure.message
    assert server.asked() == []
