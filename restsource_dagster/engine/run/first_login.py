"""Log in to an API as a person, for the logins of a connector that need it.

The person allows access in a browser: the authorization code flow with PKCE (RFC 6749, RFC 7636, RFC 8252).
"""

import base64
import hashlib
import html
import queue
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from restsource_dagster.connector.env_references import read_references
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.oauth_logins import Authorization, OAuth2RefreshTokenAuth
from restsource_dagster.engine.destination.dlt_config import configure_dlt, dlt_setting
from restsource_dagster.engine.errors import IngestError, TokenError
from restsource_dagster.engine.http.redaction import Redactor, find_secrets
from restsource_dagster.engine.http.token_store import (
    RefreshingGrant,
    TokenStore,
    refresh_logins,
)
from restsource_dagster.engine.run_progress import Observer, Progress, ResourceCounts
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import open_state

__all__ = ["authorize", "log_in", "logins_of", "try_logins"]

ShowPage = Callable[[str], None]
"""Shows a person the page at a URL."""


def logins_of(connector: Connector) -> tuple[OAuth2RefreshTokenAuth, ...]:
    """Return the logins of a connector in which a person allows access, each once."""
    return tuple(login for login in refresh_logins(connector) if login.authorization)


def log_in(
    connector: Connector,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer,
    *,
    show: ShowPage,
    seconds: float,
) -> None:
    """Have a person allow access for each login of a connector, and store the tokens.

    `show` shows a page by its URL; its answer is waited for so many seconds. Raises
    `MissingReferencesError`, and `IngestError` if anything fails.
    """
    with _endpoints_of(connector, settings, environment, observer) as (resolved, endpoints):
        for login in logins_of(resolved):
            grant = endpoints.refreshing_grant(login, ResourceCounts())
            if login.authorization is not None:
                authorize(grant, login.authorization, show, seconds)


def try_logins(
    connector: Connector, settings: Settings, environment: Mapping[str, str], observer: Observer
) -> tuple[str, ...]:
    """Request a token for each login of a connector, as a run does; return the types of those logins.

    Keys that need no token are not tried. Raises `MissingReferencesError`, and `IngestError` for the first
    login that fails.
    """
    tried = []
    with _endpoints_of(connector, settings, environment, observer) as (resolved, endpoints):
        auths = (resolved.client.auth, *(one.endpoint.auth for one in resolved.resources))
        for at, auth in enumerate(auths):
            if auth not in auths[:at] and endpoints.obtain_token(auth):
                tried.append(str(getattr(auth, "type", "login")))
    return tuple(tried)


@contextmanager
def _endpoints_of(
    connector: Connector, settings: Settings, environment: Mapping[str, str], observer: Observer
) -> Iterator[tuple[Connector, EndpointFactory]]:
    """Yield the connector with its references resolved, and what makes its logins."""
    configure_dlt()
    values = read_references(connector.references, environment, dlt_setting)
    resolved = connector.resolved(values)
    redactor, state = Redactor(find_secrets(connector, resolved, values)), open_state(settings)
    tokens = TokenStore(state)
    redactor.add_secrets(*tokens.secrets)
    progress = Progress(observer, redactor)
    with (
        redactor.redacted_errors(IngestError),
        tempfile.TemporaryDirectory(prefix="restsource-login-") as folder,
        closing(
            EndpointFactory(resolved, redactor, progress, None, Path(folder), state, tokens)
        ) as endpoints,
    ):
        yield resolved, endpoints


def authorize(
    grant: RefreshingGrant, page: Authorization, show: ShowPage, seconds: float = 300.0
) -> None:
    """Have a person allow access, and store the tokens for all later runs.

    Listens on 127.0.0.1 for one answer, at most so many seconds. Raises `TokenError` if none comes, if the
    person or the API refuses, and if the API gives no refresh token.
    """
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    with _listening(page, state) as listener:
        show(_page_url(grant, page, listener.address, state, verifier))
        answer = listener.wait(seconds)
    if "code" not in answer:
        reason = " ".join(filter(None, (answer.get("error"), answer.get("error_description"))))
        raise TokenError(
            f"access was not allowed: {grant.endpoint.redactor(reason) or 'the answer has no code'}"
        )
    # before the request: both together are enough to obtain the tokens, and an error may quote them
    grant.endpoint.redactor.add_secrets(answer["code"], verifier)
    grant.begin(
        {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": listener.address,
            "code_verifier": verifier,
        }
    )


def _page_url(
    grant: RefreshingGrant, page: Authorization, address: str, state: str, verifier: str
) -> str:
    # PKCE (RFC 7636): the browser sees the hash only, so a code that is read from its history is of
    # no use
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    params = {
        "response_type": "code",
        "client_id": str(grant.login.client_id),
        "redirect_uri": address,
        **({"scope": " ".join(page.scopes)} if page.scopes else {}),
        **(page.params or {}),
        # last: without them anybody could answer, or use the code
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{page.url}{'&' if '?' in page.url else '?'}{urlencode(params)}"


@dataclass(frozen=True)
class _Listener:
    """Waits for the one answer."""

    address: str
    """The URL that the page redirects to."""
    answers: "queue.Queue[Mapping[str, str]]"

    def wait(self, seconds: float) -> Mapping[str, str]:
        try:
            return self.answers.get(timeout=seconds)
        except queue.Empty:
            raise TokenError(
                f"nobody has allowed access within {seconds:.0f} s. Run the command again"
            ) from None


@contextmanager
def _listening(page: Authorization, state: str) -> Iterator[_Listener]:
    """Listen for the redirect of the page; no more once the block is left."""
    # one answer: a code is valid once, and a second one would be somebody else's
    answers: queue.Queue[Mapping[str, str]] = queue.Queue(maxsize=1)

    class Handler(_AnswerHandler):
        expected_path, expected_state, found = page.redirect_path, state, answers

    try:
        server = ThreadingHTTPServer(("127.0.0.1", page.redirect_port or 0), Handler)
    except OSError as error:
        raise TokenError(
            f"port {page.redirect_port} of 127.0.0.1 can't be used ({error.strerror}): "
            "see `authorization.redirect_port`"
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        host = f"{page.redirect_host}:{server.server_port}"
        yield _Listener(f"http://{host}{page.redirect_path}", answers)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _AnswerHandler(BaseHTTPRequestHandler):
    """Takes the first answer with the right state; a page that guesses is refused."""

    expected_path: str
    expected_state: str
    found: "queue.Queue[Mapping[str, str]]"
    timeout = 10  # a browser may open a connection and send nothing

    def do_GET(self) -> None:
        """Take an answer."""
        parts = urlsplit(self.path)
        answer = dict(parse_qsl(parts.query))
        if parts.path != self.expected_path:
            self._reply(404, "There is nothing here.")
        # in constant time: how long a comparison takes must not tell how much of the state is right
        elif not secrets.compare_digest(
            answer.get("state", "").encode(), self.expected_state.encode()
        ):
            self._reply(400, "This answer does not belong to the login that is under way.")
        else:
            self._take(answer)

    def _take(self, answer: Mapping[str, str]) -> None:
        try:
            self.found.put_nowait(answer)
        except queue.Full:
            self._reply(410, "The login has its answer already.")
        else:
            self._reply(200, "restsource has the answer. You can close this page.")

    def _reply(self, status: int, text: str) -> None:
        raw = f"<!doctype html><title>restsource</title><p>{html.escape(text)}".encode()
        self.send_response(status)
        # the URL of this page has the code in it
        for name, value in {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(raw)),
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Connection": "close",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the URL has the code in it."""
