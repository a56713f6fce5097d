"""A token in place of a cursor: it is stored with the rows, and the next run sends it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

REFUSED = Answer({"error": "the token has expired"}, 410)
WALL = Answer({"error": "quota"}, 429, {"Retry-After": "3600"})


class Changes:
    """An API that hands out a token with its last page, and sends what changed after a token.

    The history is a list of rows: token `n` has seen the first `n` of them.
    """

    def __init__(self, api: ApiServer, page: int = 2) -> None:
        self.api, self.page = api, page
        self.history = [{"id": number, "name": f"event {number}"} for number in range(5)]
        self.is_expired = False
        self.requests_left = 1_000_000
        api.answers["/events"] = self.answer

    def answer(self, seen: Seen) -> Any:
        self.requests_left -= 1
        if self.requests_left < 0:
            return WALL
        token = seen.query.get("syncToken")
        if token and self.is_expired:
            return REFUSED
        start = int(seen.query.get("pageToken") or token or 0)
        rows = self.history[start : start + self.page]
        end = start + len(rows)
        more = end < len(self.history)
        return {
            "items": rows,
            **({"nextPageToken": str(end)} if more else {"nextSyncToken": str(end)}),
        }

    @property
    def tokens(self) -> list[str | None]:
        """The token of each call, at its first page."""
        asked = self.api.asked("/events")
        return [seen.query.get("syncToken") for seen in asked if "pageToken" not in seen.query]


def events(incremental: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    paginator = {"type": "cursor", "cursor_path": "nextPageToken", "cursor_param": "pageToken"}
    token = {"token_path": "$.nextSyncToken", "token_param": "syncToken", **(incremental or {})}
    endpoint = {"path": "events", "data_selector": "items", "paginator": paginator}
    return {"name": "events", "endpoint": {**endpoint, "incremental": token}, **more}


MERGED: Mapping[str, Any] = {"primary_key": "id"}


def ran(outcomes: dict[str, Outcome], name: str = "events") -> Outcome:
    assert outcomes[name].failure is None, outcomes[name].failure
    return outcomes[name]


def failed(outcomes: dict[str, Outcome], name: str = "events") -> str:
    failure = outcomes[name].failure
    assert failure is not None
    return failure.message


def names(settings: Settings) -> list[str]:
    return [row[0] for row in query(settings, "SELECT name FROM shop.events ORDER BY id, name")]


@pytest.fixture
def changes(api: ApiServer) -> Changes:
    return Changes(api)


@pytest.mark.parametrize("mode", ["auto", "rows"])
def test_a_run_sends_the_token_of_the_last_one(
    changes: Changes, settings: Settings, mode: str
) -> None:
    connector = make_connector(changes.api.url, events(**MERGED, mode=mode))
    first = ran(load(connector, settings))
    assert first.cursor is not None
    assert (first.rows_loaded, first.cursor.start_value, first.cursor.last_value) == (5, None, "5")
    changes.history += [{"id": 1, "name": "changed"}, {"id": 5, "name": "new"}]
    second = ran(load(connector, settings))
    assert second.cursor is not None
    assert (second.cursor.cursor_path, second.cursor.start_value) == ("$.nextSyncToken", "5")
    assert (second.rows_loaded, second.cursor.last_value) == (2, "7")
    # nothing has changed since: an empty page has a token, too
    assert ran(load(connector, settings)).rows_loaded == 0
    assert changes.tokens == [None, "5", "7"]
    assert names(settings) == ["event 0", "changed", "event 2", "event 3", "event 4", "new"]


def test_a_delta_link_is_requested_in_place_of_path_and_params(
    api: ApiServer, settings: Settings
) -> None:
    def answer(seen: Seen) -> Any:
        if seen.query.get("$skiptoken"):
            return {
                "value": [{"id": 2}],
                "@odata.deltaLink": f"{api.url}/delta?$deltatoken={{a}}b%2B",
            }
        if seen.query.get("$deltatoken"):
            assert dict(seen.query) == {"$deltatoken": "{a}b+"}
            return {"value": [{"id": 3}], "@odata.deltaLink": f"{api.url}/delta?$deltatoken=c"}
        assert dict(seen.query) == {"$select": "id"}
        return {"value": [{"id": 1}], "@odata.nextLink": f"{api.url}/delta?$skiptoken=x"}

    api.answers["/delta"] = answer
    endpoint = {
        "path": "delta",
        "params": {"$select": "id"},
        "data_selector": "value",
        "paginator": {"type": "json_link", "next_url_path": "'@odata.nextLink'"},
        "incremental": {"token_path": "'@odata.deltaLink'"},
    }
    connector = make_connector(
        api.url, {"name": "events", "endpoint": endpoint}, http={"max_concurrency": 1}
    )
    ran(load(connector, settings))
    outcome = ran(load(connector, settings))
    assert query(settings, "SELECT id FROM shop.events ORDER BY id") == [(1,), (2,), (3,)]
    assert outcome.cursor is not None
    # what a link holds may be worth hiding
    assert outcome.cursor.last_value == f"{api.url}/delta?..."


def test_a_paging_cursor_is_kept_between_runs(api: ApiServer, settings: Settings) -> None:
    rows = [{"id": number} for number in range(5)]

    def answer(seen: Seen) -> Any:
        assert ("start_time" in seen.query) != ("cursor" in seen.query)
        start = int(seen.query.get("cursor", 0))
        found = rows[start : start + 2]
        end = start + len(found)
        cursor = str(end) if found else None
        return {"tickets": found, "after_cursor": cursor, "end_of_stream": end == len(rows)}

    api.answers["/tickets"] = answer
    endpoint = {
        "path": "tickets",
        "params": {"start_time": 0},
        "data_selector": "tickets",
        "paginator": {
            "type": "cursor",
            "cursor_path": "after_cursor",
            "cursor_param": "cursor",
            "end_path": "end_of_stream",
            "first_page_params": ["start_time"],
        },
        "incremental": {
            "token_path": "after_cursor",
            "token_param": "cursor",
            "first_run_params": ["start_time"],
        },
    }
    connector = make_connector(api.url, {"name": "tickets", "endpoint": endpoint})
    assert ran(load(connector, settings), "tickets").rows_loaded == 5
    # null in an empty answer leaves the token
    assert ran(load(connector, settings), "tickets").rows_loaded == 0
    rows.append({"id": 5})
    assert ran(load(connector, settings), "tickets").rows_loaded == 1
    assert query(settings, "SELECT count(*), count(DISTINCT id) FROM shop.tickets") == [(6, 6)]


def test_the_placeholder_sends_the_token_in_a_body_or_a_header(
    api: ApiServer, settings: Settings
) -> None:
    seen_tokens = []

    def answer(seen: Seen) -> Any:
        seen_tokens.append((seen.body.decode(), seen.headers.get("x-since")))
        return {"rows": [{"id": len(seen_tokens)}], "next": {"token": 7}}

    api.answers["/sync"] = answer
    endpoint = {
        "path": "sync",
        "method": "POST",
        "json": {"since": "{incremental.token}", "kind": "all"},
        "headers": {"X-Since": "{incremental.token}"},
        "data_selector": "rows",
        "paginator": "single_page",
        "incremental": {"token_path": "next.token"},
    }
    connector = make_connector(
        api.url, {"name": "sync", "endpoint": endpoint}, http={"max_concurrency": 1}
    )
    ran(load(connector, settings), "sync")
    ran(load(connector, settings), "sync")
    assert seen_tokens == [('{"kind": "all"}', None), ('{"since": 7, "kind": "all"}', "7")]


@pytest.mark.parametrize("keys", [MERGED, {}], ids=["merge", "append"])
def test_a_refused_token_loads_all_rows_which_replace_those_in_the_table(
    changes: Changes, settings: Settings, keys: Mapping[str, Any]
) -> None:
    connector = make_connector(changes.api.url, events({"reset_on": [410]}, **keys))
    ran(load(connector, settings))
    changes.history = [{"id": number, "name": "later"} for number in range(2, 8)]
    changes.is_expired = True
    outcome = ran(load(connector, settings))
    assert outcome.rows_loaded == 6
    assert query(settings, "SELECT id, name FROM shop.events ORDER BY id") == [
        (number, "later") for number in range(2, 8)
    ]
    changes.is_expired = False
    assert ran(load(connector, settings)).rows_loaded == 0
    assert changes.tokens[-2:] == [None, "6"]


def test_two_changes_of_a_row_in_one_run_are_both_appended(
    changes: Changes, settings: Settings
) -> None:
    changes.history = [{"id": 1, "name": name} for name in ("a", "b", "b")]
    connector = make_connector(
        changes.api.url, events(primary_key="id", write_disposition="append")
    )
    ran(load(connector, settings))
    assert names(settings) == ["a", "b"]


def test_a_status_that_resets_nothing_fails_and_the_token_stays(
    changes: Changes, settings: Settings
) -> None:
    connector = make_connector(changes.api.url, events(**MERGED))
    ran(load(connector, settings))
    changes.is_expired = True
    assert "answered 410" in failed(load(connector, settings))
    changes.is_expired = False
    ran(load(connector, settings))
    assert changes.tokens[-1] == "5"


def test_a_path_without_a_token_fails_and_loads_nothing(
    changes: Changes, settings: Settings
) -> None:
    connector = make_connector(changes.api.url, events({"token_path": "$.syncToken"}))
    assert "no answer has a token at $.syncToken" in failed(load(connector, settings))


def test_rows_without_a_token_are_not_appended(api: ApiServer, settings: Settings) -> None:
    api.answers["/events"] = {"items": [{"id": 1}], "nextSyncToken": None}
    connector = make_connector(api.url, events())
    assert "would append the same rows again" in failed(load(connector, settings))


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("{url}/events?key=s3cret-key-of-the-file", "holds one of the file's secrets"),
        ("next", "is no link"),
    ],
)
def test_a_link_that_can_not_be_stored_fails(
    api: ApiServer, settings: Settings, link: str, problem: str
) -> None:
    link = link.format(url=api.url)
    api.answers["/events"] = {"items": [{"id": 1}], "delta": link}
    endpoint = {"path": "events", "data_selector": "items", "paginator": "single_page"}
    resource = {"name": "events", "endpoint": {**endpoint, "incremental": {"token_path": "delta"}}}
    auth = {"type": "api_key", "name": "key", "location": "query", "api_key": "${KEY}"}
    connector = make_connector(api.url, resource, client={"auth": auth})
    outcome = load(connector, settings, environment={"KEY": "s3cret-key-of-the-file"})
    assert problem in failed(outcome)


def test_a_delta_link_to_another_host_is_not_requested(api: ApiServer, settings: Settings) -> None:
    with ApiServer() as other:
        api.answers["/events"] = {"items": [{"id": 1}], "delta": f"{other.url}/events"}
        endpoint = {"path": "events", "data_selector": "items", "paginator": "single_page"}
        token = {"token_path": "delta"}
        resource = {"name": "events", "endpoint": {**endpoint, "incremental": token}}
        connector = make_connector(api.url, resource)
        ran(load(connector, settings))
        assert "another origin" in failed(load(connector, settings))
        assert other.seen == []


def test_a_load_in_parts_stores_the_token_at_its_end(changes: Changes, tmp_path: Path) -> None:
    settings = make_settings(tmp_path).model_copy(update={"checkpoint_seconds": 1e-9})
    connector = make_connector(changes.api.url, events(), http={"max_concurrency": 1})
    changes.requests_left = 2
    assert load(connector, settings)["events"].failed
    assert len(names(settings)) == 4
    changes.requests_left = 1_000_000
    assert ran(load(connector, settings)).resumed_from
    assert names(settings) == [row["name"] for row in changes.history]
    changes.history.append({"id": 5, "name": "new"})
    ran(load(connector, settings))
    assert changes.tokens == [None, "5"]
    assert len(names(settings)) == 6


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.mark.parametrize("phase", ["extract", "load"])
def test_a_killed_run_moves_the_token_with_its_rows_or_not_at_all(
    changes: Changes, nursery: Nursery, tmp_path: Path, phase: str
) -> None:
    file = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": changes.api.url},
        "resources": [events()],
    }
    nursery.start(file, tmp_path).finish()
    for number in range(5, 9):
        changes.history.append({"id": number, "name": f"event {number}"})
        run = nursery.start(file, tmp_path)
        run.wait_for("phase", phase)
        run.kill()
        run.end()
    nursery.start(file, tmp_path).finish()
    assert names(make_settings(tmp_path)) == [row["name"] for row in changes.history]
