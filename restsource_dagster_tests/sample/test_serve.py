"""The sample's API, asked over HTTP."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from restsource_dagster_tests.servers.datasette import SampleServer

FLIGHTS = "flights.json?_shape=objects&_sort=departed_at&_nocount=1"


def pages(server: SampleServer, path: str) -> list[list[dict[str, Any]]]:
    found = []
    url: str | None = path
    while url:
        page = server.get(url)
        found.append(page["rows"])
        url = page["next_url"]
    return found


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_a_caller_without_the_token_is_refused(
    server: SampleServer, headers: dict[str, str]
) -> None:
    with pytest.raises(HTTPError, match="403") as error:
        server.get("flights.json", headers)
    error.value.close()


@pytest.mark.parametrize(
    "path", ["all_flights.json", "all_weather.json", "clock.json", ".json?sql=select+1"]
)
def test_what_is_not_for_callers_is_refused(server: SampleServer, path: str) -> None:
    url = f"{server.address}{'' if path.startswith('.') else '/'}{path}"
    with pytest.raises(HTTPError, match="403") as error:
        server.get(url)
    error.value.close()


@pytest.mark.parametrize("table", ["flights", "weather", "planes", "airports", "airlines"])
def test_all_pages_together_hold_the_counted_rows_once(server: SampleServer, table: str) -> None:
    found = [
        row for page in pages(server, f"{table}.json?_shape=objects&_size=max") for row in page
    ]
    assert len(found) == server.count(table)
    assert len({tuple(row.values()) for row in found}) == len(found)


def test_rows_that_appear_between_two_pages_come_last_and_double_nothing(
    server: SampleServer,
) -> None:
    before = server.count("flights")
    first = server.get(f"{FLIGHTS}&_size=max")
    server.set_clock(datetime.now(UTC) + timedelta(hours=6))
    rest = [row for page in pages(server, first["next_url"]) for row in page]
    ids = [row["id"] for row in first["rows"] + rest]
    assert len(ids) == server.count("flights") > before
    assert ids == list(range(1, len(ids) + 1))


def test_a_filter_from_the_last_departure_on_finds_the_new_ones_and_that_minute(
    server: SampleServer,
) -> None:
    before = server.count("flights")
    last = pages(server, f"{FLIGHTS}&id__gte={before}")[0][0]["departed_at"]
    server.set_clock(datetime.now(UTC) + timedelta(hours=3))
    found = pages(server, f"{FLIGHTS}&_size=max&departed_at__gte={quote(last)}")[0]
    new = [row for row in found if row["id"] > before]
    again = [row for row in found if row["id"] <= before]
    assert len(new) == server.count("flights") - before > 0
    assert {row["departed_at"] for row in again} == {last}


def test_serving_without_a_token_is_refused_with_the_name_of_the_variable(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "sample.serve", str(tmp_path / "nycflights.db")],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "NYC_FLIGHTS_TOKEN is not set" in result.stderr
