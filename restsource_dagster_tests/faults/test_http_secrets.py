"""Row 16: a secret is found by value nowhere, whatever its place and whatever fails."""

import base64
import html
import json
import logging
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import dagster as dg
import pytest
from dlt.pipeline import trace
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.outcome import Outcome
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.secrets import secrets_of
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import Notes, connector_of, items
from restsource_dagster_tests.making import load
from restsource_dagster_tests.orchestration.shop import definitions_of
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

pytestmark = pytest.mark.faults(row=16)

CANARY = "c4n4ry+/=&% 'é\"\\{x}-Zq9"
SPACED = "c4n4ry+=&/ 'é-Zq9"  # what a path can carry
PLAIN = "c4n4ry-in-a-header-Zq9"  # what a header can carry
LITERAL = "c4n4ry-literal-0123456789abcdef"
TOKEN = "c4n4ry-token-out-of-an-answer"
MARK = "c4n4ry"
"""What all of them have in common; every search looks for it and for base64 of them."""


@dataclass(frozen=True)
class Place:
    """Where a secret may stand in a file."""

    client: Mapping[str, Any]
    endpoint: Mapping[str, Any]
    defaults: Mapping[str, Any] | None = None


def places(server: FaultServer) -> dict[str, Place]:
    """All places, as many together as go into one file."""
    key = {"type": "api_key", "name": "appid"}
    oauth = {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{server.url}/token",
        "client_id": "${PLAIN}",
        "client_secret": "${CANARY}",
        "access_token_request_data": {"audience": "${CANARY}", "assertion": LITERAL},
    }
    login = base64.b64encode(f"me:{LITERAL}".encode()).decode()
    basic = {"type": "http_basic", "username": "${PLAIN}", "password": "${CANARY}"}
    return {
        "bearer, headers, parameter": Place(
            {
                "auth": {"type": "bearer", "token": "${PLAIN}"},
                "headers": {"X-Custom": "Key ${PLAIN}", "X-Api-Key": LITERAL},
            },
            {"headers": {"X-Other": "${PLAIN}"}, "params": {"appid": "${CANARY}"}},
        ),
        "oauth, default parameter": Place(
            {"auth": oauth}, {}, {"endpoint": {"params": {"appid": "${CANARY}"}}}
        ),
        "basic, form body": Place(
            {"auth": basic}, {"method": "POST", "data": {"password": "${CANARY}"}}
        ),
        "key in the query, path": Place(
            {"auth": {**key, "api_key": "${CANARY}", "location": "query"}},
            {"path": "items/${SPACED}"},
        ),
        "key in a header, json body": Place(
            {"auth": {**key, "api_key": "${PLAIN}"}},
            {"method": "POST", "json": {"deep": {"secret": "${CANARY}", "api_key": LITERAL}}},
        ),
        "literal bearer, literal parameter": Place(
            {"auth": {"type": "bearer", "token": LITERAL}},
            {"params": {"subscription-key": LITERAL}},
        ),
        "literal basic": Place(
            {"auth": {"type": "http_basic", "username": "me", "password": LITERAL}}, {}
        ),
        "literal authorization": Place({"headers": {"Authorization": f"Bearer {LITERAL}"}}, {}),
        "literal login": Place({"headers": {"Authorization": f"Basic {login}"}}, {}),
        "login in the url": Place({"base_url": f"http://me:${{PLAIN}}@{server.url[7:]}"}, {}),
    }


PLACES = [
    "bearer, headers, parameter",
    "oauth, default parameter",
    "basic, form body",
    "key in the query, path",
    "key in a header, json body",
    "literal bearer, literal parameter",
    "literal basic",
    "literal authorization",
    "literal login",
    "login in the url",
]


def echo(seen: Arrival, status: int = 200, **more: Any) -> Reply:
    """An answer that repeats everything that was sent, in the body and in headers."""
    text = f"{seen.target} {dict(seen.headers)} {seen.body!r}"
    headers = {"Content-Type": f"text/plain; {seen.target}", "X-Echo": seen.target}
    return Reply(
        {"message": text, "reason": seen.target, "detail": seen.body.decode()},
        status=status,
        headers=headers,
        **more,
    )


def foreign_link(seen: Arrival) -> Any:
    return {"data": [{"id": 1}], "next": f"http://other.invalid{seen.target}"}


def endless_link(seen: Arrival) -> Any:
    return {"data": [{"id": 1}], "next": seen.target}


