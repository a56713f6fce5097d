"""The types of `auth`: dlt's four with their short forms, and those that only a file here has.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#authentication
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, Tag

from restsource_dagster.connector.env_references import without_references
from restsource_dagster.connector.models.fields import (
    FileModel,
    MethodName,
    SingleValuePath,
    Text,
    TimeFormat,
    WholeNumber,
    by_kind,
    closest_kind,
)
from restsource_dagster.connector.models.oauth_logins import (
    OAuth2ClientCredentialsAuth,
    OAuth2JwtBearerAuth,
    OAuth2PasswordAuth,
    OAuth2RefreshTokenAuth,
    OAuthLogin,
    SendAs,
    oauth_problems,
    send_as_problems,
)

__all__ = [
    "AUTH_ALIASES",
    "AUTH_TYPES",
    "OWN_AUTH_TYPES",
    "PLACEHOLDER",
    "ApiKeyAuth",
    "Auth",
    "AuthType",
    "AwsSigV4Auth",
    "BearerAuth",
    "DigestAuth",
    "HmacAuth",
    "HttpBasicAuth",
    "LoginAuth",
    "auth_problems",
]

WordAuthType = Literal["bearer", "api_key", "http_basic", "oauth2_client_credentials"]
"""dlt's own types. Their name alone stands for an `auth` whose secrets dlt looks up."""
OwnAuthType = Literal[
    "oauth2_refresh_token",
    "oauth2_password",
    "oauth2_jwt_bearer",
    "login",
    "digest",
    "hmac",
    "aws_sigv4",
]
AuthType = Literal[WordAuthType, OwnAuthType]
OWN_AUTH_TYPES: tuple[str, ...] = get_args(OwnAuthType)
AUTH_TYPES: tuple[str, ...] = (*get_args(WordAuthType), *OWN_AUTH_TYPES)
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
    "refresh_token": "oauth2_refresh_token",
    "oauth2_refresh": "oauth2_refresh_token",
    "authorization_code": "oauth2_refresh_token",
    "oauth2_authorization_code": "oauth2_refresh_token",
    "password": "oauth2_password",
    "oauth2_resource_owner_password": "oauth2_password",
    "jwt": "oauth2_jwt_bearer",
    "jwt_bearer": "oauth2_jwt_bearer",
    "oauth_jwt": "oauth2_jwt_bearer",
    "oauthjwt": "oauth2_jwt_bearer",
    "service_account": "oauth2_jwt_bearer",
    "session": "login",
    "session_token": "login",
    "http_digest": "digest",
    "digest_auth": "digest",
    "signature": "hmac",
    "hmac_sha256": "hmac",
    "aws": "aws_sigv4",
    "sigv4": "aws_sigv4",
    "aws4": "aws_sigv4",
    "awsv4": "aws_sigv4",
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


class DigestAuth(FileModel):
    """Sends a user name and a password by HTTP Digest (RFC 7616): the password itself is not sent."""

    type: Literal["digest"] = Field(description="Always `digest`.")
    username: Text = Field(description="The user name.")
    password: Text = Field(description="The password. Use a reference such as `${PASSWORD}`.")


class HmacAuth(FileModel):
    """Signs each request with a secret that the API knows, too (RFC 2104).

    The texts have placeholders: `{method}`, `{host}`, `{path}`, `{query}`, `{sorted_query}`, `{url}`,
    `{body}`, `{body_hash}`, `{timestamp}` and `{nonce}`.
    """

    type: Literal["hmac"] = Field(description="Always `hmac`.")
    secret: Text = Field(description="The secret. Use a reference such as `${SECRET}`.")
    secret_encoding: Literal["text", "hex", "base64"] = Field(
        default="text", description="How the secret is written."
    )
    message: Text = Field(description="What is signed, such as `{timestamp}{method}{path}{body}`.")
    algorithm: Literal["sha256", "sha1", "sha384", "sha512", "md5"] = Field(
        default="sha256", description="The hash of the signature, and of `{body_hash}`."
    )
    encoding: Literal["hex", "base64", "base64url"] = Field(
        default="hex", description="How the signature and `{body_hash}` are written."
    )
    headers: dict[str, Text] = Field(
        default={},
        description="Headers to send, with placeholders, and with `{signature}`: "
        '`{"X-Signature": "{signature}"}`.',
    )
    params: dict[str, Text] = Field(
        default={},
        description="Query parameters to send, as `headers`. Those without `{signature}` are in the "
        "`{query}` that is signed.",
    )
    timestamp_format: TimeFormat = Field(
        default="epoch_seconds", description="How `{timestamp}` is written, in UTC."
    )


