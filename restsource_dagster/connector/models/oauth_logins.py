"""The types of `auth` by OAuth 2.0 (RFC 6749), and what they share with other logins that obtain tokens."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from restsource_dagster.connector.models.fields import (
    FileModel,
    PythonOnly,
    SingleValuePath,
    Text,
    WholeNumber,
    count_from_one,
)

__all__ = [
    "OWN_AUTH_FIELDS",
    "Authorization",
    "OAuth2ClientCredentialsAuth",
    "OAuth2JwtBearerAuth",
    "OAuth2PasswordAuth",
    "OAuth2RefreshTokenAuth",
    "OAuthLogin",
    "SendAs",
    "SigningKey",
    "oauth_problems",
    "send_as_problems",
]

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
PortNumber = Annotated[int, *count_from_one(65535)]
LifetimeSeconds = Annotated[int, *count_from_one(3600)]


class SendAs(FileModel):
    """Where a token goes in each request."""

    location: Literal["header", "query", "cookie"] = Field(
        default="header", description="The part of the request that has the token."
    )
    name: Text | None = Field(
        default=None,
        description="The name of the header, the query parameter or the cookie. A header is "
        "`Authorization` if left out; the others need a name.",
    )
    scheme: Text | None = Field(
        default=None,
        description="The word before the token in a header. If left out, it is `Bearer` in "
        "`Authorization`, and no word elsewhere; an empty text is no word.",
    )

    @property
    def header_prefix(self) -> str:
        """The text before the token in a header."""
        word = self.scheme
        # APIs that name a header of their own take the bare token in it
        if word is None:
            word = "Bearer" if (self.name or "Authorization").lower() == "authorization" else ""
        return f"{word} " if word else ""


class SigningKey(FileModel):
    """A private key that signs JSON web tokens."""

    key: Text = Field(
        description="The key: PEM, a JSON web key (JWK), or the whole JSON of a Google service "
        "account. Use a reference such as `${file:/run/secrets/key.pem}`."
    )
    key_id: Text | None = Field(
        default=None, description="The key's id (`kid`), by which the API finds the public key."
    )
    algorithm: SigningAlgorithm = Field(
        default="RS256", description="The algorithm (`alg`) of the signature."
    )


class OAuthLogin(FileModel):
    """What all types of OAuth 2.0 have: how a token is requested, read and sent."""

    access_token_url: Text = Field(
        default="",
        description="The URL that issues tokens. For `oauth2_client_credentials`, dlt looks for it in "
        "secrets.toml and its vaults if it is left out.",
    )
    client_id: Text | None = Field(default=None, description="The client's id.")
    client_secret: Text | None = Field(
        default=None, description="The client's secret. Use a reference such as `${SECRET}`."
    )
    client_authentication: Literal["body", "basic", "private_key_jwt"] = Field(
        default="body",
        description="How the client proves itself to `access_token_url`: id and secret in the body of "
        "the request, or as user name and password (HTTP Basic), or a token signed with "
        "`client_key` (RFC 7523) in place of the secret.",
    )
    client_key: SigningKey | None = Field(
        default=None, description="The key for `private_key_jwt`."
    )
    client_assertion_audience: Text | None = Field(
        default=None,
        description="The `aud` of the token for `private_key_jwt`. `access_token_url` if left out.",
    )
    access_token_request_data: dict[str, Any] | None = Field(
        default=None,
        description="More fields for the token request, such as `scope` or `audience`.",
    )
    access_token_request_headers: dict[str, Text] | None = Field(
        default=None, description="More headers for the token request."
    )
    default_token_expiration: WholeNumber | None = Field(
        default=3600,
        description="Lifetime of a token in seconds if the response does not say it.",
    )
    token_path: SingleValuePath = Field(
        default="access_token", description="Where the response has the token."
    )
    expires_in_path: SingleValuePath = Field(
        default="expires_in", description="Where the response has the token's lifetime in seconds."
    )
    send_as: SendAs = Field(
        default=SendAs.of({}),
        description="Where the token goes in each request. `Authorization: Bearer ...` if left out.",
    )


class OAuth2ClientCredentialsAuth(OAuthLogin):
    """Requests an access token with the OAuth 2.0 client credentials grant, and sends it."""

    type: Literal["oauth2_client_credentials"] = Field(
        description="Always `oauth2_client_credentials`."
    )
    access_token: Text | None = Field(
        default=None, description="A token to start with. Rarely needed."
    )
    session: PythonOnly = Field(default=None, description="Python only: not for files.")


class OAuth2PasswordAuth(OAuthLogin):
    """Requests an access token with a user's name and password (RFC 6749, 4.3), and sends it."""

    type: Literal["oauth2_password"] = Field(description="Always `oauth2_password`.")
    access_token_url: Text = Field(description="The URL that issues tokens.")
    username: Text = Field(description="The user name.")
    password: Text = Field(description="The password. Use a reference such as `${PASSWORD}`.")


class OAuth2JwtBearerAuth(OAuthLogin):
    """Requests an access token with a signed assertion (RFC 7523), as service accounts do."""

    type: Literal["oauth2_jwt_bearer"] = Field(description="Always `oauth2_jwt_bearer`.")
    access_token_url: Text = Field(description="The URL that issues tokens.")
    signing_key: SigningKey = Field(description="The private key of the account.")
    issuer: Text | None = Field(
        default=None,
        description="The claim `iss`: the account. If left out, it is the `client_email` of a Google "
        "service account, else `client_id`.",
    )
    subject: Text | None = Field(
        default=None, description="The claim `sub`: the user to act for. `issuer` if left out."
    )
    audience: Text | None = Field(
        default=None, description="The claim `aud`. `access_token_url` if left out."
    )
    scopes: list[Text] | None = Field(
        default=None, description="The claim `scope`: the names, joined by spaces."
    )
    claims: dict[str, Any] | None = Field(default=None, description="More claims.")
    assertion_seconds: LifetimeSeconds = Field(
        default=300, description="How long the assertion is valid, at most an hour."
    )


