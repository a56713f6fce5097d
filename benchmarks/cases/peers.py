"""Other tools that read a REST API from a declaration, as whole processes."""

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Contestant, Goal
from benchmarks.programs import Program
from benchmarks.shop import api_path, ours, resource, stock, tables_of

__all__ = ["peers"]

_PAGE = 1_000


def peers(sizes: Sizes) -> Case:
    """From starting a process to rows in DuckDB, or, where a peer has no DuckDB, to rows in hand."""
    rows = sizes.small
    path, plain = api_path(rows, page_size=_PAGE), resource("orders", "page")
    columnar = plain | {"mode": "columnar", "nested": "json"}
    whole, columns = tables_of("orders", rows), tables_of("orders", rows, nested="json")
    singer = Program("singer", path, {"page_size": _PAGE}, columns)
    airbyte = Program(
        "airbyte", path, {"page_size": _PAGE}, counts={"records": rows}, peer="airbyte"
    )
    text = f"{rows:,} rows, whole process"
    return Case(
        "peers",
        f"Other tools, {rows:,} rows, whole process",
        (
            Contestant("ours", "restsource", "ours", ours(path, [plain], whole)),
            Contestant(
                "ours_columnar",
                "restsource, columnar, nested as JSON",
                "ours",
                ours(path, [columnar], columns),
            ),
            Contestant(
                "singer",
                "tap-rest-api-msdk, target-duckdb",
                "peer",
                singer,
                "nested values as text; memory of both processes together",
            ),
            Contestant(
                "airbyte", "airbyte-cdk", "peer", airbyte, "extract only: the records are dropped"
            ),
            Contestant("dlt_parquet", "stock dlt, parquet", "peer", stock(path, [plain], whole)),
        ),
        (
            Goal(
                8,
                f"{text}: faster than tap and target",
                "wall",
                "singer",
                "ours_columnar",
                at_least=3,
            ),
            Goal(
                8,
                f"{text}: faster than airbyte-cdk's extract",
                "wall",
                "airbyte",
                "ours_columnar",
                at_least=2,
            ),
            Goal(8, f"{text}, nothing set: faster than tap and target", "wall", "singer", "ours"),
            Goal(
                8,
                f"{text}, nothing set: faster than airbyte-cdk's extract",
                "wall",
                "airbyte",
                "ours",
            ),
        ),
        rows=rows,
        shown=("wall", "cpu", "rss"),
    )
