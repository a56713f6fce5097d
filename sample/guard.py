"""Stop process groups when the process that started them ends, for any reason.

The supervisor writes to this process's standard input: `+123` adds a process group to the list,
`-123` removes a group that has ended. The input ends when the supervisor ends. Then every group on
the list is stopped. This works after `kill -9` too, and on every operating system.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable

__all__ = ["GRACE_SECONDS", "group_is_alive", "main", "signal_group", "stop_groups"]

GRACE_SECONDS = 10.0
"""Seconds from the interruption of a group to its kill."""

_LOOK_AGAIN_SECONDS = 0.05


def signal_group(group: int, number: int) -> bool:
    """Send a signal to every process of a group. Return False if the group has no process."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS raises this for a group of which only zombies are left.
        return False
    return True


def group_is_alive(group: int) -> bool:
    """True if the group has a process."""
    return signal_group(group, 0)


def stop_groups(groups: Iterable[int], grace_seconds: float = GRACE_SECONDS) -> None:
    """Interrupt the groups, give them time to end in order, then kill the rest.

    The whole group is interrupted, as a terminal does on Ctrl-C. A run in progress is then recorded
    as failed. Otherwise Dagster would list it as running forever.
    """
    waiting = [group for group in groups if signal_group(group, signal.SIGINT)]
    deadline = time.monotonic() + grace_seconds
    while waiting and time.monotonic() < deadline:
        # No event reports the end of a group's last process, which may not be our child.
        time.sleep(_LOOK_AGAIN_SECONDS)
        waiting = [group for group in waiting if group_is_alive(group)]
    for group in waiting:
        signal_group(group, signal.SIGKILL)


def main() -> None:
    """Read groups from standard input until it ends, then stop the groups on the list."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    stop_groups(groups)


if __name__ == "__main__":
    main()
