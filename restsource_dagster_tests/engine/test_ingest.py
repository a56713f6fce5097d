"""Runs of the engine against a real server into a real DuckDB file."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dlt
import pytest

from restsource_dagster.connector.env_references import MissingReferencesError
from restsource_dagster.engine.destination.warehouse import warehouse_from_settings
from restsource_dagster.engine.errors import UnknownResourceError
from restsource_dagster.engine.incremental.cursor_state import lag_seconds
from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

ORDERS = {
    "name": "orders",
    "primary_key": "id",
    "endpoint": {
        "path": "orders",
        "data_selector": "data",
        "params": {"since": "{incremental.start_value}"},
        "incremental": {"cursor_path": "updated_at", "initial_value": "1970-01-01T00:00:00Z"},
    },
}
LINES = {
    "name": "lines",
    "primary_key": ["_orders_id", "n"],
    "include_from_parent": ["id"],
    "endpoint": {"path": "orders/{resources.orders.id}/lines", "data_selector": "lines"},
}


def order(number: int, day: int | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "updated_at": f"2026-01-{day or number:02d}T00:00:00Z", **more}


class Orders:
    """An API of orders that honours `since`, with two lines below each order."""

    def __init__(self, api: ApiServer, count: int) -> None:
        self.rows = [order(number) for number in range(1, count + 1)]
        api.answers["/orders"] = self.answer
        for number in range(1, 30):
            api.answers[f"/orders/{number}/lines"] = {"lines": [{"n": 1}, {"n": 2}]}

    def answer(self, seen: Seen) -> Any:
        since = seen.query.get("since", "")
        return {"data": [row for row in self.rows if row["updated_at"] >= since]}


def test_a_second_run_requests_rows_from_the_cursor_on_and_loads_each_once(
    api: ApiServer, settings: Settings
) -> None:
    orders = Orders(api, 3)
    connector = make_connector(api.url, ORDERS)
    first = load(connector, settings)["orders"]
    orders.rows.append(order(4))
    second = load(connector, settings)["orders"]
    assert (first.rows_loaded, first.row_count) == (3, 3)
    assert [seen.query["since"] for seen in api.asked("/orders")] == [
        "1970-01-01T00:00:00Z",
        "2026-01-03T00:00:00Z",
    ]
    assert second.row_count == 4
    assert second.cursor is not None
    assert second.cursor.start_value == "2026-01-03T00:00:00Z"
    assert second.cursor.last_value == "2026-01-04T00:00:00Z"


def test_a_run_without_new_rows_reports_0_and_keeps_the_cursor(
    api: ApiServer, settings: Settings
) -> None:
    orders = Orders(api, 3)
    connector = make_connector(api.url, ORDERS)
    first = load(connector, settings)["orders"]
    orders.rows.clear()
    second = load(connector, settings)["orders"]
    assert (second.failed, second.rows_loaded, second.row_count) == (False, 0, 3)
    assert first.cursor is not None
    assert second.cursor is not None
    assert second.cursor.last_value == first.cursor.last_value


def test_a_row_that_changes_and_keeps_the_boundary_cursor_is_updated(
    api: ApiServer, settings: Settings
) -> None:
    orders = Orders(api, 2)
    connector = make_connector(api.url, ORDERS)
    load(connector, settings)
    orders.rows[1] = order(2, total=5)
    load(connector, settings)
    assert query(settings, "SELECT id, total FROM shop.orders ORDER BY id") == [(1, None), (2, 5)]


def test_append_loads_a_boundary_row_once(api: ApiServer, settings: Settings) -> None:
    orders = Orders(api, 2)
    keyless = {key: value for key, value in ORDERS.items() if key != "primary_key"}
    connector = make_connector(api.url, keyless)
    assert connector.resource("orders").disposition.value == "append"
    load(connector, settings)
    orders.rows.append(order(3))
    load(connector, settings)
    assert query(settings, "SELECT id FROM shop.orders ORDER BY id") == [(1,), (2,), (3,)]


def test_a_resource_without_key_or_cursor_is_replaced(api: ApiServer, settings: Settings) -> None:
    api.answers["/countries"] = [{"code": "DE"}, {"code": "FR"}]
    connector = make_connector(api.url, "countries")
    load(connector, settings)
    api.answers["/countries"] = [{"code": "IT"}]
    load(connector, settings)
    assert query(settings, "SELECT code FROM shop.countries") == [("IT",)]


def test_a_failing_family_does_not_affect_the_others(api: ApiServer, settings: Settings) -> None:
    orders = Orders(api, 2)
    api.answers["/broken"] = Answer({"error": "out of order"}, status=400)
    api.answers["/countries"] = [{"code": "DE"}]
    connector = make_connector(api.url, "broken", ORDERS, LINES, "countries")
    outcomes = load(connector, settings)
    failure = outcomes["broken"].failure
    assert failure is not None
    assert "answered 400" in failure.message
    assert "out of order" in failure.message
    assert {name for name, outcome in outcomes.items() if not outcome.failed} == {
        "orders",
        "lines",
        "countries",
    }
    assert outcomes["lines"].row_count == 2 * len(orders.rows)


def test_a_family_that_fails_keeps_its_cursor_for_the_next_run(
    api: ApiServer, settings: Settings
) -> None:
    Orders(api, 2)
    api.answers["/orders/2/lines"] = Answer({"lines": "none"}, status=404)
    api.answers["/countries"] = [{"code": "DE"}]
    connector = make_connector(api.url, ORDERS, LINES, "countries")
    first = load(connector, settings)
    assert first["orders"].failure is not None
    assert first["orders"].failure.resource == "lines"
    assert not first["countries"].failed
    api.answers["/orders/2/lines"] = {"lines": [{"n": 1}]}
    second = load(connector, settings)
    assert [seen.query["since"] for seen in api.asked("/orders")] == ["1970-01-01T00:00:00Z"] * 2
    assert (second["orders"].row_count, second["lines"].row_count) == (2, 3)


def test_a_dependent_loaded_alone_requests_all_parents_and_moves_no_cursor(
    api: ApiServer, settings: Settings
) -> None:
    Orders(api, 3)
    connector = make_connector(api.url, ORDERS, LINES)
    load(connector, settings, resources=["orders"])
    alone = load(connector, settings, resources=["lines"])
    assert set(alone) == {"lines"}
    assert alone["lines"].row_count == 6
    load(connector, settings)
    assert [seen.query["since"] for seen in api.asked("/orders")] == [
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2026-01-03T00:00:00Z",
    ]


def test_an_unknown_resource_is_refused_naming_the_known_ones(
    api: ApiServer, settings: Settings
) -> None:
    connector = make_connector(api.url, "countries")
    with pytest.raises(UnknownResourceError, match="countries"):
        load(connector, settings, resources=["contries"])
    assert api.seen == []


def test_a_missing_variable_is_named_before_the_first_request(
    api: ApiServer, settings: Settings
) -> None:
    auth = {"auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}}
    connector = make_connector(api.url, "countries", client=auth)
    with pytest.raises(MissingReferencesError, match="SHOP_TOKEN"):
        load(connector, settings)
    assert api.seen == []


def test_references_without_a_value_are_all_named_before_the_first_request(
    api: ApiServer, settings: Settings
) -> None:
    headers = {"A": "${file:/no/such/file}", "B": "${dlt:no.such.key}", "C": "${EMPTY}"}
    connector = make_connector(api.url, "countries", client={"headers": headers})
    with pytest.raises(MissingReferencesError) as caught:
        load(connector, settings, environment={"EMPTY": ""})
    assert all(name in str(caught.value) for name in ("/no/such/file", "no.such.key", "EMPTY"))
    assert api.seen == []


def test_references_of_all_kinds_are_hidden_by_value(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.data_dir.parent / "secret").write_text("of-a-file\n")
    monkeypatch.setenv("OWN__KEY", "of-dlt")
    api.answers["/countries"] = lambda seen: Answer({"you sent": dict(seen.headers)}, status=400)
    path = settings.data_dir.parent / "secret"
    headers = {"A": f"${{file:{path}}}", "B": "${dlt:own.key}", "C": "${NO_SUCH:-of-a-default}"}
    connector = make_connector(api.url, "countries", client={"headers": headers})
    outcome = load(connector, settings)["countries"]
    [seen] = api.seen
    assert [seen.headers[name] for name in "abc"] == ["of-a-file", "of-dlt", "of-a-default"]
    assert outcome.failure is not None
    assert all(secret not in repr(outcome) for secret in ("of-a-file", "of-dlt", "of-a-default"))


def test_no_failure_shows_a_secret(api: ApiServer, settings: Settings) -> None:
    secret = "s3cret-token/with+signs"

    def echo(seen: Seen) -> Answer:
        return Answer({"you sent": seen.headers["authorization"]}, status=401)

    api.answers["/countries"] = echo
    auth = {"auth": {"type": "bearer", "token": "${SHOP_TOKEN}"}}
    connector = make_connector(api.url, "countries", client=auth)
    outcome = load(connector, settings, environment={"SHOP_TOKEN": secret})["countries"]
    assert outcome.failure is not None
    assert "[secret]" in outcome.failure.message
    assert secret not in repr(outcome)


ODD_ANSWERS = [
    Answer(b"<html>sorry</html>", headers={"content-type": "text/html"}),
    Answer(b""),
    Answer(b"", status=204),
    Answer(b'{"data": [{"id": 1}'),
    Answer({"error": "no such customer"}),
]


def test_a_response_that_is_not_what_the_file_says_keeps_the_table(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/countries"] = {"data": [{"code": "DE"}]}
    countries = {"name": "countries", "endpoint": {"path": "countries", "data_selector": "data"}}
    connector = make_connector(api.url, countries)
    load(connector, settings)
    for answer in ODD_ANSWERS:
        api.answers["/countries"] = answer
        outcome = load(connector, settings)["countries"]
        assert outcome.failure is not None
        assert "resource countries, page 1" in outcome.failure.message
        assert f"/countries answered {answer.status}" in outcome.failure.message
        assert query(settings, "SELECT code FROM shop.countries") == [("DE",)]


def test_an_empty_page_is_no_error(api: ApiServer, settings: Settings) -> None:
    api.answers["/countries"] = {"data": []}
    countries = {"name": "countries", "endpoint": {"path": "countries", "data_selector": "data"}}
    outcome = load(make_connector(api.url, countries), settings)["countries"]
    assert (outcome.failed, outcome.rows_loaded, outcome.row_count) == (False, 0, 0)


def test_retries_are_counted_and_rows_arrive(api: ApiServer, settings: Settings) -> None:
    answers = [Answer(status=503, headers={"retry-after": "0"}), Answer([{"code": "DE"}])]
    api.answers["/countries"] = lambda _: answers.pop(0)
    outcome = load(make_connector(api.url, "countries"), settings)["countries"]
    assert (outcome.usage.requests, outcome.usage.retries, outcome.rows_loaded) == (2, 1, 1)


def test_oauth_tokens_are_requested_through_the_counted_session(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/token"] = {"access_token": "abc12345", "expires_in": 3600}
    api.answers["/countries"] = [{"code": "DE"}]
    client = {
        "auth": {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{api.url}/token",
            "client_id": "me",
            "client_secret": "${SECRET}",
        }
    }
    connector = make_connector(api.url, "countries", client=client)
    outcome = load(connector, settings, environment={"SECRET": "hush-hush"})["countries"]
    assert outcome.usage.requests == 2
    assert api.asked("/countries")[0].headers["authorization"] == "Bearer abc12345"


NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "lag"),
    [
        ("2026-01-01T00:00:00Z", 86400.0),
        ("2026-01-01", 86400.0),
        ("2026-01-01 12:00:00+02:00", 50400.0),
        (NOW - timedelta(hours=1), 3600.0),
        ((NOW - timedelta(hours=1)).date(), 86400.0),
        (NOW.timestamp() - 60, 60.0),
        (int(NOW.timestamp() * 1000) - 60_000, 60.0),
        (4711, None),
        (True, None),
        ("A-4711", None),
        ("2026-01-01 or so", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_the_lag_is_known_for_times_only(value: Any, lag: float | None) -> None:
    assert lag_seconds(value, NOW) == lag


def test_dlt_reads_the_tables_that_a_run_has_loaded(api: ApiServer, settings: Settings) -> None:
    """`dlt.dataset()` needs a version of sqlglot that dlt's own requirements do not tell."""
    api.answers["/countries"] = [{"code": "DE"}, {"code": "FR"}]
    load(make_connector(api.url, "countries"), settings)
    destination = warehouse_from_settings(settings).destination()
    dataset = dlt.dataset(destination, "shop")
    assert dataset("SELECT code FROM countries ORDER BY code").fetchall() == [("DE",), ("FR",)]
    assert dataset["countries"].select("code").fetchall() == [("DE",), ("FR",)]