class AwsSigV4Auth(FileModel):
    """Signs each request as AWS does (Signature Version 4)."""

    type: Literal["aws_sigv4"] = Field(description="Always `aws_sigv4`.")
    access_key_id: Text = Field(description="The id of the access key.")
    secret_access_key: Text = Field(
        description="The secret access key. Use a reference such as `${AWS_SECRET_ACCESS_KEY}`."
    )
    session_token: Text | None = Field(
        default=None, description="The session token of temporary credentials."
    )
    region: Text = Field(description="The region, such as `eu-central-1`.")
    service: Text = Field(description="The service's name in signatures, such as `execute-api`.")


class LoginAuth(FileModel):
    """Sends a request whose answer has a token, or sets cookies, and sends these with each request."""

    type: Literal["login"] = Field(description="Always `login`.")
    path: Text = Field(description="The path after `base_url`, or a URL.")
    method: MethodName = Field(default="POST", description="The HTTP method.")
    headers: dict[str, Text] | None = Field(default=None, description="Headers of the request.")
    params: dict[str, Any] | None = Field(default=None, description="Query parameters.")
    json_: Any = Field(default=None, alias="json", description="The request's body as JSON.")
    data: dict[str, Any] | Text | None = Field(
        default=None, description="The request's body as a form, or as text."
    )
    token_path: SingleValuePath | None = Field(
        default=None,
        description="Where the response has the token. If left out, the cookies that it sets are sent.",
    )
    expires_in_path: SingleValuePath | None = Field(
        default=None, description="Where the response has the token's lifetime in seconds."
    )
    default_token_expiration: WholeNumber = Field(
        default=3600, description="The lifetime in seconds if the response does not say it."
    )
    send_as: SendAs = Field(
        default=SendAs.of({}),
        description="Where the token goes in each request. `Authorization: Bearer ...` if left out.",
    )


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
    Annotated[WordAuthType, Tag("#name")]
    | Annotated[BearerAuth, Tag("#bearer")]
    | Annotated[ApiKeyAuth, Tag("#api_key")]
    | Annotated[HttpBasicAuth, Tag("#http_basic")]
    | Annotated[OAuth2ClientCredentialsAuth, Tag("#oauth2_client_credentials")]
    | Annotated[OAuth2RefreshTokenAuth, Tag("#oauth2_refresh_token")]
    | Annotated[OAuth2PasswordAuth, Tag("#oauth2_password")]
    | Annotated[OAuth2JwtBearerAuth, Tag("#oauth2_jwt_bearer")]
    | Annotated[LoginAuth, Tag("#login")]
    | Annotated[DigestAuth, Tag("#digest")]
    | Annotated[HmacAuth, Tag("#hmac")]
    | Annotated[AwsSigV4Auth, Tag("#aws_sigv4")]
    | Annotated[UnknownAuth, Tag("#unknown")],
    by_kind(_auth_kind, custom_error_message="the name of a type of auth, or an object"),
]


_SIGNED_NAMES = (
    *("method", "host", "path", "query", "sorted_query", "url", "body", "body_hash"),
    *("timestamp", "nonce"),
)
PLACEHOLDER = re.compile(r"\{(\w+)\}")
"""A placeholder in the texts of `hmac`."""


def auth_problems(auth: Auth) -> Iterator[tuple[str, str, str]]:
    """Yield the contradictions in an `auth`: the field, what is wrong with it, and what to write."""
    if isinstance(auth, OAuthLogin):
        yield from oauth_problems(auth)
    elif isinstance(auth, LoginAuth):
        yield from _login_problems(auth)
    elif isinstance(auth, HmacAuth):
        yield from _hmac_problems(auth)


def _login_problems(auth: LoginAuth) -> Iterator[tuple[str, str, str]]:
    if auth.token_path is not None:
        yield from send_as_problems(auth.send_as)
    else:
        for name in ("send_as", "expires_in_path"):
            if name in auth.model_fields_set:
                yield (
                    name,
                    f"`{name}` is for a token, and without `token_path` cookies are sent",
                    f'Add "token_path", or leave out `{name}`',
                )
    if auth.json_ is not None and auth.data is not None:
        yield ("data", "`json` and `data` are both given, and a request has one body", "Keep one")


def _hmac_problems(auth: HmacAuth) -> Iterator[tuple[str, str, str]]:
    sent = {"headers": auth.headers, "params": auth.params}
    texts = [("message", auth.message)]
    texts += [(field, text) for field, given in sent.items() for text in given.values()]
    for field, text in texts:
        known = _SIGNED_NAMES if field == "message" else (*_SIGNED_NAMES, "signature")
        for name in PLACEHOLDER.findall(without_references(text)):
            if name not in known:
                yield (
                    field,
                    f"`{field}` has a placeholder that is not filled in: `{{{name}}}`",
                    f"Write one of {', '.join(f'{{{one}}}' for one in known)}",
                )
    if not any("{signature}" in text for field, text in texts if field != "message"):
        yield (
            "headers",
            "the signature is sent nowhere",
            'Add "headers": {"X-Signature": "{signature}"}',
        )
    if not PLACEHOLDER.search(auth.message):
        yield ("message", "all requests would have one signature", 'Write "{method}{path}{body}"')
