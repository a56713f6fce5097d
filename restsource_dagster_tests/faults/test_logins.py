"""Logins against real servers: grants, clients that prove themselves, sessions and certificates."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from joserfc.jwk import RSAKey
from pydantic import TypeAdapter

from restsource_dagster.connector.env_references import resolve_references
from restsource_dagster.connector.models.auth import Auth, LoginAuth
from restsource_dagster.connector.models.oauth_logins import OAuthLogin, SendAs
from restsource_dagster.engine.errors import TokenError
from restsource_dagster.engine.http.oauth import (
    LoginRequest,
    RenewingToken,
    TokenEndpoint,
    grant_token,
)
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    FakeTime,
    connector_of,
    failure_of,
    items,
    session_for,
)
from restsource_dagster_tests.faults.secret_places import MARK
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.authlib_server import (
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    OAuthServer,
    private_key,
)
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.servers.https import Certificates, HttpsServer

pytestmark = pytest.mark.faults(row=7)

PASSWORD_GRANT = {"type": "oauth2_password", "username": "ann", "password": "${PASSWORD}"}
ROBOT = {
    "type": "oauth2_jwt_bearer",
    "signing_key": {"key": "${KEY}", "key_id": "key-1"},
    "issuer": "robot@shop",
}
CLIENT = {"type": "oauth2_client_credentials"}
BY_KEY = {
    "client_authentication": "private_key_jwt",
    "client_key": {"key": "${KEY}", "key_id": "key-1"},
}
SECRET = {"client_secret": "${SECRET}"}
GRANTS: dict[str, dict[str, Any]] = {
    "client_credentials": CLIENT,
    "password": PASSWORD_GRANT,
    "refresh_token": {"type": "oauth2_refresh_token", "refresh_token": "c4n4ry-refresh-0"},
}
CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "body": ("client_secret_post", SECRET),
    "basic": ("client_secret_basic", {**SECRET, "client_authentication": "basic"}),
    "private_key_jwt": ("client_assertion_jwt", BY_KEY),
}


def environment(**more: str) -> dict[str, str]:
    key = private_key().as_pem(private=True).decode()
    return {"SECRET": CLIENT_SECRET, "PASSWORD": PASSWORD, "KEY": key, **more}


def run(desk: OAuthServer, settings: Settings, auth: dict[str, Any], **more: str) -> Outcome:
    given = {"access_token_url": desk.token_url, "client_id": CLIENT_ID, **auth}
    connector = connector_of(desk.url, items(data_selector="data"), client={"auth": given})
    outcome = load(connector, settings, environment=environment(**more))["items"]
    assert MARK not in repr(outcome)
    return outcome


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_proves_itself_in_each_grant(
    client: str, server: FaultServer, settings: Settings
) -> None:
    method, fields = CLIENTS[client]
    desk = OAuthServer(server, method)
    given = {"access_token_url": desk.token_url, "client_id": CLIENT_ID, **fields}
    resources = [
        {
            "name": name,
            "endpoint": {"path": "items", "data_selector": "data", "auth": {**given, **grant}},
        }
        for name, grant in GRANTS.items()
    ]
    connector = connector_of(desk.url, *resources)
    outcomes = load(connector, settings, environment=environment())
    assert {name: one.rows_loaded for name, one in outcomes.items()} == dict.fromkeys(GRANTS, 2)
    assert MARK not in repr(outcomes)


def test_a_service_account_logs_in_by_its_key_or_its_file(
    server: FaultServer, settings: Settings
) -> None:
    desk = OAuthServer(server)
    assert run(desk, settings, ROBOT).rows_loaded == 2
    pem = environment()["KEY"]
    account = {"private_key": pem, "private_key_id": "key-1", "client_email": "robot@shop"}
    as_file = {"type": "oauth2_jwt_bearer", "signing_key": {"key": "${KEY}"}}
    for key in (json.dumps(account), pem.replace("\n", "\\n")):
        auth = as_file if key.startswith("{") else ROBOT
        assert run(desk, settings, auth, KEY=key).rows_loaded == 2
    jwk = json.dumps(private_key().as_dict(private=True))
    assert run(desk, settings, ROBOT, KEY=jwk).rows_loaded == 2


REFUSALS: dict[str, tuple[str, dict[str, Any], dict[str, str], list[str]]] = {
    "another method": (
        "client_secret_basic",
        {**CLIENT, **SECRET},
        {},
        ['set "client_authentication": "basic"', "invalid_client"],
    ),
    "a wrong secret": (
        "client_secret_basic",
        {**CLIENT, **SECRET, "client_authentication": "basic"},
        {"SECRET": "c4n4ry-wrong"},
        ["Check client_id, client_secret", 'set "client_authentication": "body"'],
    ),
    "an unknown key": (
        "client_assertion_jwt",
        {**CLIENT, **BY_KEY},
        {"KEY": RSAKey.generate_key(2048, {"kid": "key-1"}).as_pem(private=True).decode()},
        ["may not have the public key of `client_key`", "`client_assertion_audience`"],
    ),
    "no key": (
        "client_assertion_jwt",
        {**CLIENT, **BY_KEY},
        {"KEY": "c4n4ry-no-key"},
        ["the private key can't sign with RS256"],
    ),
    "a wrong password": (
        "client_secret_post",
        {**PASSWORD_GRANT, **SECRET},
        {"PASSWORD": "c4n4ry-wrong"},
        ["The user name or the password is wrong"],
    ),
    "a wrong issuer": (
        "client_secret_post",
        {**ROBOT, "issuer": "nobody@shop"},
        {},
        ["The assertion is not accepted: check `issuer`", "clock"],
    ),
    "a wrong audience": (
        "client_secret_post",
        {**ROBOT, "audience": "elsewhere"},
        {},
        ["`audience`"],
    ),
}


def test_a_refusal_says_what_can_be_wrong(server: FaultServer) -> None:
    for name, (method, auth, more, said) in REFUSALS.items():
        desk = OAuthServer(server, method)
        given = {"access_token_url": desk.token_url, "client_id": CLIENT_ID, **auth}
        values = environment(**more)
        login: OAuthLogin = TypeAdapter[Any](Auth).validate_python(given)
        resolved = resolve_references(login, values)
        endpoint = TokenEndpoint(session_for(server), Redactor(values.values()), resolved)
        with pytest.raises(TokenError) as caught:
            grant_token(endpoint)(None)
        message = str(caught.value)
        assert message.startswith(f"no access token from {server.url}")
        assert not [text for text in said if text not in message], (name, message)
        assert MARK not in message


@pytest.mark.parametrize(
    ("package", "auth", "extra"),
    [
        ("joserfc", {"access_token_url": "http://127.0.0.1/", **ROBOT}, "logins"),
        (
            "botocore.auth",
            {
                "type": "aws_sigv4",
                "access_key_id": "a",
                "secret_access_key": "${SECRET}",
                "region": "b",
                "service": "c",
            },
            "aws",
        ),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    package: str,
    auth: dict[str, Any],
    extra: str,
    server: FaultServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    connector = connector_of(server.url, items(), client={"auth": auth})
    message = failure_of(load(connector, settings, environment=environment())["items"])
    assert f'Run pip install "restsource-dagster[{extra}]"' in message
    assert server.arrivals == []


class Desk:
    """An API that wants a session: one by a token, or one by cookies, each good for two requests."""

    def __init__(self, server: FaultServer) -> None:
        self.server, self.given, self.uses = server, 0, 0
        server.plan |= {
            "/login": self.give,
            "/form": self.set_cookies,
            "/welcome": lambda _: Reply(b"<html>", headers={"Set-Cookie": "theme=dark; Path=/"}),
            "/items": self.guard,
        }

    def give(self, seen: Arrival) -> Any:
        if json.loads(seen.body) != {"user": "ann", "password": PASSWORD}:
            return Reply({"error": "wrong password"}, status=403)
        self.given, self.uses = self.given + 1, 0
        return {"data": {"session": f"c4n4ry-session-{self.given}", "ttl": 600}}

    def set_cookies(self, seen: Arrival) -> Any:
        assert seen.body.decode() == f"user=ann&password={PASSWORD}"
        self.given, self.uses = self.given + 1, 0
        cookie = f"sid=c4n4ry-session-{self.given}; Path=/; HttpOnly"
        return Reply(status=302, headers={"Location": "/welcome", "Set-Cookie": cookie})

    def guard(self, seen: Arrival) -> Any:
        good = f"c4n4ry-session-{self.given}"
        self.uses += 1
        by_token = seen.headers.get("x-session") == good
        by_cookie = f"sid={good}" in seen.headers.get("cookie", "")
        if self.uses > 2 or not (by_token or by_cookie):
            return Reply({"error": "no session"}, status=401)
        page = int(seen.query.get("page", 1))
        return {"data": [{"id": page}], "next": f"/items?page={page + 1}" if page < 4 else None}


TOKEN_LOGIN = {
    "type": "login",
    "path": "login",
    "json": {"user": "ann", "password": "${PASSWORD}"},
    "token_path": "data.session",
    "expires_in_path": "data.ttl",
    "send_as": {"name": "X-Session"},
}
COOKIE_LOGIN = {"type": "login", "path": "form", "data": {"user": "ann", "password": "${PASSWORD}"}}


@pytest.mark.parametrize("auth", [TOKEN_LOGIN, COOKIE_LOGIN], ids=["token", "cookies"])
def test_a_session_is_opened_once_and_again_when_it_is_refused(
    auth: dict[str, Any], server: FaultServer, settings: Settings
) -> None:
    desk = Desk(server)
    connector = connector_of(
        server.url,
        items(data_selector="data", paginator={"type": "json_link", "next_url_path": "next"}),
        client={"auth": auth, "headers": {"X-Client": "1"}},
        http={"max_concurrency": 1},
    )
    outcome = load(connector, settings, environment=environment())["items"]
    assert (outcome.rows_loaded, desk.given) == (4, 2)
    for path in ("/login", "/form", "/welcome"):
        assert not any("x-client" in seen.headers for seen in server.asked(path))
    if auth is COOKIE_LOGIN:
        cookies = server.asked("/items")[-1].headers["cookie"]
        assert "sid=c4n4ry-session-2" in cookies
        assert "theme=dark" in cookies


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (TOKEN_LOGIN, "x-session"),  # its answer says 600 seconds
        ({**COOKIE_LOGIN, "default_token_expiration": 600}, "cookie"),
    ],
    ids=["token", "cookies"],
)
def test_a_session_is_opened_anew_before_its_lifetime_ends(
    auth: dict[str, Any], header: str, server: FaultServer
) -> None:
    desk, fake = Desk(server), FakeTime()
    login: LoginAuth = TypeAdapter[Any](Auth).validate_python(auth)
    login = resolve_references(login, environment())
    request = LoginRequest(
        session_for(server, time=fake), Redactor([]), login, f"{server.url}/{login.path}"
    )
    send_as = login.send_as if login.token_path else SendAs(location="cookie")
    token = RenewingToken(request, send_as, clock=fake.clock)
    start = fake.now
    for seconds, number in ((0, 1), (530, 1), (545, 2)):
        fake.now = start + seconds
        sent = requests.Request("GET", f"{server.url}/items", auth=token).prepare()
        assert f"c4n4ry-session-{number}" in sent.headers[header]
    assert desk.given == 2


def test_cookies_of_a_login_or_a_key_survive_a_redirect_within_the_origin(
    server: FaultServer, settings: Settings
) -> None:
    desk = Desk(server)
    key = {"type": "api_key", "name": "sid", "api_key": "${SECRET}", "location": "cookie"}
    moved = Reply(status=302, headers={"Location": "/items", "Set-Cookie": "theme=light; Path=/"})
    server.plan |= {
        "/moved": moved,
        "/keys": Reply(status=302, headers={"Location": "/key"}),
        "/key": lambda seen: {"data": [{"id": seen.headers.get("cookie", "")}]},
    }
    endpoint = {"data_selector": "data", "paginator": "single_page"}
    connector = connector_of(
        server.url,
        {"name": "moved", "endpoint": {**endpoint, "path": "moved", "auth": COOKIE_LOGIN}},
        {"name": "keys", "endpoint": {**endpoint, "path": "keys", "auth": key}},
    )
    outcomes = load(connector, settings, environment=environment())
    assert {name: one.rows_loaded for name, one in outcomes.items()} == {"moved": 1, "keys": 1}
    assert desk.given == 1
    # what the redirect sets wins over what the login has set
    (sent,) = (seen.headers["cookie"] for seen in server.asked("/items"))
    assert sorted(sent.split("; ")) == ["sid=c4n4ry-session-1", "theme=light"]
    assert server.asked("/key")[0].headers["cookie"] == f"sid={CLIENT_SECRET}"


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({**TOKEN_LOGIN, "json": {"user": "ann", "password": "no"}}, "wrong password"),
        ({**TOKEN_LOGIN, "token_path": "token"}, "the answer has no `token`, only data"),
        (
            {"type": "login", "path": "login", "json": TOKEN_LOGIN["json"]},
            "the answer sets no cookie",
        ),
    ],
)
def test_a_failing_login_says_why(
    auth: dict[str, Any], said: str, server: FaultServer, settings: Settings
) -> None:
    Desk(server)
    connector = connector_of(server.url, items(), client={"auth": auth})
    message = failure_of(load(connector, settings, environment=environment())["items"])
    assert said in message
    assert "Check the request of the login" in message
    assert MARK not in message


def test_a_client_certificate_is_shown_to_the_api_and_its_token_endpoint_only(
    settings: Settings, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    cert, key = certificates.issue("c4n4ry-client")
    files = {"cert": str(cert), "key": str(key), "ca": str(certificates.ca)}
    texts = {"cert": "${CERT}", "key": "${KEY}", "ca": f"${{file:{certificates.ca}}}"}
    more = {"CERT": cert.read_text(), "KEY": key.read_text()}
    with (
        HttpsServer(certificates) as api,
        HttpsServer(certificates) as desk,
        HttpsServer(certificates, asks_clients=False) as other,
    ):
        auth = {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{desk.url}/token",
            "client_id": CLIENT_ID,
            "client_secret": "${SECRET}",
        }
        elsewhere = {"name": "elsewhere", "endpoint": {"path": f"{other.url}/items"}}
        for tls in (files, texts):
            connector = connector_of(
                api.url,
                items(),
                elsewhere,
                client={"auth": auth, "tls": tls},
                http={"allowed_hosts": [other.url.removeprefix("https://")]},
            )
            outcomes = load(connector, settings, environment=environment(**more))
            assert outcomes["items"].rows_loaded == 1, outcomes["items"]
            # its authority is not one of the usual ones
            assert "CERTIFICATE_VERIFY_FAILED" in failure_of(outcomes["elsewhere"])
        assert set(api.clients) == set(desk.clients) == {"c4n4ry-client"}
        assert not any(other.clients)
        connector = connector_of(api.url, items(), client={"tls": {"ca": str(certificates.ca)}})
        assert failure_of(load(connector, settings)["items"])
        missing = {**files, "key": str(tmp_path / "missing.pem")}
        connector = connector_of(api.url, items(), client={"tls": missing})
        message = failure_of(load(connector, settings)["items"])
        assert f"client.tls.key: there is no file {tmp_path / 'missing.pem'}" in message
    assert not list(settings.state_dir.rglob("*.pem"))
