"""What the importers read of a source, whatever its kind: an API with its servers, login and endpoints."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.authoring.importing.source_pieces import Ledger
from restsource_dagster.connector.models.auth import (
    ApiKeyAuth,
    BearerAuth,
    DigestAuth,
    HttpBasicAuth,
)
from restsource_dagster.connector.models.incremental_cursor import Incremental
from restsource_dagster.connector.models.oauth_logins import (
    OAuth2ClientCredentialsAuth,
    OAuth2PasswordAuth,
    OAuth2RefreshTokenAuth,
)
from restsource_dagster.connector.models.paginators import (
    CursorPaginator,
    HeaderCursorPaginator,
    HeaderLinkPaginator,
    JsonLinkPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    SinglePagePaginator,
)
from restsource_dagster.connector.models.processing_steps import (
    DropStep,
    FilterStep,
    MapStep,
    RenameStep,
    YieldMapStep,
)
from restsource_dagster.connector.models.response_action import ResponseAction
from restsource_dagster.connector.naming import RESERVED_NAMES
from restsource_dagster.connector.validation.diagnostics import may_be_secret

__all__ = [
    "EnvVariables",
    "ImportedApi",
    "ImportedAuth",
    "ImportedEndpoint",
    "ImportedPaginator",
    "ImportedStep",
    "connector_name",
    "is_stand_in",
    "literal",
    "looks_like_secret",
    "name_of_host",
    "resource_name",
    "unique_name",
]

ImportedAuth = (
    BearerAuth
    | ApiKeyAuth
    | HttpBasicAuth
    | DigestAuth
    | OAuth2ClientCredentialsAuth
    | OAuth2PasswordAuth
    | OAuth2RefreshTokenAuth
)
ImportedPaginator = (
    JsonLinkPaginator
    | HeaderLinkPaginator
    | HeaderCursorPaginator
    | CursorPaginator
    | PageNumberPaginator
    | OffsetPaginator
    | SinglePagePaginator
)
ImportedStep = FilterStep | MapStep | YieldMapStep | DropStep | RenameStep


@dataclass
class EnvVariables:
    """The variables that a file refers to, each with its value in the source; "" where it has none.

    The values are secrets: nothing prints them.
    """

    prefix: str
    _values: dict[str, str] = field(default_factory=dict, repr=False)

    def reference(self, suffix: str, value: str = "") -> str:
        """Return the reference `${PREFIX_SUFFIX}`. A suffix with another value gets a number."""
        base = re.sub("[^A-Z0-9]+", "_", f"{self.prefix}_{suffix}".upper()).strip("_")
        name, number = base, 2
        # one variable for two secrets would send one of them to the wrong place
        while value and self._values.get(name, value) not in ("", value):
            name, number = f"{base}_{number}", number + 1
        self._values[name] = value or self._values.get(name, "")
        return f"${{{name}}}"

    def note(self, name: str, value: str = "") -> str:
        """Return the reference to a variable that has a name already."""
        self._values[name] = value or self._values.get(name, "")
        return f"${{{name}}}"

    def values(self) -> Mapping[str, str]:
        """Return the value of each variable, in the order of their first use."""
        return dict(self._values)


@dataclass(frozen=True)
class ImportedEndpoint:
    """One kind of record that the source asks for. `path` and all texts are as the file has them."""

    name: str
    path: str
    is_selected: bool = True
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] | str | None = None
    auth: ImportedAuth | None = None
    paginator: ImportedPaginator | None = None
    data_selector: str | None = None
    incremental: Incremental | None = None
    primary_key: str | tuple[str, ...] | None = None
    response_actions: tuple[ResponseAction, ...] = ()
    processing_steps: tuple[ImportedStep, ...] = ()
    for_each: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    include_from_parent: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportedApi:
    """An API as a source describes it, and what became of each piece of the source."""

    name: str
    base_url: str
    endpoints: tuple[ImportedEndpoint, ...]
    variables: EnvVariables
    ledger: Ledger
    description: str | None = None
    auth: ImportedAuth | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    paginator: ImportedPaginator | None = None


_MAX_NAME = 40
_SERVICE_WORDS = frozenset(
    {"api", "rest", "www", "com", "org", "net", "io", "co", "uk", "de", "app"}
)


def _snake(text: str) -> str:
    """Return a text as a name of small letters, digits and underscores; "" if nothing is left."""
    # `LineItems` and `lineItems` are `line_items`, as dlt names tables
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    name = re.sub("[^a-z0-9]+", "_", spaced.lower()).strip("_")
    return name[:_MAX_NAME].strip("_")


def connector_name(*candidates: str | None) -> str:
    """Return the first candidate that makes a connector's name; `api` if none does."""
    for candidate in candidates:
        words = _snake((candidate or "").removesuffix("API").removesuffix("api"))
        name = words if words[:1].isalpha() or not words else f"api_{words}"
        if name:
            return f"{name}_api" if name in RESERVED_NAMES else name
    return "api"


def name_of_host(host: str) -> str:
    """Return what a host is called: `example` for `api.example.com:8080`."""
    labels = [label for label in host.lower().split(":")[0].split(".") if label]
    # an IP address names no service
    if all(label.isdigit() for label in labels):
        return ""
    # the last of what is left is the owner: `shop.example.com` and `api.example.com` are `example`
    named = [label for label in labels if label not in _SERVICE_WORDS]
    return named[-1] if named else ""


def resource_name(text: str) -> str:
    """Return a text as a resource's name; `records` if nothing is left of it."""
    name = _snake(re.sub(r"\.(json|jsonl|ndjson|xml|php|csv|tsv|aspx?)$", "", text))
    return name if name[:1].isalpha() else f"records_{name}".strip("_")


def unique_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is taken, and take it."""
    made, number = name, 2
    while made in taken:
        made, number = f"{name}_{number}", number + 1
    taken.add(made)
    return made


def literal(text: str, *, readings: int = 1) -> str:
    """Return a text of the source as the file has it, with braces that stand for themselves.

    A path is read for placeholders twice (`readings`), any other text once.
    """
    # each reading takes two braces for one
    doubled = text.replace("{", "{" * 2**readings).replace("}", "}" * 2**readings)
    return doubled.replace("${", "$${")


_STAND_IN = re.compile(
    r"<[^>]*>|\{[^}]*\}|\[[^]]*\]|your.*|my.*|x{3,}|\.{3,}|\*{3,}|.*_here", re.IGNORECASE
)


def is_stand_in(text: str) -> bool:
    """True for what documentation writes in place of a value, such as `<YOUR_TOKEN>`."""
    return _STAND_IN.fullmatch(text) is not None


_SECRET_PREFIX = re.compile(
    r"(eyJ[\w-]{8,}\.|(sk|pk|rk|pat|key|ghp|gho|ghs|github_pat|glpat|xox[abpr]|shp\w\w|SG|AKIA)[-_.]\w{6})"
)
_RANDOM = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9_+/=-]{24,}|[0-9a-f]{32,}")
_SECRET_NAME = re.compile(r"(^|[-_.])(key|code|hash|hmac|sid|csrf|xsrf|otp)$", re.IGNORECASE)


def looks_like_secret(name: str, value: object) -> bool:
    """True if a value of this name may be a secret, by its name or by how it looks."""
    if not isinstance(value, str) or not value:
        return False
    # too much rather than too little: a variable can be written back, a leaked secret can't
    named = may_be_secret((name,)) or _SECRET_NAME.search(name) is not None
    return named or bool(_SECRET_PREFIX.match(value) or _RANDOM.fullmatch(value))
