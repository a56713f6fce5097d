"""Read the security schemes of an OpenAPI document: which login a request has, and what it lacks."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from restsource_dagster.authoring.importing.imported_api import (
    EnvVariables,
    ImportedAuth,
    literal,
)
from restsource_dagster.authoring.importing.openapi_schemas import References
from restsource_dagster.authoring.importing.source_pieces import Piece
from restsource_dagster.connector.models.auth import (
    ApiKeyAuth,
    BearerAuth,
    DigestAuth,
    HttpBasicAuth,
)
from restsource_dagster.connector.models.oauth_logins import (
    OAuth2ClientCredentialsAuth,
    OAuth2PasswordAuth,
    OAuth2RefreshTokenAuth,
)

__all__ = ["OpenApiLogins"]

_CLIENT_FLOWS = ("clientCredentials", "application")
_TOKEN_FLOWS = ("authorizationCode", "accessCode", "password")
_OTHER_FLOWS = ("authorizationCode", "accessCode", "password", "implicit")


@dataclass
class OpenApiLogins:
    """The security schemes of a document, of OpenAPI 3 or Swagger 2, and the logins made of them."""

    root: Piece
    references: References
    variables: EnvVariables
    _made: dict[tuple[str, ...], ImportedAuth | None] = field(default_factory=dict)

    def of_document(self, operations: Sequence[Piece]) -> ImportedAuth | None:
        """Return the login of most operations."""
        chosen = [self._scheme_of(operation) for operation in operations]
        counted = Counter(each for each in chosen if each is not None)
        if not counted:
            schemes = [name for name, _ in self._schemes().fields()]
            # a document that asks for no login, but describes one, means it for all
            return next(
                (made for name in schemes if (made := self._auth((name,))) is not None), None
            )
        return self._auth(counted.most_common(1)[0][0])

    def of_operation(self, operation: Piece) -> ImportedAuth | None:
        """Return the login of an operation."""
        scheme = self._scheme_of(operation)
        return self._auth(scheme) if scheme else None

    def _schemes(self) -> Piece:
        newer = self.root.get("components", "securitySchemes")
        return newer if newer.exists else self.root.get("securityDefinitions")

    def _scheme_of(self, operation: Piece) -> tuple[str, ...] | None:
        """Return the first alternative that can become a login: schemes that are sent together."""
        own = operation.get("security")
        required = own if own.exists else self.root.get("security")
        chosen: tuple[str, ...] | None = None
        for alternative in required.elements():
            names = tuple(name for name, _ in alternative.fields())
            if chosen is None and names and self._auth(names) is not None:
                alternative.mapped("client.auth")
                chosen = names
            elif names:
                alternative.not_mapped("another way to log in; the first one is taken")
        return chosen

    def _auth(self, names: tuple[str, ...]) -> ImportedAuth | None:
        """Return the login of schemes that are sent together: that of the first one."""
        if names not in self._made:
            pieces = [self.references.follow(self._schemes().get(name)) for name in names]
            self._made[names] = self._made_of(pieces[0]) if pieces else None
            for other in pieces[1:]:
                other.not_mapped("a second login in one request: write it as a header or a param")
        return self._made[names]

    def _made_of(self, scheme: Piece) -> ImportedAuth | None:
        kind = (scheme.get("type").text or "").lower()
        maker = {
            "http": self._http,
            "basic": self._basic,
            "apikey": self._api_key,
            "oauth2": self._oauth,
            "openidconnect": self._open_id,
        }.get(kind)
        if maker is None:
            scheme.not_mapped("this kind of login is not supported")
            return None
        return maker(scheme)

    def _http(self, scheme: Piece) -> ImportedAuth | None:
        name = (scheme.get("scheme").text or "").lower()
        if name == "basic":
            return self._basic(scheme)
        if name == "bearer":
            scheme.mapped("client.auth")
            return BearerAuth(type="bearer", token=self.variables.reference("token"))
        if name == "digest":
            scheme.mapped("client.auth")
            return DigestAuth(
                type="digest",
                username=self.variables.reference("username"),
                password=self.variables.reference("password"),
            )
        scheme.not_mapped("of HTTP's logins, basic, bearer and digest are supported")
        return None

    def _basic(self, scheme: Piece) -> ImportedAuth:
        scheme.mapped("client.auth")
        return HttpBasicAuth(
            type="http_basic",
            username=self.variables.reference("username"),
            password=self.variables.reference("password"),
        )

    def _api_key(self, scheme: Piece) -> ImportedAuth | None:
        name = scheme.get("name").text or "Authorization"
        place = scheme.get("in").text
        said = scheme.get("description").text or ""
        if name.lower() == "authorization" and re.search(r"\bbearer\b", said, re.IGNORECASE):
            scheme.guessed("client.auth", "a header `Authorization`, described as a bearer token")
            return BearerAuth(type="bearer", token=self.variables.reference("token"))
        if place not in ("header", "query", "cookie"):
            scheme.not_mapped("a key is in a header, the query or a cookie")
            return None
        scheme.mapped("client.auth")
        return ApiKeyAuth(
            type="api_key",
            name=literal(name, readings=0),
            api_key=self.variables.reference("api_key"),
            location=place,
        )

    def _oauth(self, scheme: Piece) -> ImportedAuth | None:
        # in Swagger 2 the scheme is its only flow
        flows = {name: scheme.get("flows", name) for name in (*_CLIENT_FLOWS, *_OTHER_FLOWS)}
        if old := scheme.get("flow").text:
            flows[old] = scheme
        for name in _CLIENT_FLOWS:
            flow = flows[name]
            url = flow.get("tokenUrl").text
            if url and url.startswith(("https://", "http://")):
                scheme.get("type").mapped("client.auth")
                flow.get("tokenUrl").mapped("client.auth.access_token_url")
                return OAuth2ClientCredentialsAuth(
                    type="oauth2_client_credentials",
                    access_token_url=literal(url, readings=0),
                    client_id=self.variables.reference("client_id"),
                    client_secret=self.variables.reference("client_secret"),
                )
        given = [name for name in _OTHER_FLOWS if flows[name].exists]
        for name in given:
            url = flows[name].get("tokenUrl").text
            if name in _TOKEN_FLOWS and url and url.startswith(("https://", "http://")):
                return self._flow_with_token(name, scheme, flows[name], literal(url, readings=0))
        shown = given[0] if given else "unknown"
        scheme.get("type").guessed(
            "client.auth", f"OAuth 2 by the flow {shown}: the token is obtained elsewhere"
        )
        return BearerAuth(type="bearer", token=self.variables.reference("token"))

    def _flow_with_token(self, name: str, scheme: Piece, flow: Piece, url: str) -> ImportedAuth:
        """Return the login of a flow that issues refresh tokens, or takes a password."""
        flow.get("tokenUrl").mapped("client.auth.access_token_url")
        client = {
            "access_token_url": url,
            "client_id": self.variables.reference("client_id"),
            "client_secret": self.variables.reference("client_secret"),
        }
        if name == "password":
            scheme.get("type").mapped("client.auth")
            return OAuth2PasswordAuth.of(
                {
                    "type": "oauth2_password",
                    **client,
                    "username": self.variables.reference("username"),
                    "password": self.variables.reference("password"),
                }
            )
        scheme.get("type").guessed(
            "client.auth", f"OAuth 2 by the flow {name}: a person logs in once for a refresh token"
        )
        return OAuth2RefreshTokenAuth.of(
            {
                "type": "oauth2_refresh_token",
                **client,
                "refresh_token": self.variables.reference("refresh_token"),
            }
        )

    def _open_id(self, scheme: Piece) -> ImportedAuth:
        scheme.get("type").guessed("client.auth", "OpenID Connect: the token is obtained elsewhere")
        return BearerAuth(type="bearer", token=self.variables.reference("token"))
