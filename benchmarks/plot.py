"""The results as a plot: an SVG with one bar per contestant of each case."""

from collections.abc import Iterator
from html import escape
from typing import Any

from benchmarks.measures import MEASURES

__all__ = ["svg"]

Document = dict[str, Any]

_WIDTH, _LABELS, _BARS = 900, 330, 430
_ROW, _HEAD, _GAP = 20, 30, 14
_COLOURS = {"ours": "#2f6fde", "peer": "#9aa5b1", "floor": "#d9a441"}
_LEGEND = {"ours": "this project", "peer": "others", "floor": "hand-written floor"}


def svg(document: Document) -> str:
    """Return a plot of each case by the first of its shown measures. Bars of one case share a scale."""
    body: list[str] = list(_legend())
    top = 34
    for case in document["cases"]:
        bars = [one for one in case["contestants"] if case["shown"][0] in one["median"]]
        if bars:
            body += _case(case, bars, top)
            top += _HEAD + _ROW * len(bars) + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" '
        f'viewBox="0 0 {_WIDTH} {top}" font-family="sans-serif" font-size="12">'
    )
    background = f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, background, *body, "</svg>", ""])


def _legend() -> Iterator[str]:
    for place, (role, told) in enumerate(_LEGEND.items()):
        left = 12 + place * 150
        yield f'<rect x="{left}" y="12" width="12" height="12" fill="{_COLOURS[role]}"/>'
        yield _text(left + 18, 22, told)


def _case(case: Document, bars: list[Document], top: int) -> Iterator[str]:
    measure = case["shown"][0]
    most = max(one["median"][measure] for one in bars)
    yield _text(12, top + 16, f"{case['title']}: {MEASURES[measure].title}", bold=True)
    for place, one in enumerate(bars):
        value = one["median"][measure]
        y = top + _HEAD + place * _ROW - 4
        width = max(1.0, _BARS * value / most) if most else 1.0
        yield _text(_LABELS - 8, y + 12, one["label"], anchor="end")
        yield (
            f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_ROW - 5}" '
            f'fill="{_COLOURS[one["role"]]}"/>'
        )
        yield _text(_LABELS + width + 6, y + 12, MEASURES[measure].written(value))


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{weight} fill="#1c232b">{escape(text)}</text>'
