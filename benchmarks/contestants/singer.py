"""Singer: tap-rest-api-msdk piped into target-duckdb, each in an environment of its own.

Peak memory is the sum of both, because they run at the same time. They store nested values as text,
so there are no nested tables.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.contestants.clock import read_orders


def _tap_config(base_url: str, page_size: int) -> dict[str, Any]:
    stream = {
        "name": "orders",
        "path": "/orders/page",
        "records_path": "$.data[*]",
        "primary_keys": ["id"],
        "except_keys": ["customer", "lines"],
    }
    return {
        "api_url": base_url.rstrip("/"),
        "streams": [stream],
        "pagination_request_style": "page_number_paginator",
        "next_page_token_path": "$.has_more",
        "pagination_next_page_param": "page",
        "pagination_page_size": page_size,
    }


def main() -> None:
    """Run the pipe to its end."""
    orders = read_orders()
    folder, peers = Path(orders["folder"]), Path(orders["peers"])
    tap_config, target_config = folder / "tap.json", folder / "target.json"
    tap_config.write_text(json.dumps(_tap_config(orders["base_url"], orders["page_size"])))
    target_config.write_text(
        json.dumps({"path": orders["database"], "default_target_schema": "shop"})
    )
    tap = subprocess.Popen(
        [peers / "tap" / "bin" / "tap-rest-api-msdk", "--config", tap_config],
        stdout=subprocess.PIPE,
    )
    target = subprocess.Popen(
        [peers / "target" / "bin" / "target-duckdb", "--config", target_config],
        stdin=tap.stdout,
        stdout=subprocess.DEVNULL,
    )
    assert tap.stdout is not None
    tap.stdout.close()
    peaks = 0
    for process in (tap, target):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peaks += usage.ru_maxrss * 1024
        if process.returncode:
            raise SystemExit(f"{process.args!r} ended with code {process.returncode}")
    Path(orders["result"]).write_text(json.dumps({"rss": peaks}))


if __name__ == "__main__":
    main()
