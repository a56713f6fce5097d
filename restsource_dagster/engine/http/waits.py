"""What an API says about waiting: `Retry-After` (RFC 9110) and the rate limit headers in use."""

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime

__all__ = ["limit_resets_in", "retry_after"]

_EPOCH = 1e9  # a reset above it is a moment (GitHub), below it a number of seconds (IETF draft)
_REMAINING = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that `Retry-After` asks to wait, given as seconds or as a date; None if absent."""
    text = (headers.get("Retry-After") or "").strip()
    seconds = _number(text)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


def limit_resets_in(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds until the limit resets, if the API says that nothing remains; else None."""
    remaining = _first(headers, _REMAINING)
    reset = _first(headers, _RESET)
    if remaining is None or remaining > 0 or reset is None:
        return None
    return max(0.0, reset - now.timestamp() if reset > _EPOCH else reset)


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    return next((_number(headers[name]) for name in names if name in headers), None)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
