"""A schedule that brings no run while the tests go on."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["NOT_DUE_SOON"]

_NOW = datetime.now(UTC)
_MINUTES_OF_A_DAY = 24 * 60

NOT_DUE_SOON: Mapping[str, Any] = {
    "mode": "days",
    "interval": 1,
    "offset": (60 * _NOW.hour + _NOW.minute + _MINUTES_OF_A_DAY // 2) % _MINUTES_OF_A_DAY,
}
"""Daily, half a day away from now."""
