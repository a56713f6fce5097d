"""Says which APIs a text of an assistant may ask, and which secrets it may send them.

A text is hostile: it can name any host and any `${...}` reference. So it gets what the project's own files
already do: a reference is filled in only for the origins to which a saved file sends it. A person allows
more when the server is started.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from restsource_dagster.connector.env_references import (
    MissingReferencesError,
    default_of,
    find_references,
    read_references,
)
from restsource_dagster.connector.loader import load_folder
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.auth import LoginAuth
from restsource_dagster.connector.models.connector_file import Client
from restsource_dagster.connector.models.endpoint import Endpoint
from restsource_dagster.connector.models.oauth_logins import OAuthLogin
from restsource_dagster.engine.http.origins import Origin, has_foreign_origin
from restsource_dagster.engine.http.redaction import Redactor, find_secrets
from restsource_dagster.engine.preview.preview_limits import urls_of

__all__ = ["AccessRefusedError", "AssistantAccess", "parse_allowance", "redacted"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_VARIABLE = re.compile(
    r"(?i)token|secret|passw|credential|api_?key|access_?key|private_?key"
)


class AccessRefusedError(Exception):
    """A text asks for more than it may. The text says what a person can do."""


@dataclass(frozen=True)
class _Allowance:
    """The references that may be sent to each origin."""

    sent: Mapping[str, frozenset[str]]
    connector: Connector | None = None
    """The saved file that allows it; None for a person who started the server."""

    @property
    def origins(self) -> frozenset[str]:
        """The origins that may be asked."""
        return frozenset(self.sent)

    @property
    def references(self) -> frozenset[str]:
        """All references that it names."""
        return frozenset().union(*self.sent.values())

    def names(self, connector: Connector) -> bool:
        """True for the saved file of this name."""
        return self.connector is not None and self.connector.name == connector.name

    def has_tls_of(self, connector: Connector) -> bool:
        """True if the saved file has the same certificates."""
        return self.connector is not None and self.connector.client.tls == connector.client.tls


def parse_allowance(text: str) -> _Allowance:
    """Return what `[NAME@]HOST` allows: a host, and a variable that may be sent to it.

    HOST stands for https; another scheme is written before it. Raises `ValueError`.
    """
    name, at_sign, host = text.rpartition("@")
    url = host if "://" in host else f"https://{host}"
    parts = urlsplit(url)
    if not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("write HOST, or NAME@HOST, such as SHOP_TOKEN@api.example.com")
    if at_sign and not _VARIABLE.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a variable")
    return _Allowance({str(Origin.of(url)): frozenset({name} if name else ())})


@dataclass
class AssistantAccess:
    """What the texts of an assistant may do in a folder of connector files."""

    folder: Path
    environment: Mapping[str, str]
    allowed: Sequence[str] = ()
    """What a person allows, each `HOST` or `NAME@HOST`."""
    redactor: Redactor = field(default_factory=Redactor)
    """Hides every secret that the folder's files refer to."""

    def __post_init__(self) -> None:
        # a variable that no file names yet can be one of the next file
        self.redactor.add_secrets(
            *(text for name, text in self.environment.items() if _SECRET_VARIABLE.search(name))
        )
        self._allowances = [parse_allowance(text) for text in self.allowed]
        for each in self._allowances:
            self.redactor.add_secrets(*(self.environment.get(name, "") for name in each.references))
        for connector in load_folder(self.folder).connectors:
            self._allowances.append(self._allowance_of(connector))

    def _allowance_of(self, connector: Connector) -> _Allowance:
        try:
            values = read_references(connector.references, self.environment, _look_up)
            resolved = connector.resolved(values)
        except MissingReferencesError:
            # without a value it can't be run either, so it allows no more than what it says plainly
            plain = dict.fromkeys(_origins_of(connector), frozenset[str]())
            return _Allowance(plain, connector)
        self.redactor.add_secrets(*find_secrets(connector, resolved, values))
        return _Allowance(_sent_by(connector, resolved), connector)

    def check_url(self, url: str, references: Iterable[str]) -> Mapping[str, str]:
        """Return the variables that may be sent to a URL. Raises `AccessRefusedError`."""
        return self._check({str(Origin.of(url)): frozenset(references)})

    def check_connector(self, connector: Connector) -> Mapping[str, str]:
        """Return the variables that a connector may send. Raises `AccessRefusedError`.

        Raises `MissingReferencesError` for a variable without a value.
        """
        # first, so that nothing is read, a file of `${file:...}` least of all, that no saved file reads
        known = _variables(name for each in self._allowances for name in each.references)
        for reference in sorted(connector.references):
            if _variable(reference) not in known:
                raise AccessRefusedError(_refused_reference(reference, "any host"))
        values = read_references(connector.references, self.environment, _look_up)
        sent = _sent_by(connector, connector.resolved(values))
        self._check_name(connector, frozenset(sent))
        self._check_listed(connector)
        return self._check(sent)

    def _check_listed(self, connector: Connector) -> None:
        """Refuse hosts to which links may lead if no saved file lists them. They get no credentials."""
        listed = {urlsplit(origin).netloc for each in self._allowances for origin in each.origins}
        for each in self._allowances:
            if each.connector is not None:
                listed.update(each.connector.http.allowed_hosts)
        for host in connector.http.allowed_hosts:
            if host not in listed:
                raise AccessRefusedError(
                    f"No saved file asks {host}. A person can allow it: start the server with --allow {host}"
                )

    def _check(self, sent: Mapping[str, frozenset[str]]) -> Mapping[str, str]:
        for origin, references in sorted(sent.items()):
            given = [each.sent[origin] for each in self._allowances if origin in each.sent]
            if not given:
                host = origin.removeprefix("https://")
                raise AccessRefusedError(
                    f"No saved file asks {origin}. A person can allow it: start the server with --allow {host}"
                )
            known = _variables(name for each in given for name in each)
            for reference in sorted(references):
                if _variable(reference) not in known:
                    raise AccessRefusedError(_refused_reference(reference, origin))
        names = {_variable(each) for references in sent.values() for each in references}
        return {name: text for name, text in self.environment.items() if name in names}

    def _check_name(self, connector: Connector, origins: frozenset[str]) -> None:
        """Refuse a text that has a saved connector's name, and other origins or certificates.

        Stored tokens and secrets of dlt's own files are found by a connector's name.
        """
        saved = next((each for each in self._allowances if each.names(connector)), None)
        if connector.client.tls is not None and not (saved and saved.has_tls_of(connector)):
            raise AccessRefusedError("`client.tls` names files of this machine; a person writes it")
        if saved is not None and (foreign := sorted(origins - saved.origins)):
            raise AccessRefusedError(
                f"The saved file {connector.name} does not ask {', '.join(foreign)}; use another name"
            )


