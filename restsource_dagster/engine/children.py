"""What a failing call for one parent's children does: `http.on_child_error`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from restsource_dagster.config.http import SkipChildErrors
from restsource_dagster.engine.errors import RequestError, ResponseError
from restsource_dagster.engine.tally import Tally

__all__ = ["ChildErrors"]


class ChildErrors:
    """Lets a dependent resource go on without some of its parents, and keeps a list of them."""

    def __init__(self, rule: Literal["fail"] | SkipChildErrors, tally: Tally) -> None:
        self._may_skip = rule.skip_up_to if isinstance(rule, SkipChildErrors) else 0
        self._tally = tally

    @contextmanager
    def of(self, path: str) -> Iterator[None]:
        """Run the call of one parent; swallow its failure while there are few enough of them."""
        try:
            yield
        except (RequestError, ResponseError):
            if not self._may_skip or self._tally.skip(path) > self._may_skip:
                raise
