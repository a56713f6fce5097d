"""Encrypt stored tokens with `RESTSOURCE_TOKEN_KEY` (Fernet, by the package cryptography)."""

import json
from typing import Any

from restsource_dagster.state.state_errors import StateError

__all__ = ["TextCipher"]


class TextCipher:
    """Encrypts texts with the first of the keys in `key`, and decrypts them with any; without one, neither."""

    def __init__(self, key: str | None) -> None:
        self._key = key
        self.secrets = tuple((key or "").split(","))

    @property
    def has_key(self) -> bool:
        """True if texts are encrypted."""
        return self._key is not None

    def encrypted(self, content: bytes) -> bytes:
        """Return what is stored of a content. Raises `StateError`."""
        if self._key is None:
            return content
        return json.dumps({"encrypted": self._fernet().encrypt(content).decode()}).encode()

    def decrypted(self, stored: bytes, place: str) -> bytes:
        """Return the content of what is stored at `place`; as it is if it is not encrypted.

        Raises `StateError`.
        """
        try:
            encrypted = json.loads(stored)["encrypted"]
        except (ValueError, TypeError, KeyError):
            return stored
        if self._key is None:
            raise StateError(
                f"the stored tokens in {place} are encrypted. Set RESTSOURCE_TOKEN_KEY to the key that "
                "they were stored with"
            )
        from cryptography.fernet import InvalidToken

        try:
            content: bytes = self._fernet().decrypt(encrypted.encode())
        except InvalidToken:
            raise StateError(
                f"the stored tokens in {place} are encrypted with another key than RESTSOURCE_TOKEN_KEY"
            ) from None
        return content

    def _fernet(self) -> Any:
        # only who sets a key needs the package
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError:
            raise StateError(
                "RESTSOURCE_TOKEN_KEY needs the package cryptography, which is not installed. Run "
                'pip install "restsource-dagster[logins]"'
            ) from None
        try:
            # the first key encrypts, and all of them decrypt: so a key can be replaced
            return MultiFernet([Fernet(one.strip()) for one in str(self._key).split(",")])
        except ValueError:
            raise StateError(
                "RESTSOURCE_TOKEN_KEY is no key. Make one: python -c "
                '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
            ) from None
