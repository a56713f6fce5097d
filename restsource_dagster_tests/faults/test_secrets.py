"""No secret appears in any message, log, event or file, whatever fails."""

import json
import logging
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dlt.pipeline import trace

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.connector.stock_dlt import rest_api_config
from restsource_dagster_tests.faults.http_parts import Notes, connector_of, failure_of, items
from restsource_dagster_tests.faults.secret_places import (
    CANARY,
    FAULTS,
    FEW_FAULTS,
    LITERAL,
    PLACES,
    PLAIN,
    SPACED,
    TOKEN,
    TOTAL,
    Place,
    assert_clean,
    assert_clean_files,
    chain_of,
    echo,
    places,
)
from restsource_dagster_tests.making import load
from restsource_dagster_tests.orchestration.shop import definitions_of
from restsource_dagster_tests.servers.faults import FaultServer

pytestmark = pytest.mark.faults(row=16)


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All log records, of all loggers that take part, at debug level."""
    names = ["", "dlt", "urllib3", "requests", "charset_normalizer"]
    levels = {name: logging.getLogger(name).level for name in names}
    propagates = logging.getLogger("dlt").propagate
    logging.getLogger("dlt").propagate = True
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    caplog.handler.setLevel(logging.DEBUG)
    yield caplog
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("dlt").propagate = propagates


@pytest.fixture
def seen_errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """The errors that dlt's trace is told of, which the engine then turns into outcomes."""
    seen: list[BaseException] = []
    theirs = trace.get_exception_traces

    def noting(error: BaseException, *more: Any) -> Any:
        seen.append(error)
        return theirs(error, *more)

    monkeypatch.setattr(trace, "get_exception_traces", noting)
    return seen


def run_with(
    server: FaultServer, settings: Settings, place: Place, fault: str, notes: Notes
) -> Outcome:
    server.plan = {
        "/token": {
            "access_token": TOKEN,
            "refresh_token": f"{TOKEN}-2",
            "id_token": f"{TOKEN}-3",
            "expires_in": 3600,
        },
        "/items": FAULTS[fault],
        "/items/c4n4ry+=&/%20'%C3%A9-Zq9": FAULTS[fault],
    }
    paginator = TOTAL if fault == "a bad total" else {"type": "json_link"}
    resource = items(**{"paginator": paginator, **place.endpoint})
    connector = connector_of(
        place.client.get("base_url", server.url),
        resource,
        client={key: value for key, value in place.client.items() if key != "base_url"},
        http={"timeout_seconds": 2 if fault == "too late" else 20, "max_wait_seconds": 0.5},
        defaults=place.defaults,
    )
    environment = {"CANARY": CANARY, "PLAIN": PLAIN, "SPACED": SPACED}
    return load(connector, settings, environment=environment, observer=notes)["items"]


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_nowhere_whatever_fails(
    server: FaultServer,
    settings: Settings,
    everything: pytest.LogCaptureFixture,
    seen_errors: list[BaseException],
    capfd: pytest.CaptureFixture[str],
    place: str,
) -> None:
    assert list(places(server)) == PLACES
    for fault in FAULTS if PLACES.index(place) < 5 else FEW_FAULTS:
        everything.clear()
        notes = Notes()
        outcome = run_with(server, settings, places(server)[place], fault, notes)
        sent = [seen for seen in server.arrivals if not seen.path.startswith("/token")]
        assert sent, f"{place}, {fault}: nothing was asked: {outcome.failure}"
        assert outcome.failed is (fault != "rows"), outcome
        where = f"{place}, {fault}"
        assert_clean(repr(outcome), f"{where}: outcome")
        assert_clean("\n".join(notes.texts), f"{where}: messages")
        assert_clean(everything.text, f"{where}: log")
        if outcome.load:
            last: Any = outcome.load.pipeline.last_trace
            assert_clean(f"{last}\n{last.asdict()}", f"{where}: trace")
    opened = [text for text in everything.messages if text.startswith("Starting new HTTP")]
    assert opened
    assert all("127.0.0.1" in text for text in opened)  # dlt's telemetry is off
    assert seen_errors
    for error in (link for seen in seen_errors for link in chain_of(seen)):
        # each error once: its causes and contexts are in the chain
        shown = "".join(traceback.format_exception(error, chain=False))
        assert_clean(shown, f"{place}: exception")
        assert_clean(f"{error!r} {vars(error)}", f"{place}: exception")
    captured = capfd.readouterr()
    assert_clean(captured.out + captured.err, f"{place}: standard output")
    assert_clean_files(settings.data_dir, settings.state_dir)


