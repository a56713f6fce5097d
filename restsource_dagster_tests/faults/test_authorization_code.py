"""A person allows access once, and all later runs use the tokens."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
import requests

from restsource_dagster.engine.errors import TokenError
from restsource_dagster.engine.http.token_store import RefreshingGrant
from restsource_dagster.engine.run.first_login import authorize
from restsource_dagster_tests.faults.http_parts import connector_of, items
from restsource_dagster_tests.faults.secret_places import MARK
from restsource_dagster_tests.faults.test_refresh_tokens import grant_of
from restsource_dagster_tests.making import load, make_settings
from restsource_dagster_tests.ports import reserve_ports
from restsource_dagster_tests.servers.authlib_server import CLIENT_ID, CLIENT_SECRET, OAuthServer
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.telling import ROOT

pytestmark = pytest.mark.faults(row=7)


@pytest.fixture
def desk(server: FaultServer) -> OAuthServer:
    return OAuthServer(server)


def grant_for(desk: OAuthServer, folder: Path, **page: Any) -> RefreshingGrant:
    given = {"url": f"{desk.url}/authorize", **page}
    return grant_of(desk, folder, None, authorization=given)


def log_in(grant: RefreshingGrant, show: Any, seconds: float = 30.0) -> None:
    assert grant.login.authorization is not None
    authorize(grant, grant.login.authorization, show, seconds)


def changed(url: str, **params: str) -> str:
    """A URL with other parameters."""
    parts = urlsplit(url)
    query = urlencode({**dict(parse_qsl(parts.query)), **params})
    return urlunsplit(parts._replace(query=query))


def test_a_person_allows_access_and_the_tokens_are_stored(
    desk: OAuthServer, tmp_path: Path
) -> None:
    """Authlib checks the client, the redirect and the PKCE verifier."""
    grant = grant_for(desk, tmp_path, scopes=["read", "write"], params={"access_type": "offline"})
    answers = []

    def browser(url: str) -> None:
        query = dict(parse_qsl(urlsplit(url).query))
        assert (query["scope"], query["access_type"]) == ("read write", "offline")
        assert query["code_challenge_method"] == "S256"
        sent = requests.get(url, allow_redirects=False, timeout=30).headers["Location"]
        assert sent.startswith("http://127.0.0.1:")
        # a page that guesses is refused, and the login goes on; a second answer is not taken
        for address in (changed(sent, state="guess"), sent.replace("/callback", "/"), sent, sent):
            answers.append(requests.get(address, timeout=30))

    log_in(grant, browser)
    assert [answer.status_code for answer in answers] == [400, 404, 200, 410]
    assert not any(MARK in answer.text for answer in answers)
    before = len(desk.server.asked("/token"))
    assert grant(None).value in desk.access_tokens
    assert len(desk.server.asked("/token")) == before
    # and the refresh token is good
    assert grant(grant(None).value).value in desk.access_tokens


def test_a_port_and_a_path_of_the_file_are_used(desk: OAuthServer, tmp_path: Path) -> None:
    [port] = reserve_ports(1)
    page: dict[str, Any] = {
        "redirect_port": port,
        "redirect_path": "/a/b",
        "redirect_host": "localhost",
    }
    seen: list[str] = []

    def browser(url: str) -> None:
        seen.append(dict(parse_qsl(urlsplit(url).query))["redirect_uri"])
        state = dict(parse_qsl(urlsplit(url).query))["state"]
        refused = {"state": state, "error": "access_denied", "error_description": "by ann"}
        requests.get(f"http://127.0.0.1:{port}/a/b?{urlencode(refused)}", timeout=30)

    with pytest.raises(TokenError, match="access was not allowed: access_denied by ann"):
        log_in(grant_for(desk, tmp_path, **page), browser)
    assert seen == [f"http://localhost:{port}/a/b"]


def test_nobody_who_answers_and_no_refresh_token_are_clear_errors(
    desk: OAuthServer, tmp_path: Path
) -> None:
    grant = grant_for(desk, tmp_path)
    with pytest.raises(TokenError, match="nobody has allowed access within 0 s"):
        log_in(grant, lambda _: None, seconds=0.05)

    def without(seen: Arrival) -> Any:
        reply = json.loads(desk.give(seen).body)
        return {name: text for name, text in reply.items() if name != "refresh_token"}

    desk.server.plan["/token"] = without
    with pytest.raises(TokenError, match="offline_access"):
        log_in(grant, lambda url: requests.get(url, timeout=30))
    desk.server.plan["/token"] = Reply({"error": "invalid_grant"}, status=400)
    with pytest.raises(TokenError, match="invalid_grant"):
        log_in(grant, lambda url: requests.get(url, timeout=30))


BROWSER = """#!{python}
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=30).read()
"""


def test_the_command_stores_what_the_next_run_uses(desk: OAuthServer, tmp_path: Path) -> None:
    auth = {
        "type": "oauth2_refresh_token",
        "access_token_url": desk.token_url,
        "client_id": CLIENT_ID,
        "client_secret": "${SECRET}",
        "authorization": {"url": f"{desk.url}/authorize"},
    }
    client = {"base_url": desk.url, "auth": auth}
    file = {"schedule": {"mode": "manual"}, "client": client}
    file["resources"] = [items(data_selector="data")]
    settings = make_settings(tmp_path)
    settings.configs.mkdir()
    (settings.configs / "shop.json").write_text(json.dumps(file))
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable))
    browser.chmod(0o755)
    (tmp_path / ".env").write_text(f"SECRET={CLIENT_SECRET}\n")
    variables = {"RESTSOURCE_STATE_DIR": str(settings.state_dir), "BROWSER": f"{browser} %s"}
    shown = subprocess.run(
        [sys.executable, "-m", "restsource_dagster.cli", "login", "shop"],
        cwd=tmp_path,
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "Logged in. The next run of shop uses the tokens." in shown.stdout
    assert MARK not in shown.stdout + shown.stderr
    connector = connector_of(desk.url, items(data_selector="data"), client={"auth": auth})
    outcome = load(connector, settings, environment={"SECRET": CLIENT_SECRET})["items"]
    assert (outcome.rows_loaded, desk.refreshes) == (2, [])
