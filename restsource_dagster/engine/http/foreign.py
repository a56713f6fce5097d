"""Endpoints that the file itself puts at another origin than the client's `base_url`."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from restsource_dagster.engine.http.origins import OriginPolicy

__all__ = ["is_foreign", "own_part"]

_SENT = ("auth", "headers", "params", "json", "data")


def is_foreign(base_url: str, path: str) -> bool:
    """Whether a path is a full URL of an origin that is not the base URL's.

    A host with a placeholder in it is not: what the API puts there is checked at each request.
    """
    parts = urlsplit(path)
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc or "{" in parts.netloc:
        return False
    return not OriginPolicy.for_url(base_url).is_own(path)


def own_part(
    endpoint: Mapping[str, Any], given: Mapping[str, Any] | None, base_url: str
) -> Mapping[str, Any]:
    """An endpoint without what `resource_defaults` send along, if it is a foreign one.

    `endpoint` is merged with the defaults, `given` is what the resource itself says. Credentials in
    the defaults are meant for the API of `base_url`.
    """
    if not is_foreign(base_url, str(endpoint.get("path", ""))):
        return endpoint
    own = dict(endpoint)
    for name in _SENT:
        said = (given or {}).get(name)
        if said is None:
            own.pop(name, None)
        elif isinstance(said, Mapping) and isinstance(own.get(name), Mapping):
            own[name] = {key: value for key, value in own[name].items() if key in said}
    return own
