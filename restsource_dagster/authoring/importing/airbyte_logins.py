"""The logins of an Airbyte manifest: an authenticator of a requester becomes an `auth`."""

from dataclasses import dataclass
from typing import Any

from restsource_dagster.authoring.importing.airbyte_components import Component, Expressions
from restsource_dagster.authoring.importing.imported_api import ImportedAuth
from restsource_dagster.authoring.importing.source_pieces import Piece
from restsource_dagster.connector.models.auth import ApiKeyAuth, BearerAuth, HttpBasicAuth
from restsource_dagster.connector.models.oauth_logins import (
    OAuth2ClientCredentialsAuth,
    OAuth2RefreshTokenAuth,
)

__all__ = ["LoginReader"]


@dataclass(frozen=True)
class LoginReader:
    """Reads the authenticators of a manifest."""

    root: Piece
    """The manifest, to which references lead."""
    expressions: Expressions

    def auth(self, component: Component) -> ImportedAuth | None:
        """Return the login of an authenticator; None if it has none, or one without a counterpart."""
        if not component.exists or component.type == "NoAuth":
            component.mapped("client.auth")
            return None
        maker = {
            "BearerAuthenticator": self._bearer,
            "BasicHttpAuthenticator": self._basic,
            "ApiKeyAuthenticator": self._api_key,
            "OAuthAuthenticator": self._oauth,
            "SelectiveAuthenticator": self._selective,
        }.get(component.type)
        made = maker(component) if maker else None
        if made is None:
            component.not_mapped("this login has no counterpart")
        else:
            component.mapped("client.auth")
        return made

    def _text(self, component: Component, name: str) -> str | None:
        piece = component.get(name)
        made = self.expressions.text(piece.value, component.parameters, readings=0)
        if made is not None:
            piece.mapped("client.auth")
        return made

    def _bearer(self, component: Component) -> ImportedAuth | None:
        token = self._text(component, "api_token")
        return BearerAuth(type="bearer", token=token) if token else None

    def _basic(self, component: Component) -> ImportedAuth | None:
        username = self._text(component, "username")
        password = self._text(component, "password")
        if username is None:
            return None
        return HttpBasicAuth(type="http_basic", username=username, password=password or "")

    def _api_key(self, component: Component) -> ImportedAuth | None:
        option = component.part("inject_into")
        # before `inject_into` there was `header`
        place = option.get("inject_into").text if option.exists else "header"
        name = option.get("field_name").text or self._text(component, "header")
        key = self._text(component, "api_token")
        places = {"header": "header", "request_parameter": "query"}
        if place not in places or not name or key is None:
            return None
        for each in ("type", "inject_into", "field_name"):
            option.get(each).mapped("client.auth")
        return ApiKeyAuth.of(
            {"type": "api_key", "name": name, "api_key": key, "location": places[place]}
        )

    def _oauth(self, component: Component) -> ImportedAuth | None:
        url = self._text(component, "token_refresh_endpoint")
        if url is None:
            return None
        scopes = [s for s in component.get("scopes").value or [] if isinstance(s, str)]
        given: dict[str, Any] = {
            "access_token_url": url,
            "client_id": self._text(component, "client_id"),
            "client_secret": self._text(component, "client_secret"),
        }
        for name, ours in (
            ("access_token_name", "token_path"),
            ("expires_in_name", "expires_in_path"),
        ):
            if text := self._text(component, name):
                given[ours] = text
        if scopes:
            component.get("scopes").mapped("client.auth")
            given["access_token_request_data"] = {"scope": " ".join(scopes)}
        component.get("grant_type").mapped("client.auth")
        is_client = component.get("grant_type").text == "client_credentials"
        if is_client:
            return OAuth2ClientCredentialsAuth.of({"type": "oauth2_client_credentials", **given})
        token = self._text(component, "refresh_token")
        return OAuth2RefreshTokenAuth.of(
            {"type": "oauth2_refresh_token", **given, "refresh_token": token}
        )

    def _selective(self, component: Component) -> ImportedAuth | None:
        choices = component.get("authenticators")
        # which one applies is a setting, and the file has one login
        for _, piece in choices.fields():
            inner = Component.of(piece, self.root, component.parameters)
            made = self.auth(inner)
            if made is not None:
                piece.guessed("client.auth", "the first of the logins that a setting chooses from")
                return made
        return None
