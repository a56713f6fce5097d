"""What the rules about wrong JSON share: a mistake and the text without it."""

from dataclasses import dataclass

from restsource_dagster.config.positions import Mistake
from restsource_dagster.config.problems import Finding

__all__ = ["Diagnosis", "expected_for", "mistake", "put"]


@dataclass(frozen=True)
class Diagnosis:
    """A mistake and, if its meaning is clear, the text without it.

    The mended text is as long as the original, so that offsets in it hold for the original too.
    """

    mistake: Mistake
    mended: str | None = None


def mistake(
    offset: int,
    message: str,
    *,
    found: str | None = None,
    expected: str | None = None,
    mend: str | None = None,
    mended: str | None = None,
) -> Diagnosis:
    """A diagnosis of the text at an offset."""
    finding = Finding("", message, found=found, expected=expected, mend=mend)
    return Diagnosis(Mistake(offset, finding), mended)


def put(text: str, offset: int, replacement: str) -> str:
    """The text with the replacement over what is at the offset."""
    return text[:offset] + replacement + text[offset + len(replacement) :]


def expected_for(reason: str) -> str | None:
    """What the standard library's parser expected when it gave that reason."""
    return {
        "Expecting value": "a value: an object, a list, a text in double quotes, a number, "
        "true, false or null",
        "Expecting property name enclosed in double quotes": "a key in double quotes",
        "Expecting ',' delimiter": "a comma, or the end of the list or object",
        "Expecting ':' delimiter": "a colon after the key",
    }.get(reason)
