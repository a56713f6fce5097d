"""urllib3 logs every URL at debug level, query and all: these lines are redacted, too."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["redacted_logs"]

_LOGGERS = ("connection", "connectionpool", "poolmanager", "response", "util.retry")
_redact: ContextVar[Callable[[str], str] | None] = ContextVar("redact", default=None)


class _Redacting(logging.Filter):
    """Rewrites the records of the thread that has a redactor; passes all others on untouched."""

    def filter(self, record: logging.LogRecord) -> bool:
        redact = _redact.get()
        if redact is not None:
            record.msg, record.args = redact(record.getMessage()), ()
        return True


@contextmanager
def redacted_logs(redact: Callable[[str], str]) -> Iterator[None]:
    """Have what urllib3 logs in this thread pass through `redact`."""
    for name in _LOGGERS:
        logger = logging.getLogger(f"urllib3.{name}")
        if not any(isinstance(known, _Redacting) for known in logger.filters):
            logger.addFilter(_Redacting())
    token = _redact.set(redact)
    try:
        yield
    finally:
        _redact.reset(token)
