"""Logins beyond dlt's: how tokens are requested, read and sent."""

import hmac
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from restsource_dagster_tests.agreement.rows import Result, Row, page, refused
from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.servers.authlib_server import private_key

__all__ = ["ENVIRONMENT", "ROWS"]

TOKEN_ANSWER = {"access_token": "fresh", "token_type": "bearer", "expires_in": 3600}
_RSA: RSAKey = private_key()
_KEYS: Mapping[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), _RSA),
    "ES256": ECKey.generate_key("P-256", {"kid": "ES256"}),
    "ES384": ECKey.generate_key("P-384", {"kid": "ES384"}),
    "ES512": ECKey.generate_key("P-521", {"kid": "ES512"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "EdDSA"}),
}
_PUBLIC = KeySet(list({key.kid: key for key in _KEYS.values()}.values()))
ENVIRONMENT = {
    **{f"KEY_{name.upper()}": key.as_pem(private=True).decode() for name, key in _KEYS.items()},
    "SECRET_BASE64": "aw==",
    "SECRET_HEX": "6b",
}
"""The keys that the rows name."""


def header(name: str) -> Callable[[Result], Any]:
    return lambda result: result.seen[0].headers.get(name)


def form(seen: Seen) -> dict[str, str]:
    return dict(parse_qsl(seen.body.decode(), keep_blank_values=True))


def needs(**fields: str) -> Callable[[Seen], Any]:
    """A token if the request has these fields in its form, else 400."""

    def answer(seen: Seen) -> Any:
        sent = form(seen)
        fine = all(sent.get(name) == value for name, value in fields.items())
        return TOKEN_ANSWER if fine else Answer({"error": f"sent {sent}"}, 400)

    return answer


def needs_header(name: str, value: str) -> Callable[[Seen], Any]:
    return lambda seen: TOKEN_ANSWER if seen.headers.get(name) == value else Answer({}, 400)


def signed(field: str, key_id: str, **claims: Any) -> Callable[[Seen], Any]:
    """A token if the form has a token with these claims, signed by one of our keys."""

    def answer(seen: Seen) -> Any:
        token = jwt.decode(form(seen)[field], _PUBLIC, algorithms=list(_KEYS))
        fine = token.header.get("kid") == key_id and claims.items() <= token.claims.items()
        return TOKEN_ANSWER if fine else Answer({"error": f"{token.claims}"}, 400)

    return answer


AUTHORIZATION = header("authorization")


def login(
    name: str,
    kind: str,
    answer: Any = TOKEN_ANSWER,
    see: Callable[[Result], Any] = AUTHORIZATION,
    gives: Any = "Bearer fresh",
    says: Any = "nothing",
    **fields: Any,
) -> Row:
    """A login by OAuth 2.0; the token endpoint is below the row's path."""
    given = {
        "type": f"oauth2_{kind}",
        "access_token_url": f"{{api}}/{name}/token",
        "client_id": "${USER_NAME}",
        "client_secret": "${PASSWORD}",
        **fields,
    }
    auth = {field: value for field, value in given.items() if value is not ...}
    return Row(name, {"auth": auth}, page(1), gives, see, paths={"/token": answer}, says=says)


def bad(name: str, kind: str, **fields: Any) -> Row:
    given = login(name, kind, **fields).endpoint
    return refused(name, endpoint=given)


CREDENTIALS = "client_credentials"
PAGES: Sequence[dict[str, Any]] = (
    {"redirect_host": "127.0.0.1", "scopes": ["a"], "params": {"access_type": "offline"}},
    {"redirect_host": "localhost", "redirect_port": 8400, "redirect_path": "/cb"},
)
REFRESH: dict[str, Any] = {"kind": "refresh_token", "refresh_token": "${TOKEN}"}
USER: dict[str, Any] = {"kind": "password", "username": "${USER_NAME}", "password": "${PASSWORD}"}


