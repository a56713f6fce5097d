"""200 runs against an API that fails now and then; in the end the tables have the API's rows."""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.faults.growing import GrowingShop
from restsource_dagster_tests.faults.nursery import Nursery
from restsource_dagster_tests.making import make_settings
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=18)

RUNS = int(os.environ.get("FAULTS_RUNS", "200"))
"""Runs altogether, half of them of each connector."""
_PERCENT = {"500": 5, "429": 2, "reset": 1, "truncated": 1}


class FlakyShop(GrowingShop):
    """A growing shop whose server fails a part of all requests."""

    def __init__(self, server: FaultServer, disposition: str, seed: int) -> None:
        self.faults: Counter[str] = Counter()
        self._dice = random.Random(seed)
        super().__init__(server, disposition, flat=True)

    def serve(self, path: str, respond: Any) -> None:
        def flaky(arrival: Arrival) -> Reply:
            fault = self._fault()
            self.faults[fault] += 1
            if fault == "reset":
                return Reply(reset=True)
            if fault == "500":
                return Reply({"error": "out of order"}, status=500)
            if fault == "429":
                return Reply({"error": "slow down"}, status=429, headers={"Retry-After": "1"})
            if fault == "truncated" and self._dice.random() < 0.5:
                # with a Content-Length that fits: no retry can know, and the run fails
                return Reply(json.dumps(respond(arrival)).encode()[:-5])
            return Reply(respond(arrival), cut=20 if fault == "truncated" else None)

        super().serve(path, flaky)

    def _fault(self) -> str:
        number = self._dice.uniform(0, 100)
        for fault, percent in _PERCENT.items():
            if number < percent:
                return fault
            number -= percent
        return "none"


@pytest.fixture
def servers() -> Iterator[list[FaultServer]]:
    with FaultServer() as one, FaultServer() as other:
        yield [one, other]


def test_two_hundred_runs_against_a_flaky_api_leave_the_apis_rows(
    servers: list[FaultServer], tmp_path: Path
) -> None:
    """Two connectors, one merged and one appended, at the same moment into one database."""
    kinds = ("merge", "append")
    shops = [
        FlakyShop(server, kind, number)
        for number, (server, kind) in enumerate(zip(servers, kinds, strict=True))
    ]
    settings = make_settings(tmp_path)
    failed = 0
    with Nursery() as one, Nursery() as other:
        for _ in range(RUNS // 2):
            runs = []
            for shop, nursery in zip(shops, (one, other), strict=True):
                shop.grow()
                file = {**shop.file, "name": f"shop_{shop.disposition}"}
                runs.append(nursery.start(file, tmp_path, hurried=True))
            failed += sum(run.end()["ended"] > 0 for run in runs)
        # the last run may have failed; a retry is always safe
        for shop, nursery in zip(shops, (one, other), strict=True):
            file = {**shop.file, "name": f"shop_{shop.disposition}"}
            while nursery.start(file, tmp_path, hurried=True).end()["ended"]:
                failed += 1
    for shop in shops:
        assert shop.found(settings, f"shop_{shop.disposition}") == shop.expected()
        if RUNS >= 200:
            assert all(shop.faults[fault] for fault in _PERCENT), shop.faults
    print(f"\n{RUNS} runs, {failed} failed; {[dict(shop.faults) for shop in shops]}")  # noqa: T201
