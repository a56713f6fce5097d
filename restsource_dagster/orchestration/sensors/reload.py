"""Reloading the code location from inside it, as the Reload button does from outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import dagster as dg

from restsource_dagster.orchestration.dagster_compat import code_location_of

__all__ = ["RELOAD_TIMEOUT_SECONDS", "ReloadResult", "reload_location"]

RELOAD_TIMEOUT_SECONDS = 50
"""Below the 60 seconds that the daemon gives a sensor tick, so that we can still tell of it."""
RELOAD_BY_HAND = "Click Reload beside the code location in Dagster's UI (Deployment)."


@dataclass(frozen=True)
class ReloadResult:
    """How asking for a reload went; `detail` is a sentence or two for people.

    - `asked`: done as far as the asked one says. `via` tells whom: the code server, which serves the
      new definitions to webserver and daemon within a second or two; or the webserver, whose
      definitions are new while the daemon renews its own about every minute.
    - `failed`: worth another try later.
    - `unsupported`: nobody can be asked here; only a person can reload.
    """

    outcome: Literal["asked", "failed", "unsupported"]
    detail: str
    via: Literal["code server", "webserver"] | None = None


def reload_location(
    context: dg.SensorEvaluationContext,
    *,
    webserver: str | None = None,
    timeout_seconds: int = RELOAD_TIMEOUT_SECONDS,
) -> ReloadResult:
    """Have the code location that this sensor is part of read its files again. Never raises.

    Under `dagster dev` and `dagster code-server start` the code server itself is asked. Where
    webserver and daemon each run a code server of their own (a `workspace.yaml` with a module),
    there is none to ask, and the webserver is, if its address is given (`http://host:3000`).

    Asking the code server is not a documented part of Dagster: a version that lacks it is a result that
    says so and what to do.
    """
    location = code_location_of(context)
    if location is None:
        return ReloadResult(
            "unsupported", f"This sensor runs outside of a code location. {RELOAD_BY_HAND}"
        )
    if location.reload is not None:
        return _ask_code_server(location.reload, timeout_seconds)
    if webserver is not None:
        return _ask_webserver(webserver, location.name, timeout_seconds)
    return ReloadResult(
        "unsupported",
        "The connector files changed, but this code location can't be reloaded from inside: it "
        f"has no code server of its own (start Dagster with `dagster dev`). {RELOAD_BY_HAND}",
    )


def _ask_code_server(reload: Callable[[int], None], timeout_seconds: int) -> ReloadResult:
    try:
        reload(timeout_seconds)
    except Exception as error:  # noqa: BLE001 - not a public API: what it raises isn't promised
        return ReloadResult(
            "failed", f"The code server did not reload: {_error_text(error)} {RELOAD_BY_HAND}"
        )
    return ReloadResult("asked", "The code server loaded the connector files again.", "code server")


def _ask_webserver(address: str, location_name: str, timeout_seconds: int) -> ReloadResult:
    from dagster_graphql import DagsterGraphQLClient, ReloadRepositoryLocationStatus

    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        client = DagsterGraphQLClient(
            parts.hostname or "",
            port_number=parts.port,
            use_https=parts.scheme == "https",
            path_prefix=parts.path.rstrip("/"),
            timeout=timeout_seconds,
        )
        answer = client.reload_repository_location(location_name)
    except Exception as error:  # noqa: BLE001 - a network client: any failure is the answer's text
        return ReloadResult(
            "failed",
            f"The webserver at {address} did not reload: {_error_text(error)} {RELOAD_BY_HAND}",
        )
    if answer.status is not ReloadRepositoryLocationStatus.SUCCESS:
        reason = answer.message or answer.failure_type or "it gave no reason."
        return ReloadResult("failed", f"The webserver at {address} did not reload: {reason}")
    return ReloadResult("asked", "The webserver loaded the connector files again.", "webserver")


def _error_text(error: Exception) -> str:
    text = " ".join(str(error).split())[:500].rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."
