"""What dlt doesn't document, or does differently in its versions, each with why we need it.

Each entry says what happens where a version of dlt lacks it. The oldest version is in pyproject.toml;
`make test-versions` runs on the oldest and the newest.
"""

from collections import Counter
from collections.abc import Mapping

from dlt.common.pipeline import NormalizeInfo
from dlt.common.storages import ParsedLoadJobFileName

__all__ = ["count_normalized_rows", "get_context_timezone_name"]

# The time zone that dlt gives timestamps. dlt has one to choose since 1.31; before, it is always UTC.
try:
    from dlt.common.time import get_context_timezone_name
except ImportError:

    def get_context_timezone_name() -> str:
        """Return the IANA name of the time zone that dlt gives timestamps."""
        return "UTC"


def count_normalized_rows(info: NormalizeInfo) -> Mapping[str, int]:
    """Return the rows that dlt normalized, by table.

    `NormalizeInfo.row_counts` counts only some of a table's files before dlt 1.31: it groups files
    by table without sorting them. This sums the metrics of each file, which are right in all
    versions. A file is named after its table.
    """
    counts: Counter[str] = Counter()
    for packages in info.metrics.values():
        for package in packages:
            for file in package["job_metrics"].values():
                name = ParsedLoadJobFileName.parse(file.file_path)
                counts[name.table_name] += file.items_count
    return counts
