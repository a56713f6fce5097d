"""The benchmarks measure what they say: the API, the processes, the turns."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.measures import MEASURES
from benchmarks.model import Bench, Case, Contestant, Sample, UnableError, WrongResultError
from benchmarks.processes import clean_environment, run_measured
from benchmarks.programs import Program
from benchmarks.records import CHILDREN_PER_PARENT, LINES_PER_RECORD, record, rendered
from benchmarks.registry import all_cases
from benchmarks.runner import Measured, run_case
from benchmarks.server import Api
from benchmarks.serving import requests_since, served
from restsource_dagster_tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with served(1_000) as address:
        yield address


def answered(address: str) -> dict[str, Any]:
    answer = requests.get(address, timeout=PATIENCE_SECONDS)
    answer.raise_for_status()
    value: dict[str, Any] = answer.json()
    return value


def followed(base: str, style: str, size: int) -> list[int]:
    """The ids of all pages of a resource, asked for as a client of that style does."""
    ids: list[int] = []
    address: str | None = f"{base}/orders/{style}"
    while address:
        page = answered(address)
        ids += [row["id"] for row in page["data"]]
        following = -(-len(ids) // size) + 1
        address = {
            "page": page.get("has_more") and f"?page={following}",
            "endless": page["data"] and f"?page={following}",
            "offset": len(ids) < page.get("total", 0) and f"?offset={len(ids)}",
            "cursor": page.get("next_cursor") and f"?cursor={page.get('next_cursor')}",
            "link": page.get("next"),
        }[style] or None
        if address and address.startswith("?"):
            address = f"{base}/orders/{style}{address}"
    return ids


def test_a_record_has_twenty_fields_an_object_and_three_small_objects() -> None:
    one = record(7)
    assert len(one) == 20
    assert [len(value) for value in one.values() if isinstance(value, dict)] == [4]
    assert [len(value) for value in one.values() if isinstance(value, list)] == [LINES_PER_RECORD]


def test_a_record_is_about_740_bytes() -> None:
    assert 700 < len(rendered(150_001, 1_000)) / 1_000 < 780


@pytest.mark.parametrize("style", ["page", "endless", "offset", "cursor", "link"])
def test_every_style_serves_each_record_once_and_in_order(api: str, style: str) -> None:
    assert followed(f"{api}/1000/300/0", style, 300) == list(range(1, 1_001))


@pytest.mark.parametrize(("rows", "size"), [(2, 1_000), (250, 120), (1_130, 1_000)])
def test_pages_have_any_number_of_records(api: str, rows: int, size: int) -> None:
    assert followed(f"{api}/{rows}/{size}/0", "page", size) == list(range(1, rows + 1))


def programs(*, quick: bool) -> list[Program]:
    runs = [one.run for case in all_cases(quick=quick) for one in case.contestants]
    return [run for run in runs if isinstance(run, Program)]


def addresses(program: Program) -> list[str]:
    """The paths below the API that a program asks for first, without those of each parent."""
    resources = program.orders.get("resources", [])
    paths = [each["endpoint"]["path"] for each in resources] or ["orders/page"]
    return [f"{program.api_path}/{path}" for path in paths if "{" not in path]


def test_the_api_has_what_each_case_asks_for() -> None:
    server = Api(1_000)
    asked = {each for program in programs(quick=True) for each in addresses(program)}
    assert asked
    answers = {each: server.answer(f"/{each}", "127.0.0.1") for each in sorted(asked)}
    assert {each: status for each, (status, _, _) in answers.items() if status != 200} == {}
    assert all(json.loads(b"".join(body))["data"] for _, body, _ in answers.values())


def test_no_contestant_inherits_how_this_shell_runs_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    assert {name for name in clean_environment({}) if name.startswith("PYTHON")} == {
        "PYTHONUNBUFFERED"
    }


def test_totals_are_those_of_the_path(api: str) -> None:
    page = answered(f"{api}/400/100/0/orders/page?page=2")
    assert (page["total"], page["total_pages"], page["has_more"]) == (400, 4, True)
    assert answered(f"{api}/400/100/0/orders/offset?offset=300&limit=100")["total"] == 400


def test_each_parent_has_children_of_its_own(api: str) -> None:
    parents = answered(f"{api}/200/100/0/shop/parents")["data"]
    children = [
        child["id"]
        for parent in parents[:20]
        for child in answered(f"{api}/200/100/0/shop/{parent['id']}/children")["data"]
    ]
    assert len(parents) == 200
    assert len(set(children)) == 20 * CHILDREN_PER_PARENT


def test_requests_are_counted(api: str) -> None:
    requests_since(api)
    for number in (1, 2, 3):
        answered(f"{api}/400/100/5/orders/page?page={number}")
    assert (requests_since(api), requests_since(api)) == (3, 0)


def test_what_the_api_does_not_know_is_404(api: str) -> None:
    with pytest.raises(requests.HTTPError, match="404"):
        answered(f"{api}/400/100/0/orders/nothing")


def test_a_measured_process_is_charged_for_its_children(tmp_path: Path) -> None:
    child = "x = bytearray(300_000_000)"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{child}']); print('over')"
    )
    ended = run_measured(
        [sys.executable, "-c", parent], folder=tmp_path, environment={}, limit=PATIENCE_SECONDS
    )
    assert (ended.code, ended.output) == (0, "over")
    assert ended.cost["rss"] > 300_000_000
    assert ended.cost["cpu"] > 0


def test_a_process_that_never_ends_is_ended(tmp_path: Path) -> None:
    endless = "import threading; threading.Event().wait()"
    ended = run_measured(
        [sys.executable, "-c", endless], folder=tmp_path, environment={}, limit=0.5
    )
    assert ended.code == -9


def floor_of(rows: int, expected: int) -> Program:
    orders = {"parse": "pyarrow", "batch": 2, "nested": "tables"}
    tables = {"SELECT count(*) FROM shop.orders": expected}
    return Program("floor", f"{rows}/100/0", orders, tables)


def test_a_program_is_measured_and_its_tables_are_counted(api: str, tmp_path: Path) -> None:
    sample = floor_of(500, 500)(Bench(api, tmp_path, tmp_path))
    assert {"cpu", "wall", "rss", "work_cpu", "work_wall"} <= set(sample)
    assert sample["requests"] == 5
    assert sample["work_cpu"] < sample["cpu"]


def test_a_wrong_count_fails_however_fast_it_was(api: str, tmp_path: Path) -> None:
    with pytest.raises(WrongResultError, match="gives 500, not 501"):
        floor_of(500, 501)(Bench(api, tmp_path, tmp_path))


def test_a_peer_that_is_not_installed_is_unable_and_says_so(api: str, tmp_path: Path) -> None:
    with pytest.raises(UnableError, match="`make bench` does that"):
        Program("airbyte", "100/100/0", peer="airbyte")(Bench(api, tmp_path, tmp_path))


class Turns:
    """Contestants that write down when it is their turn."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def contestant(self, name: str, error: Exception | None = None) -> Contestant:
        def run(bench: Bench) -> Sample:
            self.taken.append(name)
            assert list(bench.folder.iterdir()) == []
            if error:
                raise error
            return {"wall": float(len(self.taken))}

        return Contestant(name, name.upper(), "ours", run)


