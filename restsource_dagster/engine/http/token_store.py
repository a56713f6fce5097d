"""Keep the tokens of logins between runs, and let one process at a time use a refresh token.

An API that rotates refresh tokens gives a new one with each access token and refuses the old one; some
revoke the whole login if an old one comes again. The tokens are therefore in one place for all processes:
the state, as a file for each login that this user only can read, or encrypted in a database. They are
written whole, and used under a lock.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.oauth_logins import OAuth2RefreshTokenAuth
from restsource_dagster.engine.errors import TokenError
from restsource_dagster.state.state_errors import StateError
from restsource_dagster.state.store import Lease, StateStore

if TYPE_CHECKING:
    from restsource_dagster.engine.http.oauth import IssuedToken, TokenEndpoint

__all__ = ["LoginTokens", "RefreshingGrant", "StoredTokens", "TokenStore", "refresh_logins"]

_LOCK_SECONDS = 900.0
"""How long another process may take to renew a token: longer than all its retries together."""
_UNUSED_FOR = timedelta(days=30)
"""When replaced tokens are removed: an older `.env` may have started a process that still renews them."""


@dataclass(frozen=True)
class StoredTokens:
    """The newest tokens of a login."""

    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    renew_at: float = 0.0
    """When the access token is to be renewed, in seconds since 1970."""
    is_unanswered: bool = False
    """True from before the refresh token is sent until the answer is stored."""
    connectors: Sequence[str] = ()
    """Those that have renewed the tokens, sorted."""

    def used_by(self, connector: str) -> Sequence[str]:
        """Return the connectors that have renewed the tokens, with one that is about to."""
        return sorted({*self.connectors, connector})


class LoginTokens:
    """The stored tokens of one login."""

    def __init__(self, state: StateStore, name: str) -> None:
        self._state, self._name = state, name
        self._place = state.location("tokens", name)
        self._lease: Lease | None = None

    @contextmanager
    def locked(self, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock of the tokens, which no two processes have at once.

        Raises `TokenError` if the state can't be used, or if another process has the lock for longer than
        `seconds`.
        """
        lease = self._state.lease("tokens", self._name)
        with self._errors("can't be written"):
            if not lease.acquire(seconds):
                raise TokenError(
                    f"another process has been renewing the token for {seconds:.0f} s ({self._place})"
                )
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            lease.release()

    def read(self) -> StoredTokens:
        """Return the tokens; empty ones if none are stored. Call it under the lock.

        Raises `TokenError` for tokens that can't be read, or decrypted with the key of the settings.
        """
        with self._errors("can't be read"):
            stored = self._state.read("tokens", self._name)
        try:
            return StoredTokens(**json.loads(stored.content)) if stored else StoredTokens()
        except (ValueError, TypeError):
            raise TokenError(
                f"the stored tokens in {self._place} can't be read. Delete the file to start with the refresh "
                "token of the connector file"
            ) from None

    def remove_if_unused(self, connector: str, now: datetime) -> None:
        """Remove the tokens if nobody has renewed them for a month, and no other connector ever has.

        Raises `TokenError` if the state can't be used.
        """
        with self._errors("can't be removed"):
            stored = self._state.read("tokens", self._name)
            if stored is None or now - stored.written_at < _UNUSED_FOR:
                return
        with self.locked(0):
            # another process may have renewed them before this one had the lock
            if list(self.read().connectors) == [connector]:
                self._state.delete("tokens", self._name)

    def write(self, tokens: StoredTokens) -> None:
        """Store tokens whole, so that they survive the death of the process and of the machine.

        Call it under the lock. Raises `TokenError` if they can't be stored.
        """
        with self._errors("can't be written"):
            self._state.write("tokens", self._name, json.dumps(asdict(tokens)), self._lease)

    @contextmanager
    def _errors(self, problem: str) -> Iterator[None]:
        try:
            yield
        except StateError as error:
            raise TokenError(str(error)) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise TokenError(f"the stored tokens in {self._place} {problem}: {reason}") from None


