"""How much a connector file must and may hold. Real ones stay far below; these keep a wrong file harmless."""

from restsource_dagster.config.problems import Finding

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_MISTAKES",
    "MAX_VALUES",
    "empty_file",
    "too_deep",
    "too_many_values",
]

MAX_BYTES = 4 * 1024 * 1024
"""Size of a file in bytes; a larger one isn't read at all."""
MAX_DEPTH = 100
"""Levels of lists and objects inside each other."""
MAX_DIGITS = 4_300
"""Digits of a whole number, Python's own limit (`sys.int_info.default_max_str_digits`)."""
MAX_MISTAKES = 200
"""Mistakes of the text (not of its meaning) that are listed; the rest waits for the next check."""
MAX_VALUES = 100_000
"""Values in a file, each list, object, text, number, true, false and null counted as one."""


def empty_file() -> Finding:
    """What to say about a file that holds nothing, or nothing but comments."""
    return Finding(
        pointer="",
        message="The file is empty",
        expected='an object with "schedule", "client" and "resources"',
    )


def too_deep() -> Finding:
    """What to say about a file that is nested too deeply."""
    return Finding(
        pointer="",
        message="Lists and objects are nested too deeply here",
        found=f"more than {MAX_DEPTH} levels",
        expected=f"at most {MAX_DEPTH} levels",
        mend="Is this a connector file?",
    )


def too_many_values() -> Finding:
    """What to say about a file with too many values."""
    return Finding(
        pointer="",
        message="The file holds too much",
        found=f"more than {MAX_VALUES:,} values",
        expected=f"at most {MAX_VALUES:,} values",
        mend="Is this a connector file? If so, split it: one file per API",
    )
