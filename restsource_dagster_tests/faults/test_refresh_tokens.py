"""Refresh tokens that rotate are stored before they are used, and no process uses one twice."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography.fernet import Fernet

from restsource_dagster.connector.models.oauth_logins import OAuth2RefreshTokenAuth
from restsource_dagster.engine.errors import TokenError
from restsource_dagster.engine.http.oauth import TokenEndpoint
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.token_store import RefreshingGrant, TokenStore
from restsource_dagster.engine.preview.preview_run import preview
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import FolderStore
from restsource_dagster_tests.faults.http_parts import (
    At,
    connector_of,
    failure_of,
    items,
    session_for,
)
from restsource_dagster_tests.faults.secret_places import MARK
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.authlib_server import CLIENT_ID, CLIENT_SECRET, OAuthServer
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.faults(row=7)
FIRST = "c4n4ry-refresh-0"


@pytest.fixture
def desk(server: FaultServer) -> OAuthServer:
    return OAuthServer(server)


class TokenPlace(Protocol):
    """Where a token endpoint is."""

    @property
    def url(self) -> str:
        """The server's base URL."""

    @property
    def token_url(self) -> str:
        """The URL that issues tokens."""


def auth_of(desk: TokenPlace, refresh: str | None, **more: Any) -> dict[str, Any]:
    return {
        "type": "oauth2_refresh_token",
        "access_token_url": desk.token_url,
        "client_id": CLIENT_ID,
        "client_secret": "${SECRET}",
        "refresh_token": refresh,
        **more,
    }


def run(desk: OAuthServer, settings: Settings, refresh: str = FIRST) -> Outcome:
    """A run of a connector with this login."""
    client = {"auth": auth_of(desk, "${REFRESH}")}
    connector = connector_of(desk.url, items(data_selector="data"), client=client)
    environment = {"SECRET": CLIENT_SECRET, "REFRESH": refresh}
    return load(connector, settings, environment=environment)["items"]


def grant_of(
    desk: TokenPlace,
    state_dir: Path,
    refresh: str | None = FIRST,
    key: str | None = None,
    **more: Any,
) -> RefreshingGrant:
    """What a run requests its access tokens with."""
    given = auth_of(desk, refresh, client_secret=CLIENT_SECRET, **more)
    login = OAuth2RefreshTokenAuth.model_validate(given)
    endpoint = TokenEndpoint(session_for(desk), Redactor([CLIENT_SECRET, refresh or ""]), login)
    return RefreshingGrant(
        endpoint, login, TokenStore(FolderStore(state_dir, key)).tokens_of(login, "shop"), "shop"
    )


def refusal(grant: RefreshingGrant) -> str:
    with pytest.raises(TokenError) as caught:
        grant(None)
    assert MARK not in str(caught.value)
    return str(caught.value)


def token_file(settings: Settings) -> Path:
    (file,) = (settings.state_dir / "tokens").glob("*.json")
    return file


def test_a_rotated_token_is_stored_and_the_next_run_uses_its_successor(
    desk: OAuthServer, settings: Settings
) -> None:
    assert run(desk, settings).rows_loaded == 2
    stored = json.loads(token_file(settings).read_text())["refresh_token"]
    # the API refuses the stored access token, too
    desk.access_tokens.clear()
    assert run(desk, settings).rows_loaded == 2
    assert desk.refreshes == [FIRST, stored]
    file = token_file(settings)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_preview_stores_a_rotated_token_too(desk: OAuthServer, settings: Settings) -> None:
    client = {"auth": auth_of(desk, FIRST, client_secret=CLIENT_SECRET)}
    connector = connector_of(desk.url, items(data_selector="data"), client=client)
    found = preview(connector, settings=settings, environment={})
    assert (found.resources[0].received, found.problems) == (2, ())
    stored = json.loads(token_file(settings).read_text())["refresh_token"]
    assert stored in desk.logins
    assert MARK not in repr(found)


