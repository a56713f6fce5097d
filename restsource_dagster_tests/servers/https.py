"""An HTTPS server on 127.0.0.1 with certificates of its own, which asks clients for theirs."""

import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Certificates", "HttpsServer"]


class Certificates:
    """An authority, and the certificates and keys that it has signed, in files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._authority = self._sign("authority", self._key, None)
        self.ca = self._write("ca.pem", self._authority.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A new certificate for 127.0.0.1, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(name, key, self._authority)
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        cert = self._write(f"{name}.pem", signed.public_bytes(serialization.Encoding.PEM))
        return cert, self._write(f"{name}-key.pem", text)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
        )
        if issuer is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, False)
        return builder.sign(self._key, hashes.SHA256())


class HttpsServer(ThreadingHTTPServer):
    """Use it in a `with` statement. It answers `{"id": 1}`, and a token at `/token`.

    `clients` has the name in the certificate of each client; a client without one is refused if
    `asks_clients`.
    """

    def __init__(self, certificates: Certificates, *, asks_clients: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.clients: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificates.issue("server"))
        context.load_verify_locations(certificates.ca)
        context.verify_mode = ssl.CERT_REQUIRED if asks_clients else ssl.CERT_OPTIONAL
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"https://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up is what some tests are about."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    server: HttpsServer

    def _answer(self) -> None:
        given = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else {}
        names = dict(pair[0] for pair in (given or {}).get("subject", ()))  # type: ignore[misc]
        self.server.clients.append(str(names.get("commonName", "")))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = {"access_token": "fr3sh-token"} if self.path == "/token" else {"id": 1}
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = _answer  # noqa: N815 - the names of http.server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of http.server
        """Say nothing."""