@dataclass(frozen=True)
class TokenStore:
    """The stored tokens of a project."""

    state: StateStore

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys, and the password of a database, which are to be redacted."""
        return self.state.secrets

    def tokens_of(self, login: OAuth2RefreshTokenAuth, connector: str) -> LoginTokens:
        """Return the tokens of a login.

        They are named after the refresh token that the login starts with, so a changed one starts anew, and
        two connectors with the same one share them. Without one they belong to the connector.
        """
        return LoginTokens(self.state, _name_of(login, connector))

    def remove_replaced(self, connector: Connector, now: datetime | None = None) -> None:
        """Remove tokens of logins that a connector no longer has: those that others have replaced.

        They stay until the tokens that replace them are stored, for as long as they are used (`_UNUSED_FOR`), and
        if another connector has used them. Raises `OSError` or `StateError` if the state can't be used.
        """
        ours = {_name_of(login, connector.name) for login in refresh_logins(connector)}
        if not ours:
            return
        stored = self.state.names("tokens")
        if not ours <= set(stored):
            return
        for name in set(stored) - ours:
            try:
                tokens = LoginTokens(self.state, name)
                tokens.remove_if_unused(connector.name, now or datetime.now(UTC))
            except TokenError:
                # renewed at this moment, or encrypted with another key: those of somebody else
                continue


def refresh_logins(connector: Connector) -> tuple[OAuth2RefreshTokenAuth, ...]:
    """Return the logins of a connector that have refresh tokens, each once."""
    auths = (connector.client.auth, *(one.endpoint.auth for one in connector.resources))
    logins = [auth for auth in auths if isinstance(auth, OAuth2RefreshTokenAuth)]
    return tuple(login for at, login in enumerate(logins) if login not in logins[:at])


def _name_of(login: OAuth2RefreshTokenAuth, connector: str) -> str:
    start = login.refresh_token
    # the hash: a name is no place for a secret
    scopes = login.authorization.scopes if login.authorization else None
    origin = _hash_of(start) if start else f"login of {connector} for {scopes}"
    return _hash_of(json.dumps([login.access_token_url, login.client_id, origin]))[:40]


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class RefreshingGrant:
    """Issues access tokens for a refresh token, whose successor is stored before it is used."""

    endpoint: "TokenEndpoint"
    login: OAuth2RefreshTokenAuth = field(repr=False)
    tokens: LoginTokens
    connector: str
    notify: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.time

    def __call__(self, refused: str | None) -> "IssuedToken":
        """Return the stored access token, or a new one if it is about to expire or is `refused`.

        Raises `TokenError`.
        """
        # every run looks for stored tokens, and few have a login
        from restsource_dagster.engine.http.oauth import IssuedToken

        with self.tokens.locked():
            # read under the lock: the process that had it before may have used up the refresh token
            stored = self.tokens.read()
            tokens = (stored.refresh_token, stored.access_token)
            self.endpoint.redactor.add_secrets(*(text for text in tokens if text))
            left = stored.renew_at - self.clock()
            # another process may have renewed it since
            if stored.access_token and stored.access_token != refused and left > 0:
                return IssuedToken(stored.access_token, left, {})
            return self._refresh(stored)

    def begin(self, grant: Mapping[str, str]) -> None:
        """Request the first tokens by another grant, and store them for all later runs.

        Raises `TokenError`, also if the answer has no refresh token.
        """
        with self.tokens.locked():
            issued = self.endpoint.request(grant)
            tokens = self._stored_of(issued, "", StoredTokens())
            if not tokens.refresh_token:
                raise TokenError(
                    "the API gave an access token and no refresh token. Ask for one: many APIs want a scope such "
                    'as `offline_access`, or `"params": {"access_type": "offline", "prompt": "consent"}` in '
                    "`authorization`"
                )
            self.tokens.write(tokens)

    def _refresh(self, stored: StoredTokens) -> "IssuedToken":
        refresh_token = stored.refresh_token or self.login.refresh_token
        if not refresh_token:
            raise TokenError(f"there are no tokens yet. Run `restsource login {self.connector}`")
        if stored.is_unanswered:
            self.notify(
                "a process ended before it stored the answer to the last use of the refresh token. The old "
                "token is sent again, which an API with a grace period accepts"
            )
        # first of all: a token that can't be stored must not be requested
        used_by = stored.used_by(self.connector)
        self.tokens.write(StoredTokens(refresh_token, is_unanswered=True, connectors=used_by))
        try:
            issued = self.endpoint.request(
                {"grant_type": "refresh_token", "refresh_token": refresh_token},
                self._remedy(stored),
            )
        except TokenError as error:
            if error.is_refusal:  # then the API has issued no successor
                self.tokens.write(replace(stored, refresh_token=refresh_token, access_token=None))
            raise
        self.tokens.write(self._stored_of(issued, refresh_token, stored))
        return issued

    def _remedy(self, stored: StoredTokens) -> str:
        lost = (
            "A process ended before it stored the answer to an earlier use, so the successor of the token is lost. "
            if stored.is_unanswered
            else ""
        )
        return f"{lost}Run `restsource login {self.connector}`, or put a new refresh token where the file refers to."

    def _stored_of(
        self, issued: "IssuedToken", refresh_token: str, before: StoredTokens
    ) -> StoredTokens:
        """Return what is stored of an answer: its refresh token, or the old one if it has none."""
        rotated = self.endpoint.find(self.login.refresh_token_path, issued.content)
        if isinstance(rotated, str) and rotated:
            self.endpoint.redactor.add_secrets(rotated)
            refresh_token = rotated
        return StoredTokens(
            refresh_token,
            issued.value,
            self.clock() + issued.seconds,
            connectors=before.used_by(self.connector),
        )