def test_a_stored_access_token_serves_the_next_process(desk: OAuthServer, tmp_path: Path) -> None:
    first, second = grant_of(desk, tmp_path), grant_of(desk, tmp_path)
    before = first(None).value
    assert second(None).value == before
    assert desk.refreshes == [FIRST]
    # expired a second before its end, by the clock that all processes share
    later = replace(second, clock=lambda: time.time() + desk.lifetime - 59)
    assert later(None).value != before
    assert len(set(desk.refreshes)) == len(desk.refreshes) == 2


def test_a_token_that_does_not_rotate_is_used_again(desk: OAuthServer, tmp_path: Path) -> None:
    desk.rotates = False
    desk.server.plan["/token"] = lambda seen: without_refresh_token(desk.give(seen))
    grant = grant_of(desk, tmp_path)
    assert grant(None).value != grant(grant(None).value).value
    assert desk.refreshes == [FIRST, FIRST]


def without_refresh_token(reply: Reply) -> Any:
    content = json.loads(reply.body)
    return {name: value for name, value in content.items() if name != "refresh_token"}


def test_a_changed_token_of_the_file_is_taken_in_place_of_the_stored_one(
    desk: OAuthServer, tmp_path: Path
) -> None:
    grant_of(desk, tmp_path)(None)
    desk.save_token({"access_token": "unused", "refresh_token": "c4n4ry-refresh-new"}, None)
    grant_of(desk, tmp_path, "c4n4ry-refresh-new")(None)
    assert desk.refreshes == [FIRST, "c4n4ry-refresh-new"]
    assert not any(MARK in path.name for path in (tmp_path / "tokens").iterdir())


def used_files(folder: Path) -> int:
    return len(list((folder / "tokens").glob("*.json")))


def test_replaced_tokens_are_removed_once_nobody_has_used_them_for_a_month(
    desk: OAuthServer, settings: Settings
) -> None:
    assert run(desk, settings).rows_loaded == 2
    replaced = token_file(settings)
    desk.save_token({"access_token": "unused", "refresh_token": "c4n4ry-refresh-new"}, None)
    assert run(desk, settings, "c4n4ry-refresh-new").rows_loaded == 2
    # a process that has started with the old `.env` may go on with them
    assert run(desk, settings, "c4n4ry-refresh-new").rows_loaded == 2
    assert used_files(settings.state_dir) == 2
    month_ago = time.time() - 31 * 86_400
    os.utime(replaced, (month_ago, month_ago))
    assert run(desk, settings, "c4n4ry-refresh-new").rows_loaded == 2
    assert not replaced.exists()
    assert used_files(settings.state_dir) == 1


def test_tokens_stay_that_nothing_replaces_or_that_are_not_of_the_connector_alone(
    desk: OAuthServer, tmp_path: Path
) -> None:
    ours = grant_of(desk, tmp_path)
    store, later = TokenStore(FolderStore(tmp_path)), datetime.now(UTC) + timedelta(days=31)
    client = {"auth": auth_of(desk, "c4n4ry-refresh-new", client_secret=CLIENT_SECRET)}
    connector = connector_of(desk.url, items(data_selector="data"), client=client)
    ours(None)
    store.remove_replaced(connector, later)
    assert used_files(tmp_path) == 1  # the new ones are not there yet
    replace(ours, connector="billing")(ours(None).value)
    desk.save_token({"access_token": "unused", "refresh_token": "c4n4ry-refresh-new"}, None)
    grant_of(desk, tmp_path, "c4n4ry-refresh-new")(None)
    (tmp_path / "tokens" / "damaged.json").write_text("{")
    store.remove_replaced(connector, later)
    assert used_files(tmp_path) == 3


def test_a_refused_token_says_how_to_log_in_again(desk: OAuthServer, tmp_path: Path) -> None:
    message = refusal(grant_of(desk, tmp_path, "c4n4ry-revoked"))
    assert "The refresh token has expired, was revoked or was used before" in message
    assert "Run `restsource login shop`" in message
    # a refusal issues nothing, so nothing can be lost
    assert "a process ended" not in refusal(grant_of(desk, tmp_path, "c4n4ry-revoked")).lower()
    assert "Run `restsource login shop`" in refusal(grant_of(desk, tmp_path, None))


