"""The machine and the versions that the figures were measured with."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["machine", "versions"]

_PACKAGES = ("dlt", "duckdb", "pyarrow", "dagster", "requests", "orjson")
_PEERS = {
    "airbyte": ("airbyte-cdk",),
    "tap": ("tap-rest-api-msdk", "singer-sdk"),
    "target": ("target-duckdb",),
}


def machine() -> dict[str, str | int]:
    """Return the processor, the cores that this process may use, the memory in bytes and the system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(peers: Path) -> dict[str, str]:
    """Return the versions of Python, of the measured libraries and of the installed peers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for peer, names in _PEERS.items():
        for name in names:
            if installed := _version_of_peer(peers / peer, name):
                found[name] = installed
    return found


def _version_of_peer(environment: Path, name: str) -> str | None:
    pattern = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/{name.replace('-', '_')}-*.dist-info"
    for folder in environment.glob(pattern):
        return folder.name.removesuffix(".dist-info").rpartition("-")[2]
    return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
