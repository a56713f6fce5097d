"""Servers that check signed requests as the specifications say, by code that shares nothing with ours."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from restsource_dagster_tests.servers.faults import Arrival, Reply

__all__ = ["PASSWORD", "AwsGate", "DigestGate", "Gate", "HmacGate"]

PASSWORD = "c4n4ry-password"
PAGES = 4


@dataclass
class Gate:
    """Answers the pages of `/items` to requests that it accepts.

    `accepted` has what may be used once only, of each accepted request. The third request is answered
    503 once; `/old` redirects to `/items`.
    """

    accepted: list[str] = field(default_factory=list)
    is_tired: bool = True

    def answer(self, seen: Arrival) -> Any:
        mark = self.check(seen)
        if mark is None:
            return self.refuse()
        self.accepted.append(mark)
        if seen.path == "/old":
            return Reply(status=302, headers={"Location": "/items"})
        page = int(seen.query.get("page", 1))
        if page == 3 and self.is_tired:
            self.is_tired = False
            return Reply({"error": "busy"}, status=503)
        return {"data": [{"id": page}], "total": PAGES}

    def check(self, seen: Arrival) -> str | None:
        """What may be used once of a request that is right; else None."""
        raise NotImplementedError

    def refuse(self) -> Reply:
        return Reply({"error": "bad signature"}, status=401)


@dataclass
class DigestGate(Gate):
    """HTTP Digest, RFC 7616. Each nonce is good for `uses` requests."""

    algorithm: str = "SHA-256"
    uses: int = 99
    nonces: int = 0
    qop: str = "auth"
    """What digests may cover; empty for one as in RFC 2069, which has no count."""
    name: str = "nonce"

    def refuse(self) -> Reply:
        self.nonces += 1
        challenge = (
            f'Digest realm="shop", algorithm={self.algorithm}, '
            f'nonce="{self.name}-{self.nonces}", opaque="x"'
        )
        challenge += f', qop="{self.qop}"' if self.qop else ""
        return Reply(status=401, headers={"WWW-Authenticate": f'Basic realm="b", {challenge}'})

    def check(self, seen: Arrival) -> str | None:
        scheme, _, rest = seen.headers.get("authorization", "").partition(" ")
        if scheme != "Digest":
            return None
        given = {
            name: text.strip('"') for name, text in re.findall(r'(\w+)=("[^"]*"|[\w-]+)', rest)
        }

        def digest(text: str) -> str:
            names = {"SHA": "sha1", "SHA-512-256": "sha512_256"}
            name = self.algorithm.removesuffix("-sess")
            return hashlib.new(names.get(name, name.replace("-", "")), text.encode()).hexdigest()

        user = digest(f"ann:shop:{PASSWORD}")
        if self.algorithm.endswith("-sess"):
            user = digest(f"{user}:{given['nonce']}:{given.get('cnonce')}")
        covers_body = given.get("qop") == "auth-int"
        body = f":{digest(seen.body.decode())}" if covers_body else ""
        request = digest(f"{seen.method}:{seen.target}{body}")
        if given.get("qop", "") not in self.qop.split(", "):
            return None
        if not self.qop:
            right = given["response"] == digest(f"{user}:{given['nonce']}:{request}")
            return f"{len(self.accepted)}" if right and given["uri"] == seen.target else None
        middle = ":".join(given[name] for name in ("nonce", "nc", "cnonce", "qop"))
        right = given["response"] == digest(f"{user}:{middle}:{request}")
        mark = f"{given['nonce']} {given['nc']}"
        is_fresh = given["uri"] == seen.target and int(given["nc"], 16) <= self.uses
        return mark if right and is_fresh and mark not in self.accepted else None


@dataclass
class HmacGate(Gate):
    """The nonce, the time, the method, the path and the query, by HMAC-SHA256 in hexadecimal digits."""

    def check(self, seen: Arrival) -> str | None:
        time, nonce = (seen.headers.get(name, "") for name in ("x-time", "x-nonce"))
        parts = urlsplit(seen.target)
        text = f"{nonce}\n{time}\n{seen.method}\n{parts.path}\n{parts.query}\n{seen.body.decode()}"
        wanted = hmac.new(PASSWORD.encode(), text.encode(), "sha256").hexdigest()
        right = seen.headers.get("x-signature") == f"v1={wanted}"
        return nonce if right and nonce not in self.accepted else None


@dataclass
class AwsGate(Gate):
    """AWS Signature Version 4, as "Create a signed AWS API request" of the IAM User Guide describes it."""

    scope: str = "eu-central-1/execute-api"

    def check(self, seen: Arrival) -> str | None:
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=(\S+)",
            seen.headers.get("authorization", ""),
        )
        if found is None:
            return None
        credential, names, signature = found.groups()
        moment = seen.headers["x-amz-date"]
        scope = f"{moment[:8]}/{self.scope}/aws4_request"
        hashed = hashlib.sha256(canonical(seen, names).encode()).hexdigest()
        key = f"AWS4{PASSWORD}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
        wanted = hmac.new(key, text.encode(), "sha256").hexdigest()
        is_right = (credential, signature) == (f"AKIDEXAMPLE/{scope}", wanted)
        return f"{moment} {seen.target}" if is_right and "host" in names.split(";") else None


def canonical(seen: Arrival, names: str) -> str:
    """The canonical request: each segment of the path is encoded twice, for all services but S3."""
    path = quote(quote(unquote(seen.path), safe="/-_.~"), safe="/-_.~")
    pairs = parse_qsl(urlsplit(seen.target).query.replace("+", "%2B"), keep_blank_values=True)
    query = "&".join(sorted(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in pairs))
    headers = "".join(f"{name}:{seen.headers[name].strip()}\n" for name in names.split(";"))
    body = hashlib.sha256(seen.body).hexdigest()
    return f"{seen.method}\n{path}\n{query}\n{headers}\n{names}\n{body}"
