"""A server that issues OAuth tokens, and short ways to request them."""

from typing import Any

import pytest
import requests

from restsource_dagster.connector.models.oauth_logins import OAuth2ClientCredentialsAuth
from restsource_dagster.engine.errors import TokenError
from restsource_dagster.engine.http.oauth import RenewingToken, TokenEndpoint, grant_token
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster_tests.faults.http_parts import FakeTime, session_for
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

__all__ = ["SECRET", "Desk", "error_of", "send", "token_of"]

SECRET = "canary-client-secret"


class Desk:
    """Issues tokens and, on the same server, protects four pages of an API with them."""

    def __init__(self, server: FaultServer, *, lifetime: Any = 3600) -> None:
        self.server = server
        self.answer: dict[str, Any] = {"expires_in": lifetime}
        self.good = ""
        self.given = 0
        self.refusals = 0
        """The number of requests that are refused though their token is good."""
        server.plan |= {"/token": self.give, "/items": self.guard}

    def give(self, seen: Arrival) -> Any:
        self.given += 1
        self.good = f"token-{self.given:04d}"
        return {"access_token": self.good, **self.answer}

    def guard(self, seen: Arrival) -> Any:
        if seen.headers.get("authorization") != f"Bearer {self.good}" or self.refusals > 0:
            self.refusals -= 1
            return Reply({"message": "token expired"}, status=401)
        page = int(seen.query.get("page", 1))
        return {
            "data": [{"id": page}],
            "next": f"/items?page={page + 1}" if page < 4 else None,
        }

    @property
    def auth(self) -> dict[str, Any]:
        return {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{self.server.url}/token",
            "client_id": "me",
            "client_secret": "${SECRET}",
        }


def token_of(server: FaultServer, fake: FakeTime, **rules: Any) -> RenewingToken:
    login = OAuth2ClientCredentialsAuth(
        type="oauth2_client_credentials",
        access_token_url=f"{server.url}/token",
        client_id="me",
        client_secret=SECRET,
    )
    session = session_for(server, time=fake, **rules)
    endpoint = TokenEndpoint(session, Redactor([SECRET]), login)
    return RenewingToken(grant_token(endpoint), clock=fake.clock)


def send(token: RenewingToken, server: FaultServer) -> str:
    request = requests.Request("GET", f"{server.url}/items", auth=token).prepare()
    return str(request.headers["Authorization"])


def error_of(token: RenewingToken, server: FaultServer) -> str:
    with pytest.raises(TokenError) as caught:
        send(token, server)
    return str(caught.value)
