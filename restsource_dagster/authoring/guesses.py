"""What the detection works with: answers of an API, and guesses with their evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import requests

__all__ = ["Confidence", "Guess", "SeenAnswer", "params_sent_by"]

Confidence = Literal["proved", "likely", "possible"]
"""`proved`: a second page has confirmed it. `likely`: the answers name it or show it without a second
reading. `possible`: there are other readings; nothing is written into a file for it."""

_SENT_PARAMS = (
    *("page_param", "offset_param", "limit_param", "cursor_param", "start_param"),
    *("page_body_path", "offset_body_path", "limit_body_path", "cursor_body_path"),
)


def params_sent_by(value: Any) -> frozenset[str]:
    """Return the params, or paths in the body, that a paginator or a cursor, as JSON, sends itself."""
    if not isinstance(value, Mapping):
        return frozenset()
    return frozenset(str(value[name]) for name in _SENT_PARAMS if value.get(name))


@dataclass(frozen=True)
class Guess:
    """One thing that a file could say, with what was seen and how sure it is."""

    place: str
    """Where it stands in the file, such as `endpoint.paginator`; what it is about if it has no place."""
    value: Any
    """What to write there, as JSON; None if nothing is to be written."""
    evidence: str
    confidence: Confidence = "likely"
    params: Mapping[str, str] = field(default_factory=dict)
    """Params, or values of the body by name, that have to be written with it."""

    def as_dict(self) -> Mapping[str, Any]:
        """Return the guess as JSON values."""
        return {
            "place": self.place,
            "value": self.value,
            "evidence": self.evidence,
            "confidence": self.confidence,
            **({"params": dict(self.params)} if self.params else {}),
        }


@dataclass(frozen=True)
class SeenAnswer:
    """One answer: the URL that was asked, the status, the headers and the decoded JSON body."""

    url: str
    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)
    """Values of the request's body by name."""

    @cached_property
    def params(self) -> Mapping[str, str]:
        """The params of the URL's query, and the values of the body."""
        return {**self.sent, **dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))}

    @cached_property
    def path(self) -> tuple[str, ...]:
        """The parts of the URL's path."""
        return tuple(part for part in urlsplit(self.url).path.split("/") if part)

    @cached_property
    def response(self) -> requests.Response:
        """The answer as the engine's rules and dlt's detection take it."""
        made = requests.Response()
        made.status_code = self.status
        made.headers.update(self.headers)
        made.encoding = "utf-8"
        # requests has no public way to give a response its body
        made.raw = None
        made.__dict__["_content"] = json.dumps(self.body).encode("utf-8", "surrogatepass")
        made.request = requests.Request("GET", self.url).prepare()
        made.url = self.url
        return made
