"""A row that a message quotes is cut and redacted; no part of a secret is left in it."""

from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of, failure_of
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import FaultServer

pytestmark = pytest.mark.faults(row=16)

SECRET = "c4n4ry-that-is-cut-in-two-0123456789"
CLIENT = {"auth": {"type": "bearer", "token": SECRET}}
THINGS: dict[str, Any] = {"name": "things", "endpoint": {"path": "things"}}
BELOW: dict[str, Any] = {
    "name": "notes",
    "include_from_parent": ["id"],
    "endpoint": {"path": "things/{resources.things.id}/notes"},
}


def cut(before: str, most: int) -> str:
    """A text with the secret where it is cut after `most` characters, of which some go `before`."""
    return "x" * (most - len(before) - 10) + SECRET


def ordered_by(path: str) -> dict[str, Any]:
    cursor = {"cursor_path": path, "initial_value": 0}
    return {**THINGS, "primary_key": "id", "endpoint": {"path": "things", "incremental": cursor}}


ROW = {"note": cut("{'note': '", 120), "Id": 1, "id": 2}
PARENT = {"note": cut("{'note': '", 200)}
CASES: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "two fields that become one column": ([THINGS], [ROW], {}),
    "a cursor that is a list": (
        [ordered_by("at")],
        [{"id": 1, "at": [cut("['", 80)]}],
        {},
    ),
    "a parent without what its dependents need": ([THINGS, BELOW], [PARENT], {}),
    "a row that is no object": (
        [THINGS, BELOW],
        [{"id": 1}],
        {"/things/1/notes": [cut("'", 80)]},
    ),
    "a field of the row in the place of its parent's": (
        [THINGS, BELOW],
        [{"id": 1}],
        {"/things/1/notes": [{"_things_id": cut("'", 80)}]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_no_part_of_a_secret_is_left_where_a_row_is_cut(
    server: FaultServer, settings: Settings, case: str
) -> None:
    resources, rows, more = CASES[case]
    server.plan |= {"/things": rows, **more}
    outcomes = load(connector_of(server.url, *resources, client=CLIENT), settings)
    for outcome in outcomes.values():
        message = failure_of(outcome)
        assert SECRET[:6] not in message
        # of a value that is no cursor nothing is shown
        assert "xxxxxxxx" in message or "a list can't be used to order rows" in message


def test_a_parents_value_is_cut_and_redacted_in_the_error_of_a_dependent(
    server: FaultServer, settings: Settings
) -> None:
    below = {**BELOW, "include_from_parent": ["id", "key"]}
    server.plan["/things"] = [{"id": 1, "key": cut("'", 80)}]
    server.plan["/things/1/notes"] = [{"things_id": 1, "_things_key": "another"}]
    outcomes = load(connector_of(server.url, THINGS, below, client=CLIENT), settings)
    message = failure_of(outcomes["notes"])
    assert "_things_key" in message
    assert SECRET[:6] not in message


def test_the_reason_why_rows_were_not_written_as_columns_has_no_secret(
    server: FaultServer, settings: Settings
) -> None:
    """The reason quotes the value that did not fit, and is shown in metadata."""
    server.plan["/things"] = [{"at": "2026-01-01T00:00:00Z"}, {"at": f"{SECRET}{'x' * 5000}"}]
    outcome = load(connector_of(server.url, THINGS, client=CLIENT), settings)["things"]
    assert outcome.write_mode.startswith("rows: at is timestamp")
    assert SECRET[:6] not in outcome.write_mode
    assert len(outcome.write_mode) < 400
