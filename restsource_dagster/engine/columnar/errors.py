"""Why rows can't be written as columns."""

__all__ = ["NotColumnarError"]


class NotColumnarError(Exception):
    """What columns would make of a page is not, or not surely, what dlt makes of its rows."""
