"""A request that gets no answer: the error says if a proxy or a header is why, not the API."""

import pytest

from restsource_dagster.settings import Settings
from restsource_dagster_tests.making import load, make_connector
from restsource_dagster_tests.ports import closed_port
from restsource_dagster_tests.servers.api import ApiServer


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def message(url: str, settings: Settings, environment: dict[str, str] | None = None) -> str:
    client = {"auth": {"token": "${TOKEN}"}}
    outcomes = load(
        make_connector(url, "rows", client=client, http={"max_wait_seconds": 0.001}),
        settings,
        environment=environment or {"TOKEN": "t0ken"},
    )
    failure = outcomes["rows"].failure
    assert failure is not None
    return failure.message


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_dead_proxy_is_named_by_its_variable(
    api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with closed_port() as port:
        monkeypatch.setenv(variable, f"http://user:pr0xy@127.0.0.1:{port}")
        text = message(api.url, settings)
    assert f"the proxy of the environment variable {variable}" in text
    assert "Is the API up" not in text
    assert "pr0xy" not in text
    assert api.seen == []


def test_a_host_without_proxy_is_not_said_to_have_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        text = message(f"http://127.0.0.1:{port}", settings)
    assert "Is the API up" in text
    assert "proxy" not in text


def test_a_line_break_at_the_end_of_a_variable_is_not_sent(
    api: ApiServer, settings: Settings
) -> None:
    api.answers["/rows"] = [{"id": 1}]
    client = {"auth": {"token": "${TOKEN}"}, "headers": {"X-Key": "key ${TOKEN}"}}
    connector = make_connector(api.url, "rows", client=client)
    outcome = load(connector, settings, environment={"TOKEN": "t0ken\r\n"})["rows"]
    assert outcome.failure is None
    (seen,) = api.seen
    assert (seen.headers["authorization"], seen.headers["x-key"]) == ("Bearer t0ken", "key t0ken")


def test_a_line_break_within_a_header_is_said_to_be_one(api: ApiServer, settings: Settings) -> None:
    text = message(api.url, settings, {"TOKEN": "t0k\nen-secret"})
    assert "A header holds a line break" in text
    assert "Is the API up" not in text
    assert "secret" not in text.replace("[secret]", "")
    assert api.seen == []
