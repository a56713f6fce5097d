"""Paths that have to match one value, where only a run knows them: the first match is never taken."""

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector
from restsource_dagster_tests.servers.api import ApiServer

DAYS = {"ad": 1, "days": [{"date": "2024-05-12"}, {"date": "2024-05-13"}]}


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


def test_a_parents_field_that_matches_several_values_is_refused(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/reports"] = [DAYS]
    id_of_parent = {"type": "resolve", "resource": "reports", "field": "${FIELD}"}
    days = {"name": "days", "endpoint": {"path": "days/{day}/x", "params": {"day": id_of_parent}}}
    failure = load(
        make_connector(api.url, {"name": "reports", "primary_key": "ad"}, days),
        settings,
        environment={"FIELD": "days[*].date"},
    )["days"].failure
    assert failure is not None
    assert "2 values of" in failure.message
    assert [seen.path for seen in api.seen] == ["/reports"]
