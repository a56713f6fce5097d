"""The records of the benchmark API: orders of a shop, each derived from its number."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["CHILDREN_PER_PARENT", "LINES_PER_RECORD", "child_page", "record", "rendered"]

LINES_PER_RECORD = 3
CHILDREN_PER_PARENT = 5

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_STATUSES = ("pending", "paid", "packed", "shipped", "delivered", "returned")
_NOTE = "please leave it with the neighbours on the left, and send a message to the customer then"
_CITIES = (
    ("Amsterdam", "NL", "EUR"),
    ("Zürich", "CH", "CHF"),
    ("Kraków", "PL", "PLN"),
    ("Boston", "US", "USD"),
    ("Kyōto", "JP", "JPY"),
)


def _instant(seconds: int) -> str:
    return (_BEGIN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reference(number: int) -> str:
    digits = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _line(number: int, position: int) -> dict[str, Any]:
    return {
        "sku": f"SKU-{(number * 7 + position * 13) % 9973:05d}-{'SML'[position % 3]}-BLUE",
        "quantity": 1 + (number + position) % 9,
        "price": round(1.25 + (number * 31 + position * 17) % 20_000 / 100, 2),
    }


def record(number: int) -> dict[str, Any]:
    """Return the record with this number, from 1: 20 fields, about 740 bytes as compact JSON.

    One field is an object of four fields, and one a list of three small objects. Two fields are
    times, and one is null in every fourth record.
    """
    city, country, currency = _CITIES[number % len(_CITIES)]
    total = round(9.99 + (number * 7919) % 500_000 / 100, 2)
    return {
        "id": number,
        "number": f"ORD-2026-{number:08d}",
        "created_at": _instant(number * 37),
        "updated_at": _instant(number * 37 + 3_600),
        "status": _STATUSES[number % len(_STATUSES)],
        "currency": currency,
        "total": total,
        "tax": round(total * 0.19, 2),
        "discount": round(number % 50 / 2 + 0.25, 2),
        "paid": number % 3 != 0,
        "items": LINES_PER_RECORD,
        "weight_grams": 150 + number * 11 % 12_000,
        "city": city,
        "country": country,
        "channel": ("web", "app", "store")[number % 3],
        "email": f"customer{number * 17 % 99_991}@mail.example.com",
        "note": None if number % 4 == 0 else f"Parcel {number % 977}: {_NOTE}",
        "reference": _reference(number),
        "customer": {
            "id": number * 17 % 99_991,
            "name": f"Customer Number {number * 17 % 99_991}",
            "tier": ("gold", "silver", "basic")[number % 3],
            "since": _instant(-86_400 * (number % 3_000))[:10],
        },
        "lines": [_line(number, position) for position in range(LINES_PER_RECORD)],
    }


def rendered(first: int, count: int) -> bytes:
    """Return `count` records from number `first` as JSON, separated by commas, without brackets."""
    rows = [record(number) for number in range(first, first + count)]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False)[1:-1].encode()


def child_page(parent: int) -> bytes:
    """Return the JSON response with the children of a parent. Ids are unique over all parents."""
    rows = [
        {"id": parent * 1_000 + position, "parent": parent, **_line(parent, position)}
        for position in range(CHILDREN_PER_PARENT)
    ]
    return json.dumps({"data": rows}, separators=(",", ":")).encode()
