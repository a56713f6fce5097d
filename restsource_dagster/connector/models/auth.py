"""dlt's four types of `auth`, and their short forms.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#authentication
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, Tag

from restsource_dagster.connector.models.fields import (
    FileModel,
    PythonOnly,
    Text,
    WholeNumber,
    by_kind,
    closest_kind,
)

__all__ = [
    "AUTH_ALIASES",
    "AUTH_TYPES",
    "ApiKeyAuth",
    "Auth",
    "AuthType",
    "BearerAuth",
    "HttpBasicAuth",
    "OAuth2ClientCredentialsAuth",
]

AuthType = Literal["bearer", "api_key", "http_basic", "oauth2_client_credentials"]
AUTH_TYPES: tuple[str, ...] = get_args(AuthType)
AUTH_ALIASES = {
    "oauth2": "oauth2_client_credentials",
    "oauth": "oauth2_client_credentials",
    "oauth2.0": "oauth2_client_credentials",
    "oauth_2": "oauth2_client_credentials",
    "client_credentials": "oauth2_client_credentials",
    "apikey": "api_key",
    "api-key": "api_key",
    "key": "api_key",
    "header": "api_key",
    "basic": "http_basic",
    "basic_auth": "http_basic",
    "http": "http_basic",
    "httpbasic": "http_basic",
    "bearer_token": "bearer",
    "bearertoken": "bearer",
    "token": "bearer",
}
"""Common spellings of a type, and the type that they mean."""


class BearerAuth(FileModel):
    """Sends `Authorization: Bearer <token>` with every request."""

    type: Literal["bearer"] = Field(
        default="bearer", description="Optional: an `auth` without a type is a bearer token."
    )
    token: Text | None = Field(
        default=None,
        description="The token. Use a reference such as `${SHOP_TOKEN}`. If left out, dlt looks "
        "for it in secrets.toml and its vaults.",
    )


class ApiKeyAuth(FileModel):
    """Sends a key in a header, a query parameter or a cookie."""

    type: Literal["api_key"] = Field(description="Always `api_key`.")
    name: Text | None = Field(
        default="Authorization",
        description="The name of the header, the query parameter or the cookie.",
    )
    api_key: Text | None = Field(
        default=None,
        description="The key. Use a reference such as `${SHOP_KEY}`. If left out, dlt looks for it "
        "in secrets.toml and its vaults.",
    )
    location: Literal["header", "cookie", "query", "param"] | None = Field(
        default="header",
        description="Where the key is sent. `param` is another word for `query`.",
    )


class HttpBasicAuth(FileModel):
    """Sends a user name and a password (HTTP Basic). Set both or neither."""

    model_config = ConfigDict(
        json_schema_extra={
            # For editors only. `auth_findings` reports it, because dlt's rule in
            # `resource_defaults` differs.
            "dependentRequired": {"username": ["password"], "password": ["username"]}
        }
    )

    type: Literal["http_basic"] = Field(description="Always `http_basic`.")
    username: Text | None = Field(
        default=None,
        description="The user name. Set it together with the password, or leave both out.",
    )
    password: Text | None = Field(
        default=None,
        description="The password. Use a reference such as `${SHOP_PASSWORD}`. If `null`, dlt "
        "looks for it in secrets.toml and its vaults.",
    )


class OAuth2ClientCredentialsAuth(FileModel):
    """Requests an access token with the OAuth 2.0 client credentials grant, and sends it."""

    type: Literal["oauth2_client_credentials"] = Field(
        description="Always `oauth2_client_credentials`."
    )
    access_token_url: Text = Field(
        default="",
        description="The URL that issues tokens. If left out, dlt looks for it in secrets.toml and "
        "its vaults.",
    )
    client_id: Text | None = Field(default=None, description="The client's id.")
    client_secret: Text | None = Field(
        default=None, description="The client's secret. Use a reference such as `${SECRET}`."
    )
    access_token: Text | None = Field(
        default=None, description="A token to start with. Rarely needed."
    )
    client_authentication: Literal["body", "basic"] = Field(
        default="body",
        description="How the client's id and secret are sent to `access_token_url`: in the body of "
        "the request, or as user name and password (HTTP Basic).",
    )
    access_token_request_data: dict[str, Any] | None = Field(
        default=None,
        description="More fields for the token request, such as `scope` or `audience`.",
    )
    default_token_expiration: WholeNumber | None = Field(
        default=3600,
        description="Lifetime of a token in seconds if the response has no `expires_in`.",
    )
    session: PythonOnly = Field(default=None, description="Python only: not for files.")


class UnknownAuth(FileModel):
    """An `auth` of an unknown type. Only its type is checked."""

    model_config = ConfigDict(extra="allow")

    # Always fails, because an object of a known type is another member of the union. The error lists
    # the known types.
    type: AuthType


def _auth_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "#name"
    if not isinstance(value, dict):
        return None
    # dlt takes an object without a type for a bearer token.
    return closest_kind(value.get("type", "bearer"), AUTH_TYPES, AUTH_ALIASES)


Auth = Annotated[
    Annotated[AuthType, Tag("#name")]
    | Annotated[BearerAuth, Tag("#bearer")]
    | Annotated[ApiKeyAuth, Tag("#api_key")]
    | Annotated[HttpBasicAuth, Tag("#http_basic")]
    | Annotated[OAuth2ClientCredentialsAuth, Tag("#oauth2_client_credentials")]
    | Annotated[UnknownAuth, Tag("#unknown")],
    by_kind(_auth_kind, custom_error_message="the name of a type of auth, or an object"),
]
