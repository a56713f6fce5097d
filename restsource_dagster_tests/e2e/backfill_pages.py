"""What the tests of a backfill look at: its partitions in the browser, its table, its live stream."""

import json
from collections.abc import Mapping
from typing import Any

from restsource_dagster_tests.e2e.browser import open_page
from restsource_dagster_tests.e2e.project import LiveProject

__all__ = ["HISTORY", "launch_backfill_of_failed_windows", "live_cursor_of", "loaded_ids"]

HISTORY = "/assets/airport/flights_history?view=partitions"


def launch_backfill_of_failed_windows(address: str) -> None:
    """Click as a person does who wants the two failed partitions tried again."""
    with open_page(address) as page:
        page.goto(HISTORY)
        page.get_by_role("button", name="Materialize").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Failed", exact=True).click()
        dialog.get_by_text("2 partitions", exact=True).wait_for()
        dialog.get_by_role("button", name="Launch backfill").click()
        dialog.wait_for(state="detached")


def loaded_ids(project: LiveProject) -> list[int]:
    """The ids of the flights in the table, sorted."""
    return [row[0] for row in project.query("select id from airport.flights order by id")]


def live_cursor_of(project: LiveProject) -> Mapping[str, Any]:
    """What `restsource list` tells of the live stream."""
    told = json.loads(project.restsource("list", "--json").stdout)["connectors"]
    (connector,) = [one for one in told if one["name"] == "airport"]
    (resource,) = connector["resources"]
    return {key: resource[key] for key in ("cursor_path", "last_value", "loaded_at", "rows_loaded")}
