"""`skip`, `end` and `gone` in `response_actions`, and actions that look into the body."""

from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.connector.cursor_format import detect_cursor_format
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.partitions import Window
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run.reset import reset_resources
from restsource_dagster.engine.run.window_load import ingest_window
from restsource_dagster.engine.source import parents
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.event_files import file_of as event_file
from restsource_dagster_tests.faults.http_parts import failure_of
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import load, make_connector, make_settings, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

pytestmark = pytest.mark.faults(row=3)

in_both_modes = pytest.mark.parametrize("mode", ["auto", "rows"])
FORBIDDEN = Answer({"error": {"code": "NO_LICENCE", "retry": False}}, 403)
SKIP = [{"status_code": 403, "action": "skip"}]
REMOVED = Answer({"error": "removed"}, 410)


def ids(settings: Settings, table: str, column: str = "id") -> list[Any]:
    return sorted(value for (value,) in query(settings, f'select "{column}" from shop."{table}"'))


def run(connector: Connector, settings: Settings, **more: Any) -> dict[str, Outcome]:
    outcomes = load(connector, settings, **more)
    assert [outcome.failure for outcome in outcomes.values() if outcome.failure] == []
    return outcomes


# --- skip ---------------------------------------------------------------------------------------


@in_both_modes
def test_a_skipped_resource_keeps_its_table_and_the_run_goes_on(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    """`deals` is replaced, and so is `notes` below it; `users` share no family with them."""
    connector = make_connector(
        api.url,
        {"name": "deals", "mode": mode, "endpoint": {"path": "deals", "response_actions": SKIP}},
        {"name": "notes", "mode": mode, "endpoint": {"path": "deals/{resources.deals.id}/notes"}},
        {"name": "users", "mode": mode, "endpoint": {"path": "users"}},
    )
    api.answers |= {"/deals": [{"id": 1}, {"id": 2}], "/users": [{"id": 8}]}
    api.answers |= {f"/deals/{n}/notes": [{"id": 10 * n}] for n in (1, 2)}
    run(connector, settings)
    api.answers |= {"/deals": FORBIDDEN, "/users": [{"id": 9}]}
    outcomes = run(connector, settings)
    assert "answered 403" in str(outcomes["deals"].left_as_it_is)
    assert "resource deals" in str(outcomes["notes"].left_as_it_is)
    assert outcomes["deals"].row_count == 2
    assert (outcomes["deals"].rows_loaded, outcomes["deals"].usage.requests) == (0, 1)
    assert outcomes["users"].left_as_it_is is None
    assert (ids(settings, "deals"), ids(settings, "notes"), ids(settings, "users")) == (
        [1, 2],
        [10, 20],
        [9],
    )
    api.answers["/deals"] = [{"id": 3}]
    api.answers["/deals/3/notes"] = []
    run(connector, settings)
    assert (ids(settings, "deals"), ids(settings, "notes")) == ([3], [])


def test_a_resource_that_is_skipped_in_its_first_run_has_no_table(
    api: ApiServer, settings: Settings
) -> None:
    connector = make_connector(
        api.url, {"name": "deals", "endpoint": {"path": "deals", "response_actions": SKIP}}
    )
    api.answers["/deals"] = FORBIDDEN
    outcome = run(connector, settings)["deals"]
    assert (outcome.row_count, outcome.left_as_it_is is None) == (0, False)


@in_both_modes
def test_parents_are_loaded_without_a_skipped_dependent_which_later_gets_all_of_them(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    connector = make_connector(
        api.url,
        {
            "name": "orders",
            "mode": mode,
            "primary_key": "id",
            "endpoint": {"path": "orders", "incremental": {"cursor_path": "at"}},
        },
        {
            "name": "refunds",
            "mode": mode,
            "primary_key": "id",
            "endpoint": {"path": "orders/{resources.orders.id}/refunds", "response_actions": SKIP},
        },
    )
    api.answers |= {"/orders": [{"id": 1, "at": 1}, {"id": 2, "at": 2}]}
    api.answers |= {f"/orders/{n}/refunds": FORBIDDEN for n in (1, 2)}
    outcomes = run(connector, settings)
    assert outcomes["orders"].left_as_it_is is None
    assert (outcomes["orders"].rows_loaded, outcomes["orders"].records_received) == (2, 2)
    assert "refunds" in str(outcomes["refunds"].left_as_it_is)
    api.answers |= {f"/orders/{n}/refunds": [{"id": 10 * n}] for n in (1, 2)}
    run(connector, settings)
    assert (ids(settings, "orders"), ids(settings, "refunds")) == ([1, 2], [10, 20])


def test_a_refusal_after_rows_is_an_error_although_it_is_to_be_skipped(
    api: ApiServer, settings: Settings
) -> None:
    """On the second page of `deals`, and below the second parent for `notes`."""
    paged = {"type": "page_number", "base_page": 1, "total_path": None}

    def deals(seen: Seen) -> Any:
        return [{"id": 1}] if seen.query["page"] == "1" else FORBIDDEN

    connector = make_connector(
        api.url,
        {
            "name": "deals",
            "endpoint": {"path": "deals", "paginator": paged, "response_actions": SKIP},
        },
        "users",
        {
            "name": "notes",
            "endpoint": {"path": "users/{resources.users.id}/notes", "response_actions": SKIP},
        },
    )
    api.answers |= {"/deals": deals, "/users": [{"id": 1}, {"id": 2}]}
    api.answers |= {"/users/1/notes": [{"id": 1}], "/users/2/notes": FORBIDDEN}
    outcomes = load(connector, settings)
    assert "rows of the resource came before it" in failure_of(outcomes["deals"])
    assert "answered 403" in failure_of(outcomes["notes"])


def test_a_window_of_a_skipped_resource_fails(api: ApiServer, settings: Settings) -> None:
    connector = make_connector(
        api.url,
        {
            "name": "events",
            "primary_key": "id",
            "endpoint": {
                "path": "events",
                "incremental": {"cursor_path": "at", "initial_value": 1},
                "response_actions": SKIP,
            },
        },
    )
    api.answers["/events"] = FORBIDDEN
    window = Window(1, 5, detect_cursor_format(1))
    [outcome] = ingest_window(connector, "events", window, settings=settings, environment={})
    assert "A window is loaded or fails" in failure_of(outcome)


# --- end ----------------------------------------------------------------------------------------


def numbered(pages: dict[str, Any]) -> Any:
    past_end = Answer({"code": "invalid_page_number"}, 400)
    return lambda seen: pages.get(seen.query["page"], past_end)


@in_both_modes
def test_an_error_past_the_last_page_is_the_end_and_the_first_answer_is_an_error(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    endpoint = {
        "paginator": {"type": "page_number", "base_page": 1, "total_path": None},
        "response_actions": [
            {"status_code": 400, "body": {"code": "invalid_page_number"}, "action": "end"}
        ],
    }
    connector = make_connector(
        api.url,
        {"name": "posts", "mode": mode, "endpoint": {"path": "posts", **endpoint}},
        {"name": "pages", "mode": mode, "endpoint": {"path": "pages", **endpoint}},
    )
    api.answers["/posts"] = numbered({"1": [{"id": 1}], "2": [{"id": 2}], "3": [{"id": 3}]})
    api.answers["/pages"] = numbered({})
    outcomes = load(connector, settings)
    assert ids(settings, "posts") == [1, 2, 3]
    assert "end this answer" in failure_of(outcomes["pages"])
    assert "no page came before" in failure_of(outcomes["pages"])


@in_both_modes
def test_the_rows_of_the_page_that_is_the_end_are_loaded(
    api: ApiServer, settings: Settings, mode: str
) -> None:
    """Its next link leads nowhere, and an empty answer has no rows."""
    pages = {
        "": {"items": [{"id": 1}], "next": "?after=1", "state": {"done": False}},
        "1": {"items": [{"id": 2}], "next": "?after=0", "state": {"done": True}},
    }
    done = {"body": {"state.done": True}, "action": "end"}
    connector = make_connector(
        api.url,
        {
            "name": "items",
            "mode": mode,
            "endpoint": {
                "path": "items",
                "data_selector": "items",
                "paginator": {"type": "json_link", "next_url_path": "next"},
                "response_actions": [done],
            },
        },
        {
            "name": "none",
            "mode": mode,
            "endpoint": {
                "path": "none",
                "response_actions": [{"status_code": 204, "action": "end"}],
            },
        },
    )
    api.answers["/items"] = lambda seen: pages[seen.query.get("after", "")]
    api.answers["/none"] = Answer(b"", 204)
    outcomes = run(connector, settings)
    assert ids(settings, "items") == [1, 2]
    assert outcomes["items"].usage.requests == 2
    assert outcomes["none"].rows_loaded == 0


BODIES: list[tuple[dict[str, Any], Any, bool]] = [
    ({"error.code": "NO_LICENCE"}, FORBIDDEN, True),
    ({"error.code": "NO_LICENCE", "error.retry": False}, FORBIDDEN, True),
    ({"error.code": "NO_LICENCE", "error.retry": True}, FORBIDDEN, False),
    ({"error.retry": 0}, FORBIDDEN, False),
    ({"error.other": None}, FORBIDDEN, False),
    ({"code": 17}, Answer({"code": 17.0}, 400), True),
    ({"code": "17"}, Answer({"code": 17}, 400), False),
    ({"$[*].code": 2}, Answer([{"code": 1}, {"code": 2}], 400), True),
    ({"code": 1}, Answer(b"<html>", 400, {"content-type": "text/html"}), False),
]


def test_an_action_matches_if_the_body_has_the_values_at_the_paths(
    api: ApiServer, settings: Settings
) -> None:
    connector = make_connector(
        api.url,
        *(
            {
                "name": f"row{number}",
                "endpoint": {
                    "path": f"row{number}",
                    "response_actions": [{"body": body, "action": "ignore"}],
                },
            }
            for number, (body, _, _) in enumerate(BODIES)
        ),
    )
    api.answers |= {f"/row{number}": answer for number, (_, answer, _) in enumerate(BODIES)}
    outcomes = load(connector, settings)
    assert [not outcomes[f"row{n}"].failed for n in range(len(BODIES))] == [b for *_, b in BODIES]


# --- gone ---------------------------------------------------------------------------------------

GONE = [{"status_code": 410, "action": "gone"}]


def forum_resources(mode: str = "auto", **more: Any) -> list[Any]:
    """Posts, all in each run, and the comments of each, with a nested list."""
    return [
        {"name": "posts", "mode": mode, "primary_key": "id", "endpoint": {"path": "posts"}},
        {
            "name": "comments",
            "mode": mode,
            "include_from_parent": ["id"],
            "endpoint": {"path": "posts/{resources.posts.id}/comments", "response_actions": GONE},
            **more,
        },
    ]


def forum(api: ApiServer, mode: str = "auto", **more: Any) -> Connector:
    return make_connector(api.url, *forum_resources(mode, **more))


def answer_posts(api: ApiServer, *numbers: Any) -> None:
    api.answers["/posts"] = [{"id": number} for number in numbers]
    for at, number in enumerate(numbers, 1):
        rows = [{"id": 10 * at, "tags": ["a", "b"]}, {"id": 10 * at + 1, "tags": ["c"]}]
        api.answers[f"/posts/{number}/comments"] = rows


@in_both_modes
@pytest.mark.parametrize("disposition", ["merge", "append", "replace"])
def test_the_children_of_a_parent_that_is_gone_are_removed_and_it_is_never_requested_again(
    api: ApiServer, settings: Settings, mode: str, disposition: str
) -> None:
    key = {"primary_key": "id"} if disposition == "merge" else {}
    connector = forum(api, mode, write_disposition=disposition, **key)
    answer_posts(api, 1, 2, 3)
    run(connector, settings)
    if disposition == "append":  # what an append adds is not the subject
        api.answers |= {f"/posts/{number}/comments": [] for number in (1, 3)}
    api.answers["/posts/2/comments"] = REMOVED
    outcome = run(connector, settings)["comments"]
    assert outcome.gone == ("posts/2/comments",)
    assert ids(settings, "comments") == [10, 11, 30, 31]
    assert ids(settings, "comments__tags", "value") == ["a", "a", "b", "b", "c", "c"]
    api.seen.clear()
    outcome = run(connector, settings)["comments"]
    assert outcome.gone == ()
    assert api.asked("/posts/2/comments") == []
    assert len(api.asked("/posts/3/comments")) == 1
    # what is reset is asked for anew
    reset_resources(connector, ["comments"], settings)
    answer_posts(api, 1, 2, 3)
    run(connector, settings)
    assert ids(settings, "comments") == [10, 11, 20, 21, 30, 31]


@pytest.mark.parametrize("moment", ["normalize", "load"])
def test_a_run_that_is_killed_leaves_the_removal_to_the_next(
    api: ApiServer, tmp_path: Path, nursery: Nursery, moment: str
) -> None:
    settings = make_settings(tmp_path)
    resources = forum_resources(write_disposition="append")
    answer_posts(api, 1, 2)
    file = event_file(api, "shop", *resources)
    nursery.start(file, tmp_path).finish()
    api.answers |= {"/posts/1/comments": [], "/posts/2/comments": REMOVED}
    killed = nursery.start(file, tmp_path)
    killed.wait_for("phase", moment)
    killed.kill()
    killed.end()
    nursery.start(file, tmp_path).finish()
    assert ids(settings, "comments") == [10, 11]
    assert ids(settings, "comments__tags", "value") == ["a", "b", "c"]
    api.seen.clear()
    nursery.start(file, tmp_path).finish()
    assert api.asked("/posts/2/comments") == []


def test_a_full_refresh_requests_the_parents_that_were_gone(
    api: ApiServer, settings: Settings
) -> None:
    connector = forum(api, primary_key="id")
    answer_posts(api, 1, 2)
    api.answers["/posts/2/comments"] = REMOVED
    run(connector, settings)
    answer_posts(api, 1, 2)
    list(ingest(connector, settings=settings, environment={}, full_refresh=["comments"]))
    assert ids(settings, "comments") == [10, 11, 20, 21]


def test_a_parent_that_is_gone_on_its_second_page_has_no_rows(
    api: ApiServer, settings: Settings
) -> None:
    """Its key is a text; another parent's key is a number in the same column."""
    connector = forum(api, primary_key="id")
    answer_posts(api, "a", 7)
    run(connector, settings)

    def second_page_gone(seen: Seen) -> Any:
        if "page" in seen.query:
            return REMOVED
        return Answer([{"id": 99}], headers={"link": '<?page=2>; rel="next"'})

    api.answers["/posts/a/comments"] = second_page_gone
    run(connector, settings)
    assert ids(settings, "comments") == [20, 21]
    api.answers["/posts/7/comments"] = REMOVED
    run(connector, settings)
    assert ids(settings, "comments") == []


def test_the_oldest_of_too_many_gone_parents_is_requested_again(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parents, "MAX_GONE_PARENTS", 2)
    connector = forum(api, primary_key="id")
    answer_posts(api, 1, 2, 3)
    api.answers |= {f"/posts/{number}/comments": REMOVED for number in (1, 2, 3)}
    run(connector, settings)
    assert run(connector, settings)["comments"].gone == ("posts/1/comments",)


def test_a_step_that_moves_the_column_of_the_parent_fails_the_run_that_needs_it(
    api: ApiServer, settings: Settings
) -> None:
    connector = forum(api, primary_key="id", processing_steps=[{"map": "{id, post: ._posts_id}"}])
    answer_posts(api, 1)
    run(connector, settings)
    api.answers["/posts/1/comments"] = REMOVED
    failure = failure_of(load(connector, settings)["comments"])
    assert "no column _posts_id" in failure
