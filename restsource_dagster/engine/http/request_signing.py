"""Sign requests: HTTP Digest, HMAC by a template, and AWS Signature Version 4."""

import base64
import hashlib
import hmac
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

import requests
from requests.utils import parse_dict_header

from restsource_dagster.connector.models.auth import PLACEHOLDER, AwsSigV4Auth, DigestAuth, HmacAuth
from restsource_dagster.connector.time_formats import write_moment
from restsource_dagster.engine.errors import IngestError, MissingExtraError
from restsource_dagster.engine.http.session import RequestSigner

__all__ = ["AwsSigner", "DigestSigner", "HmacSigner", "make_signer"]


def make_signer(auth: DigestAuth | HmacAuth | AwsSigV4Auth) -> RequestSigner:
    """Return what signs requests as a file says; its references are resolved.

    Raises `MissingExtraError` without the package that it needs, `IngestError` for a secret that can't be read.
    """
    if isinstance(auth, DigestAuth):
        return DigestSigner(auth)
    return HmacSigner(auth) if isinstance(auth, HmacAuth) else AwsSigner(auth)


class DigestSigner(RequestSigner):
    """Answers the challenge of an API (RFC 7616).

    The digests of requests answer in a hook, which also answers another host that a redirect leads to, sends a
    request that is retried with a count that it has used, and knows no `auth-int`. Each thread has a challenge of
    its own.
    """

    def __init__(self, auth: DigestAuth) -> None:
        self._auth = auth
        self._of_thread = threading.local()

    @property
    def _challenge(self) -> Mapping[str, str]:
        """The last challenge of this thread; empty before the first one."""
        found: Mapping[str, str] = getattr(self._of_thread, "challenge", {})
        return found

    def sign(self, request: requests.PreparedRequest) -> None:
        """Answer the last challenge; before the first one, send the request as it is.

        Raises `IngestError` for a challenge that can't be answered.
        """
        if not self._challenge:
            return
        self._of_thread.count += 1
        answer = _digest_answer(self._auth, self._challenge, request, self._of_thread.count)
        request.headers["Authorization"] = answer

    def is_challenged(self, response: requests.Response) -> bool:
        """Return True for a challenge other than the last one, and keep it."""
        if response.status_code != requests.codes.unauthorized:
            return False
        given = response.headers.get("WWW-Authenticate", "")
        found = re.split(r"(?:^|,\s*)digest\s+", given, flags=re.IGNORECASE)[1:]
        parsed: list[dict[str, str]] = [
            parse_dict_header(text)  # type: ignore[no-untyped-call]
            for text in found
        ]
        known = [one for one in parsed if {"nonce", "realm"} <= one.keys()]
        # the API names the one that it likes best first
        challenge = next((one for one in known if _is_known(one)), known[0] if known else None)
        if challenge is None or challenge["nonce"] == self._challenge.get("nonce"):
            return False
        self._of_thread.challenge, self._of_thread.count = challenge, 0
        return True


_DIGESTS = {
    "md5": "md5",
    "sha": "sha1",
    "sha-256": "sha256",
    "sha-512": "sha512",
    "sha-512-256": "sha512_256",
}
"""The names of `hashlib`, by those of challenges without `-sess`."""


def _is_known(challenge: Mapping[str, str]) -> bool:
    return _hash_name(challenge) is not None


def _hash_name(challenge: Mapping[str, str]) -> str | None:
    algorithm = challenge.get("algorithm", "MD5").lower()
    return _DIGESTS.get(algorithm.removesuffix("-sess"))


