"""`restsource check --connect`: each destination and each login is tried once."""

import json
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster_tests.cli.runner import invoke
from restsource_dagster_tests.servers.api import Answer, ApiServer
from restsource_dagster_tests.servers.postgres import POSTGRES_PASSWORD

SECRET = "s3cret-of-the-client"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose variables are known."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    return tmp_path


def write(project: Path, name: str, url: str, **more: Any) -> None:
    auth = {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{url}/token",
        "client_id": "me",
        "client_secret": "${CLIENT_SECRET}",
    }
    file = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": url, "auth": more.pop("auth", auth)},
        # the second resource has the client's login
        "resources": ["orders", "countries"],
        **more,
    }
    (project / "configs" / f"{name}.json").write_text(json.dumps(file))


def test_each_destination_and_login_is_tried_once(
    project: Path, api: ApiServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".env").write_text(f"DESTINATION__POSTGRES__CREDENTIALS={postgres_url}\n")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", "")
    monkeypatch.setenv("DESTINATION__FILESYSTEM__BUCKET_URL", (project / "bucket").as_uri())
    api.answers["/token"] = {"access_token": "t0ken", "expires_in": 3600}
    write(project, "here", api.url)
    write(project, "in_files", api.url, destination="filesystem", auth=None)
    for name in ("first", "second"):
        write(project, name, api.url, destination="postgres")
    checked = invoke("check", "-q", "--connect")
    assert checked.exit_code == 0, checked.stdout
    assert checked.stdout.splitlines()[:-1] == [
        "destination postgres: fine",
        "first: login oauth2_client_credentials: fine",
        "destination duckdb: fine",
        "here: login oauth2_client_credentials: fine",
        "destination filesystem: fine",
        "second: login oauth2_client_credentials: fine",
    ]
    assert [seen.path for seen in api.seen] == ["/token"] * 3
    # nothing is made
    assert not (project / "data").exists()
    assert not (project / "bucket").exists()


def test_what_fails_is_named_without_a_secret(
    project: Path, api: ApiServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = postgres_url.replace(POSTGRES_PASSWORD, "wr0ng-password")
    monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", wrong)
    monkeypatch.setenv("RESTSOURCE_DESTINATION", "postgres")
    api.answers["/token"] = Answer({"error": "invalid_client"}, 401)
    write(project, "refused", api.url)
    monkeypatch.delenv("OTHER", raising=False)
    write(project, "without", api.url, auth={"type": "bearer", "token": "${OTHER}"})
    checked = invoke("check", "-q", "--connect")
    assert checked.exit_code == 1
    destination, refused, without, summary = checked.stdout.splitlines()
    assert destination.startswith("destination postgres: error: ")
    assert "password authentication failed" in destination
    assert refused.startswith("refused: login: error: no access token from ")
    assert "invalid_client" in refused
    assert "OTHER" in without
    assert summary == "2 files, 0 broken, 0 problems"
    made = json.loads(invoke("check", "-q", "--connect", "--json").stdout)["connections"]
    assert [one["what"] for one in made] == [
        "destination postgres",
        "refused: login",
        "without: login",
    ]
    for secret in (SECRET, "wr0ng-password"):
        assert secret not in checked.output + str(made)
