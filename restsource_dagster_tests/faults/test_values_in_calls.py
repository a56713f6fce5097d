"""Values that a call takes from its parent or its cursor arrive as they are, and lead nowhere else."""

from typing import Any
from urllib.parse import unquote

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

NAMES = ["main", "fix#12", "a?b", "x&y=1", "50%", "ü n", "a;b", "a+b", "a:b"]
SIGNED = "/files/a.json?d=a%3B%20f%3D%22a%2Bb%22&sig=a%2Fb%3D%3D&x=1+2"


def branches(names: list[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names)]


@pytest.mark.parametrize("field", ["{resources.branches.name}", "{name}"])
def test_a_parents_value_is_one_segment_of_the_path(
    api: ApiServer, settings: Settings, field: str
) -> None:
    """Each child call reaches its own parent's path, whatever characters the parent's value has."""
    api.answers["/branches"] = branches(NAMES)
    for name in NAMES:
        api.answers[f"/branches/{name}/commits"] = [{"sha": name}]
    params = {"name": {"type": "resolve", "resource": "branches", "field": "name"}}
    endpoint = {"path": f"branches/{field}/commits", "params": params if field == "{name}" else {}}
    commits = {"name": "commits", "include_from_parent": ["name"], "endpoint": endpoint}
    outcomes = load(
        make_connector(api.url, {"name": "branches", "primary_key": "id"}, commits), settings
    )
    assert outcomes["commits"].failure is None
    assert query(settings, "SELECT _branches_name, sha FROM shop.commits ORDER BY sha") == [
        (name, name) for name in sorted(NAMES, key=lambda name: name.encode())
    ]


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_a_parents_value_that_leads_to_another_path_fails_its_call_alone(
    api: ApiServer, settings: Settings, name: str
) -> None:
    api.answers["/branches"] = branches(["main", name])
    api.answers["/branches/main/commits"] = [{"sha": "a"}]
    connector = make_connector(
        api.url,
        {"name": "branches", "primary_key": "id"},
        {"name": "commits", "endpoint": "branches/{resources.branches.name}/commits"},
        http={"on_child_error": {"skip_up_to": 1}},
    )
    outcome = load(connector, settings)["commits"]
    assert outcome.skipped == ("branches/{resources.branches.name}/commits",)
    assert [seen.path for seen in api.seen] == ["/branches", "/branches/main/commits"]
    assert query(settings, "SELECT sha FROM shop.commits") == [("a",)]


def test_a_parents_value_that_leads_to_another_path_is_named_in_the_error(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/branches"] = branches([".."])
    connector = make_connector(
        api.url,
        {"name": "branches", "primary_key": "id"},
        {"name": "commits", "endpoint": "branches/{resources.branches.name}/commits"},
    )
    failure = load(connector, settings)["commits"].failure
    assert failure is not None
    assert 'resource commits, page 1: the value ".." can\'t be a segment' in failure.message


def test_a_placeholder_that_is_the_whole_path_is_sent_byte_by_byte(
    api: ApiServer, settings: Settings
) -> None:
    targets = []

    def answer(seen: Seen) -> Any:
        targets.append(seen.query)
        return [{"line": 1}]

    api.answers["/files"] = [{"id": 1, "url": api.url + SIGNED}]
    api.answers["/files/a.json"] = answer
    connector = make_connector(
        api.url,
        {"name": "files", "primary_key": "id"},
        {"name": "lines", "endpoint": {"path": "{resources.files.url}", "data_selector": "$"}},
    )
    assert load(connector, settings)["lines"].failure is None
    assert targets == [{"d": 'a; f="a+b"', "sig": "a/b==", "x": "1 2"}]


def test_a_cursor_in_a_path_is_encoded(api: ApiServer, settings: Settings) -> None:
    api.answers["/since"] = lambda seen: (
        [{"at": seen.query["t"]}]
        if seen.query["t"] == "2024-01-01T00:00:00+02:00"
        else Answer({}, 400)
    )
    cursor = {"cursor_path": "at", "initial_value": "2024-01-01T00:00:00+02:00"}
    endpoint = {"path": "since?t={incremental.start_value}", "incremental": cursor}
    outcome = load(make_connector(api.url, {"name": "rows", "endpoint": endpoint}), settings)
    assert outcome["rows"].failure is None


def test_true_and_false_go_out_as_json_writes_them(api: ApiServer, settings: Settings) -> None:
    """In params, in the path, in a form, and as a value of the parent."""
    api.answers["/flags"] = [{"id": 1, "on": True}]
    api.answers["/all/true/rows"] = [{"n": 1}]
    endpoint = {
        "path": "all/{flag}/rows",
        "method": "POST",
        "params": {"flag": True, "compact": False, "list": [True, 1], "on": "{resources.flags.on}"},
        "data": {"archived": True},
    }
    connector = make_connector(
        api.url, {"name": "flags", "primary_key": "id"}, {"name": "rows", "endpoint": endpoint}
    )
    assert load(connector, settings)["rows"].failure is None
    (seen,) = api.asked("/all/true/rows")
    assert seen.query == {"compact": "false", "list": "1", "on": "true"}
    assert seen.body == b"archived=true"


@pytest.mark.parametrize("place", ["params", "json", "data", "headers"])
def test_without_an_initial_value_the_cursor_is_left_out_of_the_first_run(
    api: ApiServer, settings: Settings, place: str
) -> None:
    sent: list[bool] = []

    def answer(seen: Seen) -> Any:
        text = f"{seen.query} {unquote(seen.body.decode())} {seen.headers.get('x-since')}"
        sent.append("since" in f"{seen.query} {seen.body!r}" or "x-since" in seen.headers)
        assert not sent[-1] or "7" in text
        return [{"id": 1, "at": 7}]

    api.answers["/rows"] = answer
    endpoint = {
        "method": "GET" if place in ("params", "headers") else "POST",
        place: {"X-since" if place == "headers" else "since": "{incremental.start_value}"},
        "incremental": {"cursor_path": "at"},
    }
    connector = make_connector(api.url, {"name": "rows", "primary_key": "id", "endpoint": endpoint})
    for _ in range(2):
        assert load(connector, settings)["rows"].failure is None
    assert sent == [False, True]
    assert query(settings, "SELECT id FROM shop.rows") == [(1,)]