def test_tokens_are_encrypted_with_the_key_of_the_settings(
    desk: OAuthServer, settings: Settings
) -> None:
    state = settings.state_dir
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    first = grant_of(desk, state)(None).value
    assert MARK in token_file(settings).read_text()
    second = grant_of(desk, state, key=old)(first).value
    assert MARK not in token_file(settings).read_text()
    assert grant_of(desk, state, key=f"{new},{old}")(None).value == second
    assert "Set RESTSOURCE_TOKEN_KEY" in refusal(grant_of(desk, state))
    assert "another key than RESTSOURCE_TOKEN_KEY" in refusal(grant_of(desk, state, key=new))
    assert "is no key. Make one" in refusal(grant_of(desk, state, key="c4n4ry-no-key"))
    token_file(settings).write_text('{"half')
    assert "Delete the file" in refusal(grant_of(desk, state, key=old))


def test_nothing_is_requested_if_tokens_cannot_be_stored(desk: OAuthServer, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("no folder")
    assert "can't be written" in refusal(grant_of(desk, tmp_path))
    assert desk.refreshes == []


GRANTS = """
import json, os, sys
from pathlib import Path
from restsource_dagster_tests.faults.test_refresh_tokens import Desk, grant_of
url, folder, times, processes = json.loads(sys.argv[1])
def work():
    grant, token = grant_of(Desk(url), Path(folder)), None
    for _ in range(times):
        token = grant(token).value
pids = []
for _ in range(processes):
    pid = os.fork()
    if pid == 0:
        sys.stdin.readline()
        work()
        os._exit(0)
    pids.append(pid)
print(json.dumps(pids), flush=True)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
"""


@dataclass(frozen=True)
class Desk(At):
    """The server's URLs, in another process."""

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"


class Renewals:
    """Processes that renew the token so many times each, from when `go` is called."""

    def __init__(self, desk: OAuthServer, folder: Path, *, times: int, processes: int) -> None:
        arguments = json.dumps([desk.url, str(folder), times, processes])
        self._parent = subprocess.Popen(
            [sys.executable, "-c", GRANTS, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._parent.stdout is not None
        self.pids: list[int] = json.loads(self._parent.stdout.readline())

    def go(self) -> list[int]:
        """Let them go, and return their exit codes; of a killed one its signal, negative."""
        told, _ = self._parent.communicate("go\n" * len(self.pids), timeout=PATIENCE_SECONDS)
        codes: list[int] = json.loads(told)
        return codes


def test_processes_never_use_a_refresh_token_twice(desk: OAuthServer, tmp_path: Path) -> None:
    assert Renewals(desk, tmp_path, times=15, processes=3).go() == [0, 0, 0]
    # a process may take the token that another one has just renewed
    assert len(set(desk.refreshes)) == len(desk.refreshes) >= 15


def test_a_kill_before_the_answer_is_stored_is_survived_with_a_grace_period(
    desk: OAuthServer, settings: Settings
) -> None:
    killed = Renewals(desk, settings.state_dir, times=1, processes=1)

    def kill(seen: Arrival) -> Any:
        # the API has rotated the token, and nobody gets the answer
        reply = desk.give(seen)
        os.kill(killed.pids[0], signal.SIGKILL)
        return reply

    desk.server.plan["/token"] = kill
    assert killed.go() == [-signal.SIGKILL]
    assert json.loads(token_file(settings).read_text())["is_unanswered"] is True
    desk.server.plan["/token"] = desk.give
    message = failure_of(run(desk, settings))
    assert "the successor of the token is lost" in message
    assert "Run `restsource login shop`" in message
    # an API with a grace period takes the old token again
    desk.has_grace = True
    assert run(desk, settings).rows_loaded == 2
    assert desk.refreshes == [FIRST] * 3
    assert json.loads(token_file(settings).read_text())["is_unanswered"] is False