def robot(signs: str = "RS256", **key: Any) -> dict[str, Any]:
    """A login by a signed assertion."""
    given = {"key": f"${{KEY_{signs.upper()}}}", "key_id": _KEYS[signs].kid, **key}
    own: dict[str, Any] = {"kind": "jwt_bearer", "issuer": "robot", "client_secret": ...}
    return {**own, "signing_key": given}


CLIENT_KEY = {"key": "${KEY_RS256}", "key_id": _RSA.kid}
BY_KEY: dict[str, Any] = {
    "kind": CREDENTIALS,
    "client_secret": ...,
    "client_authentication": "private_key_jwt",
    "client_key": CLIENT_KEY,
}


def param(name: str) -> Callable[[Result], Any]:
    return lambda result: result.seen[0].query.get(name)


def other(name: str, kind: str, see: Callable[[Result], Any], gives: Any, **fields: Any) -> Row:
    """A login of another kind; one of kind `login` is requested below the row's path."""
    more = {"path": f"{name}/login"} if kind == "login" else {}
    answer = fields.pop("answer", {"token": "fresh"})
    auth = {"type": kind, **more, **fields}
    return Row(name, {"auth": auth}, page(1), gives, see, paths={"/login": answer})


def is_sent(name: str, pattern: str) -> Callable[[Result], bool]:
    return lambda result: bool(re.fullmatch(pattern, result.seen[0].headers.get(name, "")))


def mac(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "hmac",
        "secret": "${PASSWORD}",
        "message": "{method}{path}",
        "headers": {"X-Sign": "{signature}"},
        **fields,
    }


def signature(name: str, digest: str = "sha256", key: bytes = b"pass word") -> bytes:
    return hmac.digest(key, f"GET/{name}".encode(), digest)


AWS: dict[str, Any] = {
    "kind": "aws_sigv4",
    "access_key_id": "${USER_NAME}",
    "secret_access_key": "${PASSWORD}",
    "region": "eu-central-1",
    "service": "execute-api",
}
_AWS_HEADER = r"AWS4-HMAC-SHA256 Credential=ann/\d{8}/eu-central-1/execute-api/aws4_request, .*"
SESSION: dict[str, Any] = {"kind": "login", "see": AUTHORIZATION, "gives": "Bearer fresh"}
TLS = ("cert", "key", "ca")
HASHES = ("sha256", "sha1", "sha384", "sha512", "md5")

BAD_LOGINS: Mapping[str, dict[str, Any]] = {
    "cookie_as": {"send_as": {"name": "X"}},
    "cookie_lifetime": {"expires_in_path": "ttl"},
    "two_bodies": {"json": {}, "data": "x", "token_path": "token"},
    "send_no_name": {"token_path": "token", "send_as": {"location": "query"}},
    "url": {"path": "https://<host>/login", "token_path": "token"},
}
BAD_HMACS: Mapping[str, dict[str, Any]] = {
    "unknown": {"message": "{verb}"},
    "unsigned": {"headers": {"X-Sign": "v1"}},
    "constant": {"message": "x"},
    "hash": {"algorithm": "crc32"},
    "signature_in_itself": {"message": "{signature}"},
    "time": {"timestamp_format": "soon"},
}


def as_hmac(**fields: Any) -> dict[str, Any]:
    given = mac(**fields)
    return {"type": given.pop("kind"), **given}


