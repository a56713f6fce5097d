"""How each resource is asked for: its session, credentials, paginator and limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.rest_api.config_setup import create_auth
from requests.auth import AuthBase

from restsource_dagster.config.connector import Connector
from restsource_dagster.engine.http.budget import Budget
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.session import ApiSession, SessionRules
from restsource_dagster.engine.http.tokens import RenewingToken
from restsource_dagster.engine.paging.actions import is_ignored
from restsource_dagster.engine.paging.pages import Endpoint
from restsource_dagster.engine.paging.paginators import make_paginator
from restsource_dagster.engine.paging.selectors import counts_rows
from restsource_dagster.engine.plans import ResourcePlan
from restsource_dagster.engine.progress import Progress
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.tally import Tally

__all__ = ["EndpointMaker"]


@dataclass(frozen=True)
class _Listener:
    """Counts what arrives and says what is missing."""

    resource: str
    tally: Tally
    progress: Progress

    def page(self, rows: int, nulls: int) -> None:
        self.tally.count(rows=rows, nulls=nulls)
        self.progress.page(self.resource, rows)
        if nulls:
            self.progress.message(f"{self.resource}: left out {nulls} null items of a page")

    def end(self, promised: int | None, received: int) -> None:
        if promised is None:
            return
        self.tally.promise(promised)
        if received < promised:
            self.progress.message(
                f"{self.resource}: the API named a total of {promised}, and {received} arrived; "
                f"{promised - received} are missing"
            )


class EndpointMaker:
    """Makes the endpoints of one run; they share a request budget and the client's token."""

    def __init__(
        self,
        connector: Connector,
        client: Mapping[str, Any],
        redactor: Redactor,
        progress: Progress,
    ) -> None:
        self._http = connector.http
        self._client = client
        self._redactor = redactor
        self._progress = progress
        self._shared_auth: AuthBase | None = None
        self._budget = Budget(
            requests_per_second=self._http.requests_per_second,
            max_concurrency=self._http.max_concurrency,
            max_wait_seconds=self._http.max_wait_seconds,
        )

    def make(self, plan: ResourcePlan, tally: Tally) -> Endpoint:
        """The endpoint of a resource.

        A full URL of another origin gets the endpoint's own headers and credentials, never the
        client's. Raises dlt's `ConfigFieldMissingException` for a secret that can't be found.
        """
        name, endpoint = plan.resource.name, plan.endpoint
        base_url = self._client["base_url"]
        is_foreign = self._is_foreign(endpoint["path"])
        return Endpoint(
            resource=name,
            base_url=base_url,
            session=self._session(endpoint["path"] if is_foreign else base_url, plan, tally),
            redactor=self._redactor,
            headers=None if is_foreign else self._client.get("headers"),
            auth=self._auth(plan, tally, may_use_clients=not is_foreign),
            paginator=make_paginator(
                endpoint.get("paginator") or self._client.get("paginator"),
                counts_rows=counts_rows(endpoint.get("data_selector")),
            ),
            data_selector=endpoint.get("data_selector"),
            actions=tuple(endpoint.get("response_actions") or ()),
            max_pages=self._http.max_pages,
            listener=_Listener(name, tally, self._progress),
        )

    def _is_foreign(self, path: str) -> bool:
        """Whether the file itself gives a full URL of an origin that is not the client's."""
        host = urlsplit(path).netloc
        if not host or "{" in host:
            return False
        return not OriginPolicy.for_url(self._client["base_url"]).is_own(path)

    def _session(self, url: str, plan: ResourcePlan | None, tally: Tally) -> ApiSession:
        name = plan.resource.name if plan else "token"
        actions = tuple(plan.endpoint.get("response_actions") or ()) if plan else ()
        return ApiSession(
            SessionRules(
                origins=OriginPolicy.for_url(url, self._http.allowed_hosts if plan else ()),
                budget=self._budget,
                meter=tally.meter,
                timeout_seconds=self._http.timeout_seconds,
                max_wait_seconds=self._http.max_wait_seconds,
                settled=lambda response: is_ignored(response, actions),
                on_wait=lambda text: self._progress.message(f"{name}: {text}"),
            )
        )

    def _auth(self, plan: ResourcePlan, tally: Tally, *, may_use_clients: bool) -> AuthBase | None:
        if "auth" in plan.endpoint:
            return self._create_auth(plan.endpoint["auth"], tally)
        if not may_use_clients:
            return None
        if self._shared_auth is None:
            self._shared_auth = self._create_auth(self._client.get("auth"), tally)
        return self._shared_auth

    def _create_auth(self, config: Any, tally: Tally) -> AuthBase | None:
        auth = create_auth(config)
        if not isinstance(auth, OAuth2ClientCredentials):
            return auth
        # token requests pass our session, too, and belong to the token endpoint's own origin
        auth.session = self._session(auth.access_token_url, None, tally)
        return RenewingToken(auth, self._redactor)
