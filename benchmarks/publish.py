"""`python -m benchmarks.publish`: write the latest results into docs/performance.md and its plot."""

from pathlib import Path

from benchmarks.plot import svg
from benchmarks.report import markdown
from benchmarks.results import LATEST, read_results
from benchmarks.serving import ROOT

__all__ = ["DOCUMENT", "PLOT", "main", "published", "with_results"]

DOCUMENT = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "performance.svg"
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"


def published(text: str) -> str:
    """Return the text between the markers of the document."""
    return text.split(_BEGIN)[1].split(_END, maxsplit=1)[0].strip()


def with_results(text: str, results: str) -> str:
    """Return the document's text with these results between its markers."""
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n{results}\n{_END}{after}"


def main(results: Path = LATEST) -> None:
    """Write the tables and the plot. Raise `SystemExit` if there are no results yet."""
    document = read_results(results)
    if document is None:
        raise SystemExit("nothing was measured yet: make bench")
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_results(text, markdown(document)), encoding="utf-8")
    PLOT.write_text(svg(document), encoding="utf-8")


if __name__ == "__main__":
    main()
