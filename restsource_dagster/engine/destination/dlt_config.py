"""Set the engine's defaults in dlt's configuration, read a setting from it, and find the destination's secrets.

dlt asks its providers in order: the environment, secrets.toml, config.toml, and so on. The engine's
provider is the last, so each of its values can be changed in the ways that dlt documents.

The parts of a password are secrets, too: a parser splits a URL at characters that are not escaped.
Given `postgresql://user:ab@cd@host/db`, a driver names `cd@host` as the host.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import dlt
from dlt.common.configuration.providers import CustomLoaderDocProvider

from restsource_dagster.engine.dlt_compat import (
    Container,
    PluggableRunContext,
    RuntimeConfiguration,
    resolve_configuration,
    stop_telemetry,
)
from restsource_dagster.engine.http.redaction import secret_texts

__all__ = ["configure_dlt", "dlt_setting", "find_destination_secrets", "secrets_in_credentials"]

_DLT_DEFAULTS: dict[str, Any] = {
    # a run uses no network but the API's and the destination's
    "runtime": {"dlthub_telemetry": False, "log_level": "ERROR"},
    # one resource after the other, and the dependents of a page before the next page: rows reach
    # the tables in the order of the API, and types don't depend on how fast it answers
    "extract": {"next_item_mode": "fifo"},
    # intermediate files live for seconds: compressing them costs more than it saves
    "normalize": {
        "data_writer": {"disable_compression": True},
        # for a person who sets `normalize.workers`: forked workers outlive a killed run and keep
        # its locks
        "start_method": "spawn",
    },
    "data_writer": {"disable_compression": True},
}
_DLT_WORKERS = {"extract": 5, "normalize": 1, "load": 20}
"""dlt's own number of workers for each step: threads, for `normalize` processes."""
_DEFAULTS_NAME = "restsource defaults"
_WORKERS_NAME = "restsource workers"


def configure_dlt() -> None:
    """Register the engine's defaults with dlt, once per process."""
    if _DEFAULTS_NAME in (provider.name for provider in dlt.config.config_providers):
        return
    dlt.config.register_provider(_provider(_DEFAULTS_NAME, _DLT_DEFAULTS))
    if "WORKERS" in os.environ:
        _set_workers()
    _restart_runtime()


def dlt_setting(key: str) -> str | None:
    """Return what dlt has for a key such as `sources.shop.token`, as text; None for nothing.

    It is looked up where dlt looks for secrets, then where it looks for settings: the environment
    (`SOURCES__SHOP__TOKEN`), secrets.toml, config.toml and vaults. A table of several values is none.
    """
    for place in (dlt.secrets, dlt.config):
        found: Any = place.get(key)
        if found is not None and not isinstance(found, Mapping | list):
            return str(found)
    return None


def _set_workers() -> None:
    """Set the number of workers of each step before dlt reads it from `WORKERS`.

    dlt also looks settings up by their bare names. A variable `WORKERS` that is meant for another
    program would make each load start that many processes, which takes seconds. What dlt documents
    (`NORMALIZE__WORKERS`, or `workers` below `[normalize]`) still applies.
    """
    workers = {
        step: {"workers": dlt.config.get(f"{step}.workers", int) or default}
        for step, default in _DLT_WORKERS.items()
    }
    # dlt asks its providers in order and registers new ones at the end, after the environment's
    providers = Container()[PluggableRunContext].providers.providers
    providers.insert(0, _provider(_WORKERS_NAME, workers))


def _provider(name: str, values: dict[str, Any]) -> CustomLoaderDocProvider:
    # None, the default for locations, breaks the text of dlt's error about a missing secret. For a
    # provider without secrets dlt would find out with each lookup whether the field is one, which
    # takes a tenth of a small load
    return CustomLoaderDocProvider(name, lambda: values, supports_secrets=True, locations=[])


def _restart_runtime() -> None:
    """Apply the defaults to dlt's log and telemetry, which dlt starts when it is imported."""
    runtime = resolve_configuration(RuntimeConfiguration())
    Container()[PluggableRunContext].context.initialize_runtime(runtime)
    if not runtime.dlthub_telemetry:
        stop_telemetry()


_CREDENTIALS = "credentials"
_SECTION = "destination"
_SEPARATORS = re.compile(r"[@:/?#\[\];&=, %]+")
"""Where parsers of URLs and connection strings split a text."""
_MIN_PART_CHARS = 4
_MAX_SEPARATORS = 10
"""Parts grow with the square of the separators."""


def find_destination_secrets(name: str, environment: Mapping[str, str]) -> frozenset[str]:
    """Return the secrets that dlt may use for a destination, and the parts of its passwords.

    `name` is dlt's name of the destination, such as `postgres`.
    """
    found: set[str] = set()
    for variable, text in environment.items():
        sections = variable.lower().split("__")
        if _SECTION in sections or _CREDENTIALS in sections:
            found.update(_secrets_of(sections[-1], text))
    # dlt looks for credentials below each of these sections, the most specific one first
    places = [
        (name, (_SECTION,)),
        *((_CREDENTIALS, at) for at in ((_SECTION, name), (_SECTION,), ())),
    ]
    for key, sections_of_key in places:
        for value in _configured_values(key, sections_of_key):
            found.update(_secrets_of(key, value))
    return frozenset(found)


def _configured_values(key: str, sections: Iterable[str]) -> Iterator[Any]:
    """Yield what each of dlt's files and vaults has for a key; the environment is read as a whole."""
    for provider in dlt.config.config_providers:
        if provider.supports_sections:
            value, _ = provider.get_value(key, Any, "", *sections)
            if value is not None:
                yield value


def _secrets_of(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets_of(str(key), item)
    elif isinstance(value, str):
        if name == _CREDENTIALS:
            yield from secrets_in_credentials(value)
        for secret in secret_texts({name: value}) if name != _CREDENTIALS else ():
            yield from _with_parts(secret)


def secrets_in_credentials(text: str) -> Iterator[str]:
    """Yield the secrets of credentials in one text: a URL, JSON, or a connection string."""
    if text.lstrip().startswith("{"):
        try:
            yield from _secrets_of("", json.loads(text))
        except ValueError:
            yield text
        return
    scheme, has_scheme, rest = text.partition("://")
    place, _, query = rest.partition("?") if has_scheme else ("", "", scheme)
    if "@" in query and ("@" not in place or "=" not in query.partition("@")[0]):
        place, query = rest, ""  # the question mark is part of the password
    login, at_sign, _ = place.rpartition("@")
    password = login.partition(":")[2]
    if at_sign and password:
        yield from _with_parts(password)
    for pair in re.split("[;&]", query):
        name, _, value = pair.partition("=")
        for secret in secret_texts({name.strip(): unquote(value.strip())}):
            yield from _with_parts(secret)


def _with_parts(secret: str) -> Iterator[str]:
    """Yield a secret and all that lies between two separators in it."""
    for text in {secret, unquote(secret)}:
        yield text
        splits = [match.span() for match in _SEPARATORS.finditer(text)][:_MAX_SEPARATORS]
        starts = [0, *(end for _, end in splits)]
        ends = [*(start for start, _ in splits), len(text)]
        parts = {text[start:end] for start in starts for end in ends}
        for part in parts:
            if len(part) >= _MIN_PART_CHARS:
                yield part
                yield part.lower()  # hosts are printed in lower case
