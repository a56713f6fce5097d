"""What to do with certain responses (`response_actions`)."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, Tag

from restsource_dagster.connector.models.fields import (
    FileModel,
    JsonPath,
    SingleValue,
    Text,
    WholeNumber,
    by_kind,
)

__all__ = ["ACTION_NAMES", "ROW_STATUSES", "ActionName", "ResponseAction"]


def _status_kind(value: Any) -> str | None:
    # `true` passes as a number, as in dlt, and `boolean_warnings` reports it.
    return "#text" if isinstance(value, str) else "#number" if isinstance(value, int) else None


ActionName = Literal["ignore", "retry", "fail", "skip", "end", "gone"]
ACTION_NAMES: tuple[ActionName, ...] = get_args(ActionName)
"""The names of response actions. dlt has `ignore` only."""
ROW_STATUSES = range(200, 300)
"""The statuses of responses that hold rows."""
_STATUS_CODE = re.compile(r"[1-9][0-9]{2}", re.ASCII)
_STATUS_CLASS = re.compile(r"[1-5]xx", re.ASCII | re.IGNORECASE)


class ResponseAction(FileModel):
    """What to do with a certain response, for example to treat a 404 as "no rows".

    An action matches if all its conditions hold. dlt's configuration has `status_code` without classes
    such as `5xx`, `content` and `ignore`.
    """

    status_code: (
        Annotated[
            Annotated[WholeNumber, Tag("#number")] | Annotated[Text, Tag("#text")],
            by_kind(_status_kind, custom_error_message="a status code such as 404"),
        ]
        | None
    ) = Field(
        default=None,
        description="The status code of the response, or a class of status codes (`5xx`).",
    )
    header: dict[str, Text] | None = Field(
        default=None,
        description="Headers of the response, each with a text that the header contains. An empty "
        "text matches any value.",
    )
    content: Text | None = Field(
        default=None, description="A text that the body of the response contains."
    )
    body: dict[JsonPath, SingleValue] | None = Field(
        default=None,
        description='Values in the JSON body, by their JSON paths: `{"error.code": "no_licence"}`. Each must '
        "be there and equal.",
    )
    # Any text, because dlt accepts any and a reference may stand here. `check` warns of an unknown
    # word.
    action: Text | None = Field(
        default=None,
        description="`ignore`: the response counts as an empty page, and the paging ends. `retry`: "
        "the request is repeated, as after a 503. `fail`: the resource fails at once, "
        "whatever the status. `skip`: the resource and its dependents are left as they are, and the run goes "
        "on; it fails if rows came before. `end`: the rows of this response are the last ones; a "
        "response that is an error ends the paging, and fails as the first one. `gone`: the parent's record no "
        "longer exists, so its rows are removed and it is never requested again.",
    )

    @property
    def known_action(self) -> ActionName | None:
        """The action; None for an unknown word, which dlt and the engine ignore."""
        return next((name for name in ACTION_NAMES if name == self.action), None)

    @cached_property
    def statuses(self) -> range | None:
        """The status codes that `status_code` means; None if no response can have it."""
        # A reference has become text by now, perhaps with a line end from the variable.
        text = str(self.status_code).strip()
        if _STATUS_CODE.fullmatch(text):
            return range(int(text), int(text) + 1)
        if _STATUS_CLASS.fullmatch(text):
            return range(int(text[0]) * 100, int(text[0]) * 100 + 100)
        return None

    @property
    def has_condition(self) -> bool:
        """True if it names a status, headers, a text or a value; an action without any never matches."""
        named = self.status_code is not None or self.content is not None
        return named or bool(self.header) or bool(self.body)

    def matches(
        self, status: int, headers: Mapping[str, str], body: bytes, charset: str | None
    ) -> bool:
        """True if a response has the status, headers and text that the action names. `body` is not compared.

        The names of `headers` are compared as they are, so pass a mapping that ignores their case.
        `charset` is that of the response's `Content-Type`; None without one.
        """
        return (
            self.has_condition
            and (self.status_code is None or status in (self.statuses or ()))
            and all(
                # Media types and most tokens in headers have no case (RFC 9110).
                name in headers and text.lower() in headers[name].lower()
                for name, text in (self.header or {}).items()
            )
            and (self.content is None or _body_contains(body, charset, self.content))
        )


def _body_contains(body: bytes, charset: str | None, text: str) -> bool:
    """True if the body holds the text. Most bodies are UTF-8, and guessing a charset is slow."""
    # A variable that isn't UTF-8 holds lone surrogates, which `encode` would refuse.
    if text.encode("utf-8", "surrogatepass") in body:
        return True
    if not charset or charset.lower() in ("utf-8", "utf8"):
        return False
    try:
        return text in body.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset that Python doesn't know
        return False