def run(*contestants: Contestant, rounds: int = 2) -> list[Measured]:
    case = Case("case", "A case", contestants)
    return run_case(case, api="", peers=Path(), rounds=rounds, say=lambda _: None)


def test_contestants_take_turns() -> None:
    turns = Turns()
    measured = run(*(turns.contestant(name) for name in "abc"))
    assert turns.taken == list("abcabc")
    assert [[sample["wall"] for sample in one.samples] for one in measured] == [
        [1, 4],
        [2, 5],
        [3, 6],
    ]


def test_one_that_cannot_run_is_left_out_and_the_others_go_on() -> None:
    turns = Turns()
    measured = run(turns.contestant("a", UnableError("no such peer")), turns.contestant("b"))
    assert turns.taken == list("abb")
    assert [(one.failure, one.wrong) for one in measured] == [
        ("no such peer", False),
        (None, False),
    ]


def test_wrong_tables_are_told_from_a_contestant_that_cannot_run() -> None:
    [one] = run(Turns().contestant("a", WrongResultError("1 row")))
    assert (one.failure, one.wrong, one.samples) == ("1 row", True, [])


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
def test_the_cases_are_sound(quick: bool) -> None:
    cases = all_cases(quick=quick)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        names = [one.name for one in case.contestants]
        assert len(set(names)) == len(names)
        for goal in case.goals:
            assert {goal.of, goal.to or goal.of} <= set(names)
            assert {goal.measure, goal.also or goal.measure} <= set(MEASURES)
            assert None in (goal.at_least, goal.at_most)
        assert set(case.shown) <= set(MEASURES)
