"""One page on its way from a guess to whoever wants it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import requests

from restsource_dagster.engine.ahead.room import Holding, Room
from restsource_dagster.engine.http.leash import Leash
from restsource_dagster.engine.http.responses import ApiResponse
from restsource_dagster.engine.paging.course import Answer

__all__ = ["OVERHEAD_BYTES", "Ask", "Entry", "Stage"]

Ask = Callable[[requests.Request, int], requests.Response]
"""Sends a request; knows the number of its page."""

OVERHEAD_BYTES = 16 * 1024
"""What an answer takes up beside its body: headers and objects."""
_PARSED_FACTOR = 8
"""How much more room than a body its parsed JSON takes, at most."""


class Stage(IntEnum):
    """What has become of a request."""

    IDLE = 0
    ASKED = 1
    ANSWERED = 2
    TURNED = 3
    """Its page was read, and what comes after it is known."""
    GONE = 4
    """Nobody wants it."""


@dataclass(eq=False)
class Entry:
    """A page that nobody has taken yet."""

    page: int
    key: str
    request: requests.Request
    stage: Stage = Stage.IDLE
    holding: Holding | None = None
    """What it takes up, if it was asked for ahead."""
    leash: Leash | None = None
    answer: Answer | None = None
    error: Exception | None = None

    @property
    def held(self) -> int:
        """The bytes that it takes up."""
        return self.holding.size if self.holding else 0

    @property
    def body_bytes(self) -> int:
        """The size of the answer's body; 0 without one."""
        return len(self.answer.response.content) if self.answer else 0

    def begin(self, room: Room | None, expected: int) -> None:
        """It is asked for: ahead, in this room, or without one by whoever wants it."""
        self.stage = Stage.ASKED
        if room is not None:
            self.holding = Holding(room, expected)
            self.leash = Leash(self.holding.grow)

    def send(self, ask: Ask) -> requests.Response:
        """Ask for it. Raises what asking raises, and `Abandoned` if nobody wants it any more."""
        if self.leash is None:
            return ask(self.request, self.page)
        with self.leash.worn():
            return ask(self.request, self.page)

    def end(self, outcome: Answer | Exception) -> None:
        """Its answer is there, or there is none."""
        self.stage = Stage.ANSWERED
        if isinstance(outcome, Exception):
            self.error = outcome
        else:
            self.answer = outcome
        if self.holding:
            self.holding.set(self.body_bytes + OVERHEAD_BYTES)

    def fits_parsed(self, spare: int) -> bool:
        """Whether what is parsed can be kept in `spare` bytes."""
        return self.holding is None or self.body_bytes * _PARSED_FACTOR <= spare

    def keep_parsed(self, spare: int) -> None:
        """Keep what was parsed if that takes up no more than `spare`; else it is parsed again."""
        if self.holding is None or self.holding.is_wanted or self.answer is None:
            return
        more = self.body_bytes * _PARSED_FACTOR
        if more <= spare:
            self.holding.set(self.body_bytes + more + OVERHEAD_BYTES)
        elif isinstance(self.answer.response, ApiResponse):
            self.answer.response.forget_parsed()

    def drop(self) -> None:
        """Nobody wants it any more."""
        self.stage = Stage.GONE
        if self.leash:
            self.leash.drop()
        self.release()

    def release(self) -> None:
        """It takes up nothing any more."""
        if self.holding:
            self.holding.release()
