"""The case of other tools that read a REST API from a declaration, as whole processes."""

from benchmarks.cases.sizes import Sizes
from benchmarks.model import Case, Contestant, Goal
from benchmarks.programs import Program
from benchmarks.shop import api_path, by_peer, by_us, ours, resource, stock, tables_of

__all__ = ["peers"]

_PAGE = 1_000


def peers(sizes: Sizes) -> Case:
    """From the start of a process to rows in DuckDB, or to extracted records if a peer has no DuckDB."""
    rows = sizes.small
    text = f"{rows:,} rows, whole process"
    goals: list[Goal] = []
    for peer, told, at_least in (
        ("singer", "tap and target", 3.0),
        ("airbyte", "airbyte-cdk's extract", 2.0),
    ):
        faster = f"faster than {told}"
        columnar = Goal(8, f"{text}: {faster}", "wall", peer, "ours_columnar", at_least=at_least)
        goals += [columnar, Goal(8, f"{text}, nothing set: {faster}", "wall", peer, "ours")]
    title = f"Other tools, {rows:,} rows, whole process"
    shown = ("wall", "cpu", "rss")
    return Case("peers", title, _contestants(rows), tuple(goals), rows=rows, shown=shown)


def _contestants(rows: int) -> tuple[Contestant, ...]:
    path, plain = api_path(rows, page_size=_PAGE), resource("orders", "page")
    columnar = plain | {"mode": "columnar", "nested": "json"}
    whole, columns = tables_of("orders", rows), tables_of("orders", rows, nested="json")
    how = {"page_size": _PAGE}
    airbyte = Program("airbyte", path, how, counts={"records": rows}, peer="airbyte")
    return (
        by_us("ours", "", ours(path, [plain], whole)),
        by_us("ours_columnar", "columnar, nested as JSON", ours(path, [columnar], columns)),
        by_peer(
            "singer",
            "tap-rest-api-msdk, target-duckdb",
            Program("singer", path, how, columns),
            "nested values as text; memory of both processes together",
        ),
        by_peer("airbyte", "airbyte-cdk", airbyte, "extract only: the records are dropped"),
        by_peer("dlt_parquet", "stock dlt, parquet", stock(path, [plain], whole)),
    )
