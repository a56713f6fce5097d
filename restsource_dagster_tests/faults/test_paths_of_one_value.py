"""Paths that may match several values, where only a run knows them: the first match is never taken."""

from typing import Any

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector, query
from restsource_dagster_tests.servers.api import ApiServer

DAYS: dict[str, Any] = {"ad": 1, "days": [{"date": "2024-05-12"}, {"date": "2024-05-13"}]}


def test_a_cursor_path_that_matches_several_values_is_refused(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/report"] = [DAYS]
    report = {"name": "report", "endpoint": {"incremental": {"cursor_path": "${CURSOR}"}}}
    environment = {"CURSOR": "days[*].date"}
    failure = load(make_connector(api.url, report), settings, environment=environment)[
        "report"
    ].failure
    assert failure is not None
    assert "several values" in failure.message


def test_a_parents_field_that_matches_several_values_makes_a_call_for_each(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/reports"] = [DAYS]
    api.answers |= {f"/days/{day['date']}/x": [{"id": day["date"]}] for day in DAYS["days"]}
    id_of_parent = {"type": "resolve", "resource": "reports", "field": "${FIELD}"}
    days = {"name": "days", "endpoint": {"path": "days/{day}/x", "params": {"day": id_of_parent}}}
    outcome = load(
        make_connector(api.url, {"name": "reports", "primary_key": "ad"}, days),
        settings,
        environment={"FIELD": "days[*].date"},
    )["days"]
    assert outcome.failure is None
    assert query(settings, "SELECT id FROM shop.days ORDER BY id") == [
        ("2024-05-12",),
        ("2024-05-13",),
    ]
