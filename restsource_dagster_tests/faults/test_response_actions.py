"""`response_actions` decide what a response means."""

from typing import Any

import pytest

from restsource_dagster.engine.errors import ResponseError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of, failure_of, items, rows_of
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import FaultServer, Reply

pytestmark = pytest.mark.faults(row=3)

FIRST = {"data": [{"id": 7}]}


def action(**more: Any) -> dict[str, Any]:
    return more


IGNORED = [
    (action(status_code=404, action="ignore"), Reply({"message": "none"}, status=404)),
    (action(status_code="4xx", action="ignore"), Reply({"message": "none"}, status=410)),
    (action(status_code="404", action="ignore"), Reply({"message": "none"}, status=404)),
    (action(status_code=204, action="ignore"), Reply(status=204)),
    (action(content="no rows", action="ignore"), Reply({"message": "no rows today"})),
    (action(status_code=500, action="ignore"), Reply({}, status=500)),
    (
        action(header={"X-Reason": "nothing"}, action="ignore"),
        Reply({"message": "none"}, status=400, headers={"X-Reason": "Nothing new"}),
    ),
]


@pytest.mark.parametrize(("rule", "reply"), IGNORED)
def test_ignore_ends_the_call_with_0_rows(
    server: FaultServer, rule: dict[str, Any], reply: Reply
) -> None:
    server.plan["/items"] = reply
    assert rows_of(server, selector="data", actions=(rule,)) == []
    assert len(server.arrivals) == 1


RETRIED = [
    (action(content="try again", action="retry"), Reply({"message": "try again"})),
    (action(status_code="4xx", action="retry"), Reply({}, status=425)),
    (
        action(header={"X-Busy": ""}, action="retry"),
        Reply({}, status=202, headers={"X-Busy": "yes"}),
    ),
]


@pytest.mark.parametrize(("rule", "reply"), RETRIED)
def test_retry_sends_the_request_again(
    server: FaultServer, rule: dict[str, Any], reply: Reply
) -> None:
    server.plan["/items"] = (reply, FIRST)
    assert rows_of(server, selector="data", actions=(rule,)) == FIRST["data"]
    assert len(server.arrivals) == 2


def test_a_response_to_retry_after_the_last_attempt_is_an_error(server: FaultServer) -> None:
    server.plan["/items"] = {"message": "try again"}
    rule = action(content="try again", action="retry")
    with pytest.raises(ResponseError, match=r"response_actions.*trying again did not help"):
        rows_of(server, selector="data", actions=(rule,))
    assert len(server.arrivals) == 5


def test_fail_is_an_error_without_a_retry(server: FaultServer, settings: Settings) -> None:
    server.plan["/items"] = Reply({"message": "quota"}, status=503)
    resource = items(response_actions=[action(content="quota", action="fail")])
    outcome = load(connector_of(server.url, resource), settings)["items"]
    assert "response_actions: fail this answer" in failure_of(outcome)
    assert outcome.usage.requests == 1


def test_the_first_action_that_matches_counts(server: FaultServer) -> None:
    rules = (
        action(status_code=404, content="gone", action="fail"),
        action(status_code="4xx", action="ignore"),
    )
    server.plan["/items"] = (
        Reply({"message": "gone"}, status=404),
        Reply({"message": "none"}, status=404),
    )
    with pytest.raises(ResponseError, match="answered 404"):
        rows_of(server, actions=rules)
    assert rows_of(server, actions=rules) == []
