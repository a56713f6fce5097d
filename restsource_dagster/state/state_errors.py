"""Errors of the state store. No message has the password of a database or the key of tokens."""

__all__ = ["LeaseLostError", "StateError"]


class StateError(Exception):
    """The state can't be read or written."""


class LeaseLostError(StateError):
    """The holder of a lease stood still for too long, and another one may have it now."""
