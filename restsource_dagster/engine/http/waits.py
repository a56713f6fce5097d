"""What an API says about waiting: `Retry-After` (RFC 9110) and the rate limit headers in use."""

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime

__all__ = ["limit_resets_in", "retry_after"]

_EPOCH = 1e9  # a reset above it is a moment (GitHub), below it a number of seconds (IETF draft)
_EPOCH_MILLISECONDS = 1e11
_REMAINING = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_RESET = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that `Retry-After` asks to wait, given as seconds or as a date; None if absent."""
    text = (headers.get("Retry-After") or "").strip()
    seconds = _number(text)
    return _until(_moment(text), now) if seconds is None else seconds


def limit_resets_in(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds until the limit resets, if the API says that nothing remains; else None.

    A reset is a number of seconds, a moment in seconds or milliseconds since 1970, or a date.
    """
    remaining = _number(_first(headers, _REMAINING))
    if remaining is None or remaining > 0:
        return None
    text = _first(headers, _RESET)
    reset = _number(text)
    if reset is None:
        return _until(_moment(text), now)
    if reset > _EPOCH_MILLISECONDS:
        reset /= 1000
    return max(0.0, reset - now.timestamp()) if reset > _EPOCH else reset


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name].strip() for name in names if name in headers), "")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _moment(text: str) -> datetime | None:
    """A date as HTTP writes it, or as ISO 8601 does."""
    for parse in (email.utils.parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = parse(text)
        except (ValueError, OverflowError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _until(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (moment - now).total_seconds())
