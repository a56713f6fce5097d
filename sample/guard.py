"""Stop process groups when the process that started them is gone, however it went.

The supervisor holds the writing end of this process's standard input: `+123` there names a process
group to look after, `-123` one that has ended. The end of the input means that the supervisor has
ended too, and then every group still on the list is stopped. That works for `kill -9` as well, and
needs no call that only one operating system has.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable

__all__ = ["GRACE_SECONDS", "group_is_alive", "main", "signal_group", "stop_groups"]

GRACE_SECONDS = 10.0
"""How long a group that was interrupted may take until it is killed."""

_LOOK_AGAIN_SECONDS = 0.05


def signal_group(group: int, number: int) -> bool:
    """Send a signal to every process of a group; return False if there is none."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS answers so for a group of which only zombies are left.
        return False
    return True


def group_is_alive(group: int) -> bool:
    """Tell whether a group has any process."""
    return signal_group(group, 0)


def stop_groups(groups: Iterable[int], grace_seconds: float = GRACE_SECONDS) -> None:
    """Interrupt the groups, give them time to end in order, then kill what is left.

    The whole group is interrupted, as a terminal does on Ctrl-C: a run in progress is then recorded
    as failed, instead of standing in Dagster's list as running for ever.
    """
    waiting = [group for group in groups if signal_group(group, signal.SIGINT)]
    deadline = time.monotonic() + grace_seconds
    while waiting and time.monotonic() < deadline:
        # No event tells that the last process of a group has ended: it need not be our child.
        time.sleep(_LOOK_AGAIN_SECONDS)
        waiting = [group for group in waiting if group_is_alive(group)]
    for group in waiting:
        signal_group(group, signal.SIGKILL)


def main() -> None:
    """Read groups from standard input until it ends, then stop those that are left."""
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
