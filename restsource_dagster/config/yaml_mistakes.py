"""What is said of YAML that isn't valid, or valid but not read here."""

import yaml

from restsource_dagster.config.positions import Mistake
from restsource_dagster.config.problems import Finding

__all__ = [
    "bad_alias",
    "key_not_text",
    "merge_key",
    "not_yaml",
    "second_document",
    "tagged",
    "unreadable",
]

_MENDS = {
    "mapping values are not allowed": "Put the text in quotes if it contains ': '",
    "found character '\\t'": "Indent with spaces, not with tabs",
    "cannot start any token": "Put the text in double quotes",
    "did not find expected": "Check the indentation, and put texts with special characters in quotes",
    "but found": "Check the indentation, and put texts with special characters in quotes",
    "could not find expected ':'": "Write a colon and a space after the key",
    "unexpected end of stream": "Close the quote",
    "unknown escape": "Write \\\\ for a backslash, or use single quotes",
}


def not_yaml(error: yaml.YAMLError, end: int) -> Mistake:
    """What the parser said, at the place it said it of; `end` is the length of the text."""
    if isinstance(error, yaml.reader.ReaderError):
        return Mistake(
            int(error.position),
            Finding("", "A YAML file can't hold this character", "a control character", None,
                    "Delete it, or write it as an escape in double quotes"),
        )  # fmt: skip
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or "it can't be read")
    mend = next((mend for part, mend in _MENDS.items() if part in problem), None)
    offset = min(mark.index, end) if mark is not None else 0
    return Mistake(offset, Finding("", f"This is not YAML: {problem}", mend=mend))


def unreadable(error: Exception) -> Mistake:
    """A text on which the parser itself failed."""
    return Mistake(
        0,
        Finding("", f"This is not YAML: the parser gave up ({type(error).__name__})",
                mend="Look for a wrong escape such as \\Uffffffff, or write the file as JSON"),
    )  # fmt: skip


def tagged(pointer: str) -> Finding:
    """A tag, such as !!python/object or !secret."""
    return Finding(
        pointer, "Tags are not read", "a tag, which begins with `!`", "a value without a tag",
        "Delete the tag; a text is put in quotes, a secret written ${NAME}",
    )  # fmt: skip


def key_not_text(pointer: str, found: str) -> Finding:
    """A key that JSON couldn't have."""
    return Finding(
        pointer, "Keys are texts", found, "a text", "Put it in double quotes, and a text that "
        "begins with { or [ too; a secret is written ${NAME}",
    )  # fmt: skip


def merge_key(pointer: str) -> Finding:
    """YAML 1.1's merge key, which 1.2 doesn't have."""
    return Finding(
        pointer, "Merging with `<<` is not read", "the key `<<`", None,
        'Write the keys out, or use "resource_defaults"', on_key=True,
    )  # fmt: skip


def bad_alias(pointer: str, *, defined: bool) -> Finding:
    """An alias for nothing, or for a value around it."""
    found = "an alias for a value that holds it" if defined else "an alias for no anchor"
    return Finding(
        pointer, "The alias can't be read", found, "an alias (*name) after its anchor (&name)",
        "Put the text in quotes if it only begins with *",
    )  # fmt: skip


def second_document() -> Finding:
    """A second document in the stream."""
    return Finding(
        "", "The file holds more than one document", "a second one after `---`", "one document",
        "Put the second one into a file of its own",
    )  # fmt: skip