FAULTS: dict[str, Callable[[Arrival], Any]] = {
    "refused and repeated": lambda seen: echo(seen, 400),
    "unauthorized": lambda seen: echo(seen, 401),
    "not found": lambda seen: echo(seen, 404),
    "not json": lambda seen: Reply(
        f"<html>{seen.target} {dict(seen.headers)} {seen.body!r}".encode()
    ),
    "an error with 200": lambda seen: echo(seen),
    "a bad total": lambda seen: {"data": [{"id": 1}], "total": [seen.target, seen.body.decode()]},
    "redirect away": lambda seen: Reply(
        status=302, headers={"Location": f"http://other.invalid{seen.target}"}
    ),
    "redirect in a circle": lambda seen: Reply(status=302, headers={"Location": seen.target}),
    "link away": foreign_link,
    "endless link": endless_link,
    "long wait": lambda seen: Reply(status=429, headers={"Retry-After": "1200"}),
    "too late": lambda seen: Reply([], delay=30),
    "rows": lambda seen: {"data": [{"id": 1}], "next": None},
}
FEW_FAULTS = ["refused and repeated", "not json", "redirect away", "link away", "too late", "rows"]
TOTAL = {"type": "offset", "limit": 5, "stop_after_empty_page": False}


def spellings(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
    yield base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")


def hidden() -> set[str]:
    secrets = [CANARY, PLAIN, SPACED, LITERAL, TOKEN]
    secrets += [f"me:{LITERAL}", f"{PLAIN}:{CANARY}", f"me:{PLAIN}"]
    return {text for secret in secrets for text in spellings(secret)} | {MARK}


def assert_clean(text: str, where: str) -> None:
    for secret in hidden():
        at = text.find(secret)
        assert at < 0, f"{where}: ...{text[max(0, at - 80) : at + 80]}..."


def assert_clean_files(*folders: Path) -> None:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                raw = path.read_bytes()
                for secret in hidden():
                    assert secret.encode() not in raw, f"{path} has {secret}"


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
        http={"timeout_seconds": 0.2 if fault == "too late" else 20, "max_wait_seconds": 0.5},
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
            last = outcome.load.pipeline.last_trace
            assert_clean(f"{last}\n{last.asdict()}", f"{where}: trace")
    assert any("Starting new HTTP connection" in text for text in everything.messages)
    assert seen_errors
    for error in (link for error in seen_errors for link in chain_of(error)):
        assert_clean("".join(traceback.format_exception(error)), f"{place}: exception")
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


def test_a_path_that_is_skipped_is_told_without_its_secret(
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
    text = connector.definition.model_dump_json(by_alias=True, exclude_unset=True)
    (settings.configs / "shop.json").write_text(text)
    server.plan["/items"] = FAULTS[fault]
    job = definitions_of(settings).resolve_job_def("shop_job")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success is (fault == "rows")
    records = instance.all_logs(result.run_id)
    assert len(records) > 5
    for record in records:
        assert_clean(f"{record.to_json()} {record.user_message}", record.user_message)
    for name in ("logs", "storage"):
        assert_clean_files(Path(instance.root_directory) / name)


@given(
    secret=st.text(min_size=6, max_size=40).filter(lambda text: len(text.strip()) >= 6),
    before=st.text(max_size=10),
    after=st.text(max_size=10),
)
@at_most(max_examples=200, deadline=None)
def test_a_secret_is_hidden_however_it_is_spelled(secret: str, before: str, after: str) -> None:
    redact = Redactor([secret])
    raw = secret.encode("utf-8", "surrogatepass")
    spelled = {
        secret,
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
        quote(quote(raw)),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        html.escape(secret),
    }
    for text in spelled:
        assert redact(f"<{text}>") == "<[secret]>", text
    joined = (before.encode("utf-8", "surrogatepass") + raw) + after.encode(
        "utf-8", "surrogatepass"
    )
    for encoded in (base64.b64encode(joined), base64.urlsafe_b64encode(joined)):
        found = redact(encoded.decode())
        assert found != encoded.decode()


def test_a_short_secret_is_hidden_inside_of_a_login() -> None:
    redact = Redactor(["abc", "me:abc"])
    assert redact("Basic " + base64.b64encode(b"me:abc").decode()) == "Basic [secret]"


def test_no_exception_with_a_secret_in_its_chain_gets_out() -> None:
    redact = Redactor([CANARY])

    def fail() -> None:
        try:
            raise KeyError(CANARY)
        except KeyError:
            raise ValueError("something else") from None

    with pytest.raises(IngestError) as caught, redact.guarding(IngestError):
        fail()
    assert_clean("".join(traceback.format_exception(caught.value)), "exception")
    with pytest.raises(ZeroDivisionError), redact.guarding(IngestError):
        raise ZeroDivisionError


def test_what_is_no_secret_stays_readable() -> None:
    config = {
        "client": {
            "base_url": "https://${HOST}.example.com/${TENANT}",
            "headers": {"Accept": "application/json", "X-Version": "2024-01"},
        },
        "resources": [
            {"name": "orders", "endpoint": {"params": {"sort": "updated_at", "page_token": "x"}}}
        ],
    }
    environment = {"HOST": "api-of-shop", "TENANT": "tenant-17", "UNUSED": "whatever"}
    assert secrets_of(config, environment) == frozenset()
