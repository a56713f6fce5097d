"""Runs killed while a group of families is loaded; the next one leaves exactly the right rows.

`FAULTS_KILLS` sets how many kills there are (by default 2, one of them in the load).
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.campaign import kill_and_make_good
from restsource_dagster_tests.faults.growing import DISPOSITIONS
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.faults.test_group_loads import packages
from restsource_dagster_tests.making import make_settings, query
from restsource_dagster_tests.servers.api import ApiServer, Seen

pytestmark = pytest.mark.faults(row=4)

KILLS = int(os.environ.get("FAULTS_KILLS", "2"))
Rows = dict[str, list[Any]]


class Feeds:
    """Two resources of each disposition, one with lists and one without, that grow from run to run."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._clock = 0
        self.rows: dict[str, list[dict[str, Any]]] = {}
        for disposition in DISPOSITIONS:
            for kind in ("flat", "nested"):
                name = f"{disposition}_{kind}"
                self.rows[name] = []
                api.answers[f"/{name}"] = partial(self._since, name)

    @property
    def file(self) -> dict[str, Any]:
        """The connector file."""
        return {
            "name": "shop",
            "schedule": {"mode": "manual"},
            "client": {"base_url": self._api.url, "paginator": "single_page"},
            "resources": [self._resource(name) for name in self.rows],
        }

    def grow(self) -> None:
        """Three more rows each; with merge, an old one changes, too."""
        self._clock += 1
        for name, rows in self.rows.items():
            for number in range(len(rows), len(rows) + 3):
                row = {"id": number, "changed": self._clock}
                rows.append(row if name.endswith("flat") else {**row, "words": ["a", str(number)]})
            if name.startswith("merge"):
                rows[len(rows) // 2]["changed"] = self._clock

    def expected(self) -> Rows:
        """What the tables should hold."""
        found: Rows = {}
        for name, rows in self.rows.items():
            found[name] = [(row["id"], row["changed"]) for row in rows]
            if name.endswith("nested"):
                words = [(row["id"], word) for row in rows for word in row["words"]]
                found[f"{name}__words"] = sorted(words)
        return found

    def found(self, settings: Settings) -> Rows:
        """What they hold; a nested row without its parent shows as None."""
        found: Rows = {}
        for name in self.rows:
            found[name] = query(settings, f"SELECT id, changed FROM shop.{name} ORDER BY id")
            if name.endswith("nested"):
                found[f"{name}__words"] = query(
                    settings,
                    f"SELECT t.id, w.value FROM shop.{name}__words w LEFT JOIN shop.{name} t "
                    "ON t._dlt_id = w._dlt_parent_id ORDER BY 1, 2",
                )
        return found

    def _resource(self, name: str) -> dict[str, Any]:
        disposition = name.partition("_")[0]
        endpoint: dict[str, Any] = {"path": name}
        if disposition != "replace":
            endpoint["incremental"] = {"cursor_path": "changed", "initial_value": 0}
            endpoint["incremental"]["start_param"] = "since"
        key = {"primary_key": "id"} if disposition == "merge" else {}
        return {"name": name, "write_disposition": disposition, "endpoint": endpoint, **key}

    def _since(self, name: str, seen: Seen) -> Any:
        return [row for row in self.rows[name] if row["changed"] >= int(seen.query.get("since", 0))]


def test_the_run_after_a_killed_group_load_completes_the_tables(
    api: ApiServer, tmp_path: Path, nursery: Nursery
) -> None:
    done = kill_and_make_good(Feeds(api), tmp_path, nursery, KILLS, f"together {KILLS}")
    shared = max(packages(make_settings(tmp_path)))
    print(f"\nkills by phase {dict(done.struck)}, up to {shared} tables in a package")  # noqa: T201
    assert shared > 1
