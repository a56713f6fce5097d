"""The sizes of the cases: in full, or small enough for a check that they work."""

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """Rows, pages and parents of the cases, and the resources of each connector of many."""

    small: int = 20_000
    large: int = 200_000
    many_rows: int = 2_000_000
    many_columnar: int = 10_000_000
    pages: int = 50
    pages_of_each: int = 25
    resources: int = 8
    parents: int = 1_000
    connectors: tuple[int, ...] = (100, 300, 1_000)


FULL = Sizes()
QUICK = Sizes(
    small=4_000,
    large=20_000,
    many_rows=60_000,
    many_columnar=120_000,
    pages=20,
    pages_of_each=5,
    resources=8,
    parents=100,
    connectors=(5, 10),
)