@pytest.mark.parametrize("fault", ["refused and repeated", "redirect away", "too late", "rows"])
def test_files_of_a_killed_run_hold_no_secret(
    server: FaultServer,
    settings: Settings,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A killed run cleans nothing up: look at the work folder while it is there."""
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
    place = Place(
        {"auth": {"type": "api_key", "name": "k", "api_key": "${CANARY}", "location": "query"}},
        {"headers": {"X-Api-Key": "${PLAIN}"}},
    )
    run_with(server, settings, place, fault, Notes())
    files = [path for path in settings.state_dir.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert_clean_files(settings.state_dir, settings.data_dir)


def test_a_secret_that_dlt_finds_itself_is_hidden_too(
    server: FaultServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCES__SHOP__CREDENTIALS__API_KEY", PLAIN)
    server.plan["/items"] = lambda seen: echo(seen, 400)
    auth = {"type": "api_key", "name": "X-Api-Key", "location": "header"}
    connector = connector_of(server.url, items(), client={"auth": auth})
    outcome = load(connector, settings)["items"]
    assert outcome.failure is not None
    assert "[secret]" in outcome.failure.message
    assert_clean(outcome.failure.message, "failure")
    assert server.arrivals[0].has(PLAIN)


def test_a_secret_of_the_connector_outvotes_one_of_all_programs(
    server: FaultServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for the request that is sent ahead, before dlt has the source."""
    monkeypatch.setenv("CREDENTIALS__API_KEY", "of-another-program")
    monkeypatch.setenv("SOURCES__SHOP__CREDENTIALS__API_KEY", PLAIN)
    auth = {"type": "api_key", "name": "X-Api-Key", "location": "header"}
    load(connector_of(server.url, items(), client={"auth": auth}), settings)
    assert [arrived.has(PLAIN) for arrived in server.arrivals] == [True]


@pytest.mark.parametrize("value", [f"{PLAIN}\nX-More: 1", f" {PLAIN}", f"{PLAIN}\u2713"])
def test_a_secret_that_no_header_can_carry_is_hidden_in_the_error(
    server: FaultServer, settings: Settings, value: str
) -> None:
    connector = connector_of(server.url, items(headers={"X-Any": "${VALUE}"}))
    outcome = load(connector, settings, environment={"VALUE": value})["items"]
    assert outcome.failed
    assert_clean(repr(outcome), "outcome")
    assert server.arrivals == []


def test_a_skipped_path_is_reported_without_its_secret(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = [{"id": 1}, {"id": 2}]
    server.plan[f"/items/1/{PLAIN}"] = [{"n": 1}]
    child = {
        "name": "children",
        "endpoint": {"path": "items/{resources.items.id}/${PLAIN}", "data_selector": "$"},
    }
    connector = connector_of(server.url, items(), child, http={"on_child_error": {"skip_up_to": 5}})
    outcome = load(connector, settings, environment={"PLAIN": PLAIN})["children"]
    assert outcome.skipped == ("items/2/[secret]",)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as ready:
        yield ready


@pytest.mark.parametrize("fault", ["refused and repeated", "redirect away", "endless link", "rows"])
def test_dagsters_events_logs_and_metadata_hold_no_secret(
    server: FaultServer,
    settings: Settings,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.setenv("PLAIN", PLAIN)
    connector = connector_of(
        server.url,
        items(params={"appid": "${CANARY}"}, paginator="json_link"),
        client={
            "headers": {"X-Api-Key": LITERAL},
            "auth": {"type": "http_basic", "username": "me", "password": "${PLAIN}"},
        },
    )
    settings.configs.mkdir(parents=True, exist_ok=True)
    file = {"name": "shop", "schedule": {"mode": "manual"}, **rest_api_config(connector)}
    (settings.configs / "shop.json").write_text(json.dumps(file))
    server.plan["/items"] = FAULTS[fault]
    job = definitions_of(settings).resolve_job_def("shop_job")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success is (fault == "rows")
    records = instance.all_logs(result.run_id)
    assert len(records) > 5
    said = "1 of 1 resources of shop were not loaded"
    assert any(said in repr(record) for record in records) is (fault != "rows")
    for record in records:
        assert_clean(f"{record!r} {record.user_message}", record.user_message)
    for name in ("logs", "storage"):
        assert_clean_files(Path(instance.root_directory) / name)


def test_a_secret_that_is_nowhere_fails_its_resource_by_name_and_no_other(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = [{"id": 1}]
    server.plan["/open"] = [{"id": 1}]
    connector = connector_of(server.url, items(auth="api_key"), "open")
    outcomes = load(connector, settings)
    assert "api_key" in failure_of(outcomes["items"])
    assert outcomes["open"].rows_loaded == 1