class Authorization(FileModel):
    """Where a person allows access, with `restsource login NAME` (RFC 6749, 4.1, and RFC 7636)."""

    url: Text = Field(description="The page of the API where a person logs in and allows access.")
    scopes: list[Text] | None = Field(
        default=None, description="What to ask for: the names, joined by spaces."
    )
    params: dict[str, Text] | None = Field(
        default=None,
        description='More parameters of the page, such as `{"access_type": "offline"}`.',
    )
    redirect_host: Literal["127.0.0.1", "localhost"] = Field(
        default="127.0.0.1",
        description="How the address that the page redirects to is spelt. It is this machine in any case.",
    )
    redirect_port: PortNumber | None = Field(
        default=None,
        description="The port of that address, if the API knows one only. A free one if left out.",
    )
    redirect_path: Text = Field(default="/callback", description="The path of that address.")


class OAuth2RefreshTokenAuth(OAuthLogin):
    """Requests access tokens with a refresh token, which the API may replace each time.

    Tokens are kept in `RESTSOURCE_STATE_DIR/tokens`, so that all processes use the newest one.
    """

    type: Literal["oauth2_refresh_token"] = Field(description="Always `oauth2_refresh_token`.")
    access_token_url: Text = Field(description="The URL that issues tokens.")
    refresh_token: Text | None = Field(
        default=None,
        description="The refresh token to start with. Use a reference such as `${REFRESH_TOKEN}`. "
        "A changed one is taken in place of the stored one. It may be left out with `authorization`.",
    )
    authorization: Authorization | None = Field(
        default=None,
        description="For `restsource login NAME`, which stores the first refresh token.",
    )
    refresh_token_path: SingleValuePath = Field(
        default="refresh_token", description="Where the response has the next refresh token."
    )


_DLT_OAUTH_FIELDS = frozenset(
    {
        *("access_token_url", "client_id", "client_secret", "access_token_request_data"),
        "default_token_expiration",
    }
)
OWN_AUTH_FIELDS = frozenset(OAuthLogin.model_fields) - _DLT_OAUTH_FIELDS
"""The fields of `oauth2_client_credentials` that dlt doesn't have."""


def oauth_problems(auth: OAuthLogin) -> Iterator[tuple[str, str, str]]:
    """Yield the contradictions in a login: the field, what is wrong with it, and what to write."""
    yield from _client_problems(auth)
    yield from send_as_problems(auth.send_as)
    if not isinstance(auth, OAuth2RefreshTokenAuth):
        return
    page = auth.authorization
    if page is None and auth.refresh_token is None:
        yield (
            "refresh_token",
            "`refresh_token` is missing",
            'Add "refresh_token": "${NAME}", or "authorization": {"url": ...} for `restsource login`',
        )
    # the page asks which client wants access (RFC 6749, 4.1.1)
    if page is not None and not auth.client_id:
        yield ("authorization", "`authorization` needs a `client_id`", 'Add "client_id"')
    if page is not None and not page.redirect_path.startswith("/"):
        yield (
            "authorization",
            "`redirect_path` starts with no slash",
            f'Write "redirect_path": "/{page.redirect_path}"',
        )


def _client_problems(auth: OAuthLogin) -> Iterator[tuple[str, str, str]]:
    # an assertion is for one client at one URL: the claims `iss`, `sub` and `aud` (RFC 7523, 3)
    signs = auth.client_authentication == "private_key_jwt"
    if signs and (auth.client_key is None or not auth.client_id or not auth.access_token_url):
        yield (
            "client_authentication",
            "`private_key_jwt` needs `client_id`, `client_key` and `access_token_url`",
            'Add "client_id" and "client_key": {"key": "${file:/path/key.pem}", "key_id": ...}',
        )
    if signs and auth.client_secret is not None:
        yield ("client_secret", "`private_key_jwt` sends no secret", "Leave out `client_secret`")
    if not signs:
        for name in ("client_key", "client_assertion_audience"):
            if getattr(auth, name) is not None:
                yield (
                    name,
                    f"`{name}` is for `private_key_jwt` only",
                    f'Write "client_authentication": "private_key_jwt", or leave out `{name}`',
                )
    # dlt looks the id of its own type up in secrets.toml
    is_own = not isinstance(auth, OAuth2ClientCredentialsAuth)
    if is_own and auth.client_authentication == "basic" and not auth.client_id:
        yield (
            "client_authentication",
            "`basic` sends `client_id` and `client_secret`, and there is no `client_id`",
            'Add "client_id" and "client_secret"',
        )


def send_as_problems(send_as: SendAs) -> Iterator[tuple[str, str, str]]:
    """Yield the contradictions in where a token goes."""
    if send_as.location == "header":
        return
    if not send_as.name:
        yield (
            "send_as",
            f"a {send_as.location} needs a name",
            'Add "name" to `send_as`',
        )
    # in a query or a cookie the word would be part of the token
    if send_as.scheme is not None:
        yield (
            "send_as",
            "`scheme` is a word in a header, and this token is not sent in one",
            "Leave out `scheme`",
        )