def _digest_answer(
    auth: DigestAuth, challenge: Mapping[str, str], request: requests.PreparedRequest, count: int
) -> str:
    """Return the header that answers a challenge for the `count`th time (RFC 7616, 3.4)."""
    name, qop = _hash_name(challenge), _chosen_qop(challenge)
    if name is None or qop is None:
        raise IngestError(
            f"the API asks for a digest that is not supported: algorithm {challenge.get('algorithm')}, "
            f"qop {challenge.get('qop')}"
        )

    def digest(*parts: str) -> str:
        return hashlib.new(name, ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    nonce, cnonce, nc = challenge["nonce"], uuid.uuid4().hex, f"{count:08x}"
    user = digest(auth.username, challenge["realm"], auth.password)
    is_session = challenge.get("algorithm", "").lower().endswith("-sess")
    if is_session:
        user = digest(user, nonce, cnonce)
    signed = [str(request.method), request.path_url]
    if qop == "auth-int":
        signed.append(hashlib.new(name, _body_of(request), usedforsecurity=False).hexdigest())
    middle = (nonce, nc, cnonce, qop) if qop else (nonce,)
    told = {name: challenge[name] for name in ("realm", "nonce", "opaque") if name in challenge}
    quoted = {"username": auth.username, "uri": request.path_url, **told}
    quoted["response"] = digest(user, *middle, digest(*signed))
    if qop or is_session:
        quoted["cnonce"] = cnonce
    plain = {"algorithm": challenge.get("algorithm"), "qop": qop, "nc": nc if qop else None}
    fields = [f'{field}="{_escaped(text)}"' for field, text in quoted.items()]
    return (
        f"Digest {', '.join(fields + [f'{field}={text}' for field, text in plain.items() if text])}"
    )


def _chosen_qop(challenge: Mapping[str, str]) -> str | None:
    """Return what the digest covers; empty for a challenge older than RFC 2617, None if all is unknown."""
    offered = {word.strip().lower() for word in challenge.get("qop", "").split(",")}
    # without the body, where the API leaves the choice: most clients do so
    return next((one for one in ("auth", "auth-int", "") if one in offered), None)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _body_of(request: requests.PreparedRequest) -> bytes:
    body = request.body or b""
    return body.encode() if isinstance(body, str) else bytes(body)


class HmacSigner(RequestSigner):
    """Signs what the template of a file says (RFC 2104)."""

    def __init__(self, auth: HmacAuth, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` returns the nanoseconds since 1970."""
        self._auth, self._clock = auth, clock
        self._secret = _secret_bytes(auth)

    def sign(self, request: requests.PreparedRequest) -> None:
        """Add the headers and parameters of the file, filled in for this request."""
        auth = self._auth
        moment = write_moment(self._clock(), auth.timestamp_format)
        once = {"timestamp": str(moment).encode(), "nonce": uuid.uuid4().hex.encode()}
        plain = {name: text for name, text in auth.params.items() if "{signature}" not in text}
        # first: they are a part of the query that is signed
        _add_params(request, plain, self._values(request) | once)
        values = self._values(request) | once
        digest = hmac.new(self._secret, _fill(auth.message, values), auth.algorithm).digest()
        values["signature"] = _encode(digest, auth.encoding)
        for name, text in auth.headers.items():
            request.headers[name] = _fill(text, values).decode("latin-1")
        signed = {name: text for name, text in auth.params.items() if name not in plain}
        _add_params(request, signed, values)

    def _values(self, request: requests.PreparedRequest) -> dict[str, bytes]:
        parts = urlsplit(str(request.url))
        raw = _body_of(request)
        digest = hashlib.new(self._auth.algorithm, raw, usedforsecurity=False).digest()
        texts = {
            "method": str(request.method),
            "host": parts.netloc.rpartition("@")[2],
            "path": parts.path or "/",
            "query": parts.query,
            "sorted_query": "&".join(sorted(parts.query.split("&"))),
            "url": str(request.url),
        }
        values = {name: text.encode() for name, text in texts.items()}
        return values | {"body": raw, "body_hash": _encode(digest, self._auth.encoding)}


_DECODERS: Mapping[str, Callable[[str], bytes]] = {
    "text": str.encode,
    "hex": bytes.fromhex,
    "base64": partial(base64.b64decode, validate=True),
}


def _secret_bytes(auth: HmacAuth) -> bytes:
    secret: bytes | None = None
    with suppress(ValueError):
        secret = _DECODERS[auth.secret_encoding](auth.secret)
    if secret is None:  # outside of the error, whose text could show a part of the secret
        raise IngestError(
            f"the secret of `hmac` is not {auth.secret_encoding}: see `secret_encoding`"
        )
    return secret


def _add_params(
    request: requests.PreparedRequest, params: Mapping[str, str], values: Mapping[str, bytes]
) -> None:
    if params:
        filled = {name: _fill(text, values) for name, text in params.items()}
        request.prepare_url(str(request.url), filled)


def _fill(template: str, values: Mapping[str, bytes]) -> bytes:
    """Return a text with its placeholders filled in; a body may be any bytes."""
    parts = PLACEHOLDER.split(template)
    # split gives texts and names in turn
    return b"".join(
        values[part] if number % 2 else part.encode() for number, part in enumerate(parts)
    )


def _encode(digest: bytes, encoding: str) -> bytes:
    if encoding == "hex":
        return digest.hex().encode()
    encode = base64.urlsafe_b64encode if encoding == "base64url" else base64.b64encode
    return encode(digest)


class AwsSigner(RequestSigner):
    """Signs as AWS does, with botocore."""

    def __init__(self, auth: AwsSigV4Auth) -> None:
        # only files that sign so need the package
        try:
            from botocore.auth import S3SigV4Auth, SigV4Auth
            from botocore.awsrequest import AWSRequest
            from botocore.credentials import Credentials
        except ImportError:
            raise MissingExtraError("`aws_sigv4`", "botocore", "aws") from None
        credentials = Credentials(auth.access_key_id, auth.secret_access_key, auth.session_token)
        # S3 signs a path as it is sent, all others encode it once more
        kind = S3SigV4Auth if auth.service == "s3" else SigV4Auth
        self._request_type, self._signer = AWSRequest, kind(credentials, auth.service, auth.region)

    def sign(self, request: requests.PreparedRequest) -> None:
        """Add `Authorization` and the `X-Amz-...` headers for this moment."""
        request.url = _strictly_encoded(str(request.url))
        headers: Mapping[str, str] = request.headers
        # proxies may change the others
        given = {
            name: text
            for name, text in headers.items()
            if name.lower() == "content-type" or name.lower().startswith("x-amz-")
        }
        signed = self._request_type(
            method=request.method, url=request.url, data=request.body, headers=given
        )
        self._signer.add_auth(signed)
        request.headers.update(signed.headers.items())


def _strictly_encoded(url: str) -> str:
    """Return a URL in which all but letters, digits and `-_.~` is encoded, as AWS reads it before it signs.

    requests leaves some characters of a path as they are, and writes a space in the query as a plus.
    """
    parts = urlsplit(url)
    path = "/".join(_encoded(segment) for segment in parts.path.split("/"))
    pairs = (pair.partition("=") for pair in parts.query.split("&") if pair)
    query = "&".join(
        f"{_encoded(name.replace('+', ' '))}={_encoded(text.replace('+', ' '))}"
        for name, _, text in pairs
    )
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")
