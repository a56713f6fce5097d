"""Keep the tokens of logins between runs, and let one process at a time use a refresh token.

An API that rotates refresh tokens gives a new one with each access token and refuses the old one; some
revoke the whole login if an old one comes again. The tokens are therefore in one place for all processes:
a file for each login in `RESTSOURCE_STATE_DIR/tokens`, readable by this user only, written whole, and used
under a lock.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from restsource_dagster.connector.models.oauth_logins import OAuth2RefreshTokenAuth
from restsource_dagster.engine.errors import MissingExtraError, TokenError
from restsource_dagster.engine.http.oauth import IssuedToken, TokenEndpoint
from restsource_dagster.settings import Settings, make_private_folder

__all__ = ["RefreshingGrant", "StoredTokens", "TokenFile", "TokenStore"]

_LOCK_SECONDS = 900.0
"""How long another process may take to renew a token: longer than all its retries together."""


@dataclass(frozen=True)
class StoredTokens:
    """The newest tokens of a login."""

    refresh_token: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)
    renew_at: float = 0.0
    """When the access token is to be renewed, in seconds since 1970."""
    is_unanswered: bool = False
    """True from before the refresh token is sent until the answer is stored."""


class TokenFile:
    """The file with the tokens of one login."""

    def __init__(self, path: Path, key: str | None) -> None:
        self._path, self._key = path, key

    @contextmanager
    def locked(self, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock of the file, which no two processes have at once.

        Raises `TokenError` if the folder can't be written, or if another process has the lock for longer
        than `seconds`.
        """
        lock = FileLock(self._path.with_suffix(".lock"), mode=0o600)
        try:
            make_private_folder(self._path.parent)
            lock.acquire(timeout=seconds, poll_interval=0.05)
        except Timeout:
            raise TokenError(
                f"another process has been renewing the token for {seconds:.0f} s ({self._path})"
            ) from None
        except OSError as error:
            raise self._error("can't be written", error) from None
        try:
            yield
        finally:
            lock.release()

    def read(self) -> StoredTokens:
        """Return the tokens; empty ones if there is no file. Call it under the lock.

        Raises `TokenError` for a file that can't be read, or decrypted with the key of the settings.
        """
        try:
            raw = self._path.read_bytes()
            content = json.loads(raw)
            if "encrypted" in content:
                content = json.loads(self._decrypt(content["encrypted"]))
            return StoredTokens(**content)
        except FileNotFoundError:
            return StoredTokens()
        except (ValueError, TypeError):
            raise TokenError(
                f"the stored tokens in {self._path} can't be read. Delete the file to start with the refresh "
                "token of the connector file"
            ) from None
        except OSError as error:
            raise self._error("can't be read", error) from None

    def write(self, tokens: StoredTokens) -> None:
        """Store tokens whole, so that they survive the death of the process and of the machine.

        Raises `TokenError` if they can't be stored.
        """
        text = json.dumps(asdict(tokens))
        if self._key is not None:
            text = json.dumps({"encrypted": self._cipher().encrypt(text.encode()).decode()})
        new = self._path.with_suffix(".new")
        try:
            with open(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise self._error("can't be written", error) from None

    def _decrypt(self, text: str) -> bytes:
        if self._key is None:
            raise TokenError(
                f"the stored tokens in {self._path} are encrypted. Set RESTSOURCE_TOKEN_KEY to the key that they "
                "were stored with"
            )
        from cryptography.fernet import InvalidToken

        try:
            decrypted: bytes = self._cipher().decrypt(text.encode())
        except InvalidToken:
            raise TokenError(
                f"the stored tokens in {self._path} are encrypted with another key than RESTSOURCE_TOKEN_KEY"
            ) from None
        return decrypted

    def _cipher(self) -> Any:
        # only who sets a key needs the package
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError:
            raise MissingExtraError("RESTSOURCE_TOKEN_KEY", "cryptography", "logins") from None
        try:
            # the first key encrypts, and all of them decrypt: so a key can be replaced
            return MultiFernet([Fernet(one.strip()) for one in str(self._key).split(",")])
        except ValueError:
            raise TokenError(
                "RESTSOURCE_TOKEN_KEY is no key. Make one: python -c "
                '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
            ) from None

    def _error(self, problem: str, error: OSError) -> TokenError:
        reason = error.strerror or type(error).__name__
        return TokenError(f"the stored tokens in {self._path} {problem}: {reason}")


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class TokenStore:
    """The folder of stored tokens."""

    state_dir: Path
    key: str | None = field(default=None, repr=False)
    """The key that files are encrypted with; None for plain files."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the store of a project."""
        key = settings.token_key
        return cls(settings.state_dir, key.get_secret_value() if key else None)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys, which are to be redacted."""
        return tuple((self.key or "").split(","))

    def file_of(self, login: OAuth2RefreshTokenAuth, connector: str) -> TokenFile:
        """Return the file of a login.

        It is named after the refresh token that the login starts with, so a changed one starts anew, and two
        connectors with the same one share its file. Without one it belongs to the connector.
        """
        start = login.refresh_token
        # the hash: the name of a file is no place for a secret
        scopes = login.authorization.scopes if login.authorization else None
        origin = _hash_of(start) if start else f"login of {connector} for {scopes}"
        name = _hash_of(json.dumps([login.access_token_url, login.client_id, origin]))
        return TokenFile(self.state_dir / "tokens" / f"{name[:40]}.json", self.key)


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class RefreshingGrant:
    """Issues access tokens for a refresh token, whose successor is stored before it is used."""

    endpoint: TokenEndpoint
    login: OAuth2RefreshTokenAuth = field(repr=False)
    file: TokenFile
    connector: str
    notify: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.time

    def __call__(self, refused: str | None) -> IssuedToken:
        """Return the stored access token, or a new one if it is about to expire or is `refused`.

        Raises `TokenError`.
        """
        with self.file.locked():
            stored = self.file.read()
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
        with self.file.locked():
            issued = self.endpoint.request(grant)
            tokens = self._stored_of(issued, "")
            if not tokens.refresh_token:
                raise TokenError(
                    "the API gave an access token and no refresh token. Ask for one: many APIs want a scope such "
                    'as `offline_access`, or `"params": {"access_type": "offline", "prompt": "consent"}` in '
                    "`authorization`"
                )
            self.file.write(tokens)

    def _refresh(self, stored: StoredTokens) -> IssuedToken:
        refresh_token = stored.refresh_token or self.login.refresh_token
        if not refresh_token:
            raise TokenError(f"there are no tokens yet. Run `restsource login {self.connector}`")
        if stored.is_unanswered:
            self.notify(
                "a process ended before it stored the answer to the last use of the refresh token. The old "
                "token is sent again, which an API with a grace period accepts"
            )
        # first of all: a token that can't be stored must not be requested
        self.file.write(StoredTokens(refresh_token, is_unanswered=True))
        try:
            issued = self.endpoint.request(
                {"grant_type": "refresh_token", "refresh_token": refresh_token},
                self._remedy(stored),
            )
        except TokenError as error:
            if error.is_refusal:  # then the API has issued no successor
                self.file.write(replace(stored, refresh_token=refresh_token, access_token=None))
            raise
        self.file.write(self._stored_of(issued, refresh_token))
        return issued

    def _remedy(self, stored: StoredTokens) -> str:
        lost = (
            "A process ended before it stored the answer to an earlier use, so the successor of the token is lost. "
            if stored.is_unanswered
            else ""
        )
        return f"{lost}Run `restsource login {self.connector}`, or put a new refresh token where the file refers to."

    def _stored_of(self, issued: IssuedToken, refresh_token: str) -> StoredTokens:
        """Return what is stored of an answer: its refresh token, or the old one if it has none."""
        rotated = self.endpoint.find(self.login.refresh_token_path, issued.content)
        if isinstance(rotated, str) and rotated:
            self.endpoint.redactor.add_secrets(rotated)
            refresh_token = rotated
        return StoredTokens(refresh_token, issued.value, self.clock() + issued.seconds)