OTHERS = (
    other("login_token", token_path="token", json={"user": "${USER_NAME}"}, **SESSION),
    other(
        "login_form",
        token_path="data.token",
        expires_in_path="data.ttl",
        default_token_expiration=60,
        method="PUT",
        headers={"X-App": "shop"},
        params={"v": 2},
        data={"user": "${USER_NAME}"},
        send_as={"scheme": "Bearer"},
        answer=lambda seen: (
            {"data": {"token": "fresh", "ttl": 600}}
            if (seen.method, seen.query, seen.body, seen.headers.get("x-app"))
            == ("PUT", {"v": "2"}, b"user=ann", "shop")
            else Answer({}, 400)
        ),
        **SESSION,
    ),
    other(
        "login_text",
        token_path="token",
        data="<login/>",
        answer=lambda seen: {"token": "fresh"} if seen.body == b"<login/>" else Answer({}, 400),
        **SESSION,
    ),
    other(
        "login_cookie",
        "login",
        header("cookie"),
        "sid=fresh",
        headers=None,
        params=None,
        json=None,
        data=None,
        answer=Answer({}, headers={"Set-Cookie": "sid=fresh"}),
    ),
    refused("login_no_path", endpoint={"auth": {"type": "login", "token_path": "token"}}),
    *(
        refused(f"login_{name}", endpoint={"auth": {"type": "login", "path": "login", **fields}})
        for name, fields in BAD_LOGINS.items()
    ),
    other("digest", "digest", AUTHORIZATION, None, username="${USER_NAME}", password="${PASSWORD}"),
    refused("digest_half", endpoint={"auth": {"type": "digest", "username": "${USER_NAME}"}}),
    *(
        other(
            f"hmac_{name}",
            see=header("x-sign"),
            gives=signature(f"hmac_{name}", name).hex(),
            **mac(algorithm=name),
        )
        for name in HASHES
    ),
    other(
        "hmac_hex",
        see=header("x-sign"),
        gives=signature("hmac_hex").hex(),
        **mac(encoding="hex", secret_encoding="text"),
    ),
    other(
        "hmac_base64",
        see=header("x-sign"),
        gives=b64encode(signature("hmac_base64", key=b"k")).decode(),
        **mac(encoding="base64", secret="${SECRET_BASE64}", secret_encoding="base64"),
    ),
    other(
        "hmac_base64url",
        see=header("x-sign"),
        gives=urlsafe_b64encode(signature("hmac_base64url", key=b"k")).decode(),
        **mac(encoding="base64url", secret="${SECRET_HEX}", secret_encoding="hex"),
    ),
    other(
        "hmac_params",
        see=lambda result: [len(result.seen[0].query[name]) for name in ("at", "sign")],
        gives=[10, 64],
        **mac(
            headers={},
            params={"at": "{timestamp}", "sign": "{signature}"},
            message="{query}",
            timestamp_format="%Y-%m-%d",
        ),
    ),
    *(
        refused(f"hmac_{name}", endpoint={"auth": as_hmac(**fields)})
        for name, fields in BAD_HMACS.items()
    ),
    other("aws", see=is_sent("authorization", _AWS_HEADER), gives=True, **AWS),
    other(
        "aws_session",
        see=header("x-amz-security-token"),
        gives="t0ken",
        session_token="${TOKEN}",
        **AWS,
    ),
    refused("aws_half", endpoint={"auth": {"type": "aws_sigv4", "access_key_id": "${USER_NAME}"}}),
    Row("tls_null", {}, page(1), [1], file={"client": {"tls": None}}),
    # of http nothing is encrypted: the certificates are not used
    Row("tls", {}, page(1), [1], file={"client": {"tls": dict.fromkeys(TLS, "/etc/hosts")}}),
    Row("tls_nulls", {}, page(1), [1], file={"client": {"tls": dict.fromkeys(TLS)}}),
    refused("tls_key_alone", file={"client": {"tls": {"key": "/etc/hosts"}}}),
)
ROWS = (
    login("refresh", answer=needs(grant_type="refresh_token", refresh_token="t0ken"), **REFRESH),
    login(
        "refresh_path",
        answer={**TOKEN_ANSWER, "next": "n3xt"},
        refresh_token_path="next",
        **REFRESH,
    ),
    bad("refresh_no_token", "refresh_token"),
    bad(
        "refresh_no_client",
        "refresh_token",
        refresh_token="${TOKEN}",
        client_id=...,
        client_authentication="basic",
    ),
    *(
        # a run uses the refresh token that it has
        login(f"refresh_page_{number}", authorization={"url": "{api}/allow", **page}, **REFRESH)
        for number, page in enumerate(PAGES)
    ),
    bad("refresh_page_path", authorization={"url": "{api}/", "redirect_path": "x"}, **REFRESH),
    bad("refresh_page_port", authorization={"url": "{api}/", "redirect_port": 0}, **REFRESH),
    bad("refresh_page_host", authorization={"url": "{api}/", "redirect_host": "::1"}, **REFRESH),
    bad("refresh_page_url", authorization={"url": "https://<host>/"}, **REFRESH),
    bad("refresh_page_no_client", authorization={"url": "{api}/"}, client_id=..., **REFRESH),
    login("password", answer=needs(username="ann", password="pass word", client_id="ann"), **USER),
    bad("password_half", "password", username="${USER_NAME}"),
    login("jwt", answer=signed("assertion", "key-1", iss="robot", sub="robot"), **robot()),
    *(
        login(
            f"jwt_{name.lower()}",
            answer=signed("assertion", key.kid),
            **robot(name, algorithm=name),
        )
        for name, key in _KEYS.items()
    ),
    login(
        "jwt_claims",
        answer=signed("assertion", "key-1", sub="ann", aud="shop", scope="a b", extra=1),
        subject="${USER_NAME}",
        audience="shop",
        scopes=["a", "b"],
        claims={"extra": 1},
        assertion_seconds=60,
        **robot(),
    ),
    bad("jwt_no_key", "jwt_bearer", issuer="robot"),
    bad("jwt_long", assertion_seconds=3601, **robot()),
    bad("jwt_algorithm", **robot("RS256", algorithm="HS256")),
    login("client_key", answer=signed("client_assertion", "key-1", iss="ann", sub="ann"), **BY_KEY),
    login(
        "client_key_audience",
        answer=signed("client_assertion", "key-1", aud="other"),
        client_assertion_audience="other",
        **BY_KEY,
    ),
    bad("client_key_missing", **{**BY_KEY, "client_key": ...}),
    bad("client_key_and_secret", **{**BY_KEY, "client_secret": "${PASSWORD}"}),
    bad("client_key_unused", CREDENTIALS, client_key=CLIENT_KEY),
    bad("client_audience_unused", CREDENTIALS, client_assertion_audience="other"),
    login(
        "request_headers",
        CREDENTIALS,
        needs_header("x-tenant", "acme"),
        access_token_request_headers={"X-Tenant": "acme"},
    ),
    login(
        "paths_of_the_answer",
        CREDENTIALS,
        {"data": {"token": "fresh", "ttl": "60"}},
        token_path="data.token",
        expires_in_path="data.ttl",
    ),
    bad("token_path_of_many", CREDENTIALS, token_path="data[*].token"),
    login("send_scheme", CREDENTIALS, gives="Token fresh", send_as={"scheme": "Token"}),
    login("send_no_scheme", CREDENTIALS, gives="fresh", send_as={"scheme": ""}),
    login(
        "send_header",
        CREDENTIALS,
        see=header("x-token"),
        gives="fresh",
        send_as={"location": "header", "name": "X-Token"},
    ),
    login(
        "send_query",
        CREDENTIALS,
        see=param("access_token"),
        gives="fresh",
        send_as={"location": "query", "name": "access_token"},
    ),
    login(
        "send_cookie",
        CREDENTIALS,
        see=header("cookie"),
        gives="token=fresh",
        send_as={"location": "cookie", "name": "token"},
    ),
    bad("send_no_name", CREDENTIALS, send_as={"location": "query"}),
    bad(
        "send_cookie_scheme",
        CREDENTIALS,
        send_as={"location": "cookie", "name": "a", "scheme": "b"},
    ),
    *OTHERS,
)