def _origins_of(connector: Connector) -> frozenset[str]:
    return frozenset(str(Origin.of(url)) for url in urls_of(connector))


def _sent_by(connector: Connector, resolved: Connector) -> Mapping[str, frozenset[str]]:
    """Return the references that a file sends to each origin that it names.

    An endpoint at another origin than `base_url` gets nothing of the client, and what OAuth logins have goes to
    where tokens are issued. `resolved` is the file with its values: URLs may have references, too.
    """
    base = str(Origin.of(resolved.client.base_url))
    sent = {origin: set[str]() for origin in _origins_of(resolved)}
    client = connector.client
    sent[base] |= _without_auth(client)
    _add_auth(sent, base, client.auth, resolved.client.auth)
    for one, known in zip(connector.resources, resolved.resources, strict=True):
        # params stand in the path, and in its host, too
        path = known.bound_path
        endpoint, to = one.endpoint, base
        if has_foreign_origin(resolved.client.base_url, path):
            endpoint, to = one.foreign_endpoint or one.endpoint, str(Origin.of(path))
        references = _without_auth(endpoint) | find_references(one.path_params)
        for origin in (to, *_listed_origins(path, resolved.http.allowed_hosts)):
            sent.setdefault(origin, set()).update(references)
        _add_auth(sent, to, endpoint.auth, known.endpoint.auth)
    # what is sent nowhere, such as the key of a hash, is seen in rows of the API
    sent[base] |= connector.references - frozenset[str]().union(*sent.values())
    return {origin: frozenset(references) for origin, references in sent.items()}


def _listed_origins(path: str, hosts: Iterable[str]) -> Iterator[str]:
    """Yield the origins of listed hosts if a value that a run finds is the host of the path."""
    parts = urlsplit(path)
    if "{" in parts.netloc:
        yield from (str(Origin.of(f"{parts.scheme}://{host}")) for host in hosts)


def _without_auth(holder: Client | Endpoint) -> frozenset[str]:
    """Return the references of all fields but the login."""
    names = type(holder).model_fields.keys() - {"auth"}
    return find_references([getattr(holder, name) for name in names])


def _add_auth(sent: dict[str, set[str]], origin: str, auth: Any, resolved: Any) -> None:
    """Add the references of a login to where it sends them: OAuth's go to the issuer of tokens alone."""
    if isinstance(resolved, OAuthLogin) and resolved.access_token_url:
        origin = str(Origin.of(resolved.access_token_url))
    elif isinstance(resolved, LoginAuth) and "://" in resolved.path:
        origin = str(Origin.of(resolved.path))
    sent.setdefault(origin, set()).update(find_references(auth) if auth is not None else ())


def _look_up(key: str) -> str | None:
    # here, because importing dlt takes a second, and few files refer to its settings
    from restsource_dagster.engine.destination.dlt_config import dlt_setting

    return dlt_setting(key)


def _variable(reference: str) -> str:
    """Return what a reference reads: the variable's name without its default."""
    return reference if default_of(reference) is None else reference.partition(":-")[0]


def _variables(references: Iterable[str]) -> set[str]:
    return {_variable(reference) for reference in references}


def _refused_reference(reference: str, origin: str) -> str:
    text = f"No saved file sends ${{{reference}}} to {origin}"
    if not _VARIABLE.fullmatch(_variable(reference)):
        return f"{text}; only a person can write such a reference"
    host = "HOST" if "://" not in origin else origin.removeprefix("https://")
    return f"{text}. A person can allow it: start the server with --allow {_variable(reference)}@{host}"


def redacted(value: Any, redactor: Redactor) -> Any:
    """Return a JSON value without secrets, in keys and numbers too."""
    if isinstance(value, Mapping):
        return {redactor(str(key)): redacted(item, redactor) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, redactor) for item in value]
    if value is None or isinstance(value, bool):
        return value
    hidden = redactor(str(value))
    return value if hidden == str(value) else hidden
