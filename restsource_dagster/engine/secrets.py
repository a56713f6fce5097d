"""Which values of a run are secret: what the file refers to, and what it says where secrets go."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from restsource_dagster.config.references import find_references, resolve_references

__all__ = ["secrets_of"]

_SECRET_AUTH_FIELDS = ("token", "api_key", "password", "client_secret", "access_token")


def secrets_of(config: Mapping[str, Any], environment: Mapping[str, str]) -> frozenset[str]:
    """The secret values of a connector, its references not yet resolved.

    The values of all referred variables count as secret except those used in `base_url`, which
    people need to read in a message; so do literals in the secret fields of `auth`.
    """
    public = find_references(config["client"].get("base_url", ""))
    referred = find_references(dict(config))
    secret = {environment[name] for name in referred - public if name in environment}
    for auth in _auths(config):
        resolved = resolve_references(auth, environment)
        secret.update(
            resolved[name] for name in _SECRET_AUTH_FIELDS if isinstance(resolved.get(name), str)
        )
    return frozenset(secret)


def _auths(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    holders: Iterable[Any] = [
        config["client"],
        (config.get("resource_defaults") or {}).get("endpoint"),
        *(
            resource.get("endpoint")
            for resource in config["resources"]
            if isinstance(resource, dict)
        ),
    ]
    for holder in holders:
        auth = holder.get("auth") if isinstance(holder, dict) else None
        if isinstance(auth, dict):
            yield auth
