"""Look at processes that may end at any moment, also between two looks."""

import psutil

from restsource_dagster_tests.waiting import wait_until

__all__ = ["is_running", "process_of", "wait_until_gone"]


def process_of(pid: int) -> psutil.Process | None:
    """Return the process, or None if it has ended.

    Later looks at it don't confuse it with another process that gets the same id.
    """
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def is_running(process: psutil.Process | int | None) -> bool:
    """True if the process has not ended. A zombie has ended: only its parent has not noticed yet."""
    found = process_of(process) if isinstance(process, int) else process
    try:
        return found is not None and found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(*processes: psutil.Process | int | None) -> None:
    """Wait until all of these processes have ended."""
    wait_until(lambda: not [one for one in processes if is_running(one)], f"the end of {processes}")
