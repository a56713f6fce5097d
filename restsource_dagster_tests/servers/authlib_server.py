"""An OAuth 2.0 server by Authlib: it checks clients, grants and signatures by its own code, not by ours."""

import json
import secrets
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Request, grants
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from joserfc.jwk import KeySet, RSAKey

from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "PASSWORD", "OAuthServer", "private_key"]

CLIENT_ID = "shop-client"
CLIENT_SECRET = "c4n4ry-client-secret"
PASSWORD = "c4n4ry-password"
_METHODS = ["client_secret_basic", "client_secret_post", "client_assertion_jwt", "none"]


@cache
def private_key(key_id: str = "key-1") -> RSAKey:
    """A private key, the same one each time: making one takes long."""
    return RSAKey.generate_key(2048, {"kid": key_id, "use": "sig"}, private=True)


@dataclass
class Client:
    """The one client that is registered, and how it has to prove itself."""

    method: str
    redirect_uris: list[str] = field(default_factory=list)
    client_id: str = CLIENT_ID

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str) -> str:
        return scope or ""

    def check_redirect_uri(self, uri: str) -> bool:
        # as RFC 8252 says: any port of the loopback interface
        return uri.startswith("http://127.0.0.1:")

    def check_client_secret(self, secret: str) -> bool:
        return secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method

    def check_response_type(self, kind: str) -> bool:
        return kind == "code"

    def check_grant_type(self, kind: str) -> bool:
        return True


@dataclass
class Login:
    """Tokens that were issued together."""

    refresh_token: str
    scope: str = ""
    is_used: bool = False

    def check_client(self, client: Client) -> bool:
        return True

    def get_scope(self) -> str:
        return self.scope


class _Refresh(grants.RefreshTokenGrant):
    INCLUDE_NEW_REFRESH_TOKEN = True
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def authenticate_refresh_token(self, refresh_token: str) -> Login | None:
        login: Login | None = self.server.logins.get(refresh_token)
        self.server.refreshes.append(refresh_token)
        if login is None or (login.is_used and not self.server.has_grace):
            return None
        return login

    def authenticate_user(self, refresh_token: Login) -> str:
        return "ann"

    def revoke_old_credential(self, refresh_token: Login) -> None:
        refresh_token.is_used = self.server.rotates


class _Password(grants.ResourceOwnerPasswordCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def authenticate_user(self, username: str, password: str) -> str | None:
        return "ann" if (username, password) == ("ann", PASSWORD) else None


class _Credentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS


class _Assertion(JWTBearerGrant):
    def resolve_issuer_client(self, issuer: str) -> Client | None:
        return self.server.client if issuer == "robot@shop" else None

    def resolve_client_public_key(self, client: Client) -> Any:
        return self.server.public_keys

    def authenticate_user(self, subject: str) -> str | None:
        return subject if subject in ("robot@shop", "ann") else None

    def has_granted_permission(self, client: Client, user: str) -> bool:
        return True

    def get_audiences(self) -> list[str]:
        return [self.server.token_url]


class _Code(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def save_authorization_code(self, code: str, request: Any) -> None:
        self.server.codes[code] = _IssuedCode(request.payload.data)

    def query_authorization_code(self, code: str, client: Client) -> Any:
        return self.server.codes.get(code)

    def delete_authorization_code(self, authorization_code: Any) -> None:
        codes = self.server.codes
        self.server.codes = {k: v for k, v in codes.items() if v is not authorization_code}

    def authenticate_user(self, authorization_code: Any) -> str:
        return "ann"


@dataclass
class _IssuedCode:
    data: dict[str, str]

    def get_redirect_uri(self) -> str:
        return self.data["redirect_uri"]

    def get_scope(self) -> str:
        return self.data.get("scope", "")

    @property
    def code_challenge(self) -> str | None:
        return self.data.get("code_challenge")

    @property
    def code_challenge_method(self) -> str | None:
        return self.data.get("code_challenge_method")


class _ClientKey(JWTBearerClientAssertion):
    def __init__(self, server: "OAuthServer") -> None:
        super().__init__()
        self._server = server
        self._seen: set[str] = set()

    def get_audiences(self) -> list[str]:
        return [self._server.token_url]

    def resolve_client_public_key(self, client: Client) -> KeySet:
        return self._server.public_keys

    def validate_jti(self, claims: Any, jti: str) -> bool:
        is_new = jti not in self._seen
        self._seen.add(jti)
        return is_new


class _Request(OAuth2Request):
    def __init__(self, arrival: Arrival) -> None:
        # Authlib refuses plain http, which is all that 127.0.0.1 has
        headers = {name.title(): text for name, text in arrival.headers.items()}
        super().__init__(arrival.method, f"https://shop.test{arrival.target}", headers=headers)
        form = dict(parse_qsl(arrival.body.decode(), keep_blank_values=True))
        self._form, self._args = form, arrival.query
        self.payload = BasicOAuth2Payload(form or arrival.query)

    @property
    def form(self) -> dict[str, str]:
        return self._form

    @property
    def args(self) -> dict[str, str]:
        return self._args


class OAuthServer(AuthorizationServer):
    """Issues tokens at `/token` and `/authorize` of a server, and guards `/items` with them.

    `refreshes` has the refresh tokens that were sent, in order. The API takes one only once, unless it
    `has_grace` or doesn't rotate them.
    """

    def __init__(self, server: FaultServer, method: str = "client_secret_post") -> None:
        super().__init__()
        self.url, self.server = server.url, server
        self.client = Client(method)
        self.key = private_key()
        self.public_keys = KeySet([self.key])
        self.logins = {"c4n4ry-refresh-0": Login("c4n4ry-refresh-0")}
        self.refreshes: list[str] = []
        self.codes: dict[str, _IssuedCode] = {}
        self.access_tokens: set[str] = set()
        self.rotates, self.has_grace, self.lifetime = True, False, 3600
        generator = BearerTokenGenerator(
            lambda **_: f"c4n4ry-access-{secrets.token_hex(8)}",
            lambda **_: f"c4n4ry-refresh-{secrets.token_hex(8)}",
            lambda client, grant: self.lifetime,
        )
        self.register_token_generator("default", generator)
        self.register_client_auth_method("client_assertion_jwt", _ClientKey(self))
        for grant in (_Refresh, _Password, _Credentials, _Assertion):
            self.register_grant(grant)
        self.register_grant(_Code, [CodeChallenge(required=True)])
        server.plan |= {
            "/token": self.give,
            "/items": self.guard,
            "/authorize": self.authorize,
        }

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def give(self, arrival: Arrival) -> Reply:
        reply: Reply = self.create_token_response(arrival)
        return reply

    def authorize(self, arrival: Arrival) -> Reply:
        grant = self.get_consent_grant(arrival, "ann")
        reply: Reply = self.create_authorization_response(arrival, grant_user="ann", grant=grant)
        return reply

    def guard(self, arrival: Arrival) -> Any:
        kind, _, token = arrival.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or token not in self.access_tokens:
            return Reply({"message": "token expired"}, status=401)
        return {"data": [{"id": 1}, {"id": 2}]}

    def query_client(self, client_id: str) -> Client | None:
        return self.client if client_id in (CLIENT_ID, "robot@shop") else None

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        self.access_tokens.add(token["access_token"])
        if "refresh_token" in token:
            self.logins[token["refresh_token"]] = Login(token["refresh_token"])

    def create_oauth2_request(self, request: Arrival) -> _Request:
        return _Request(request)

    def handle_response(self, status: int, body: Any, headers: Any) -> Reply:
        raw = body if body else {}
        given = {name: text for name, text in headers if name.lower() != "content-type"}
        return Reply(json.dumps(raw).encode() if isinstance(raw, dict) else raw, status, given)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""
