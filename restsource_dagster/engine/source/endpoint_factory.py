"""How each resource is asked for: its session, credentials, paginator and limits."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from requests.auth import AuthBase

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.auth import Auth
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.http.oauth import RenewingToken
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.rate_limit import RateLimiter
from restsource_dagster.engine.http.redaction import Redactor, credentials_in
from restsource_dagster.engine.http.session import ApiSession, SessionRules
from restsource_dagster.engine.http.usage import ResourceCounts
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.paging.records import selects_every_record
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.prefetch.prefetcher import Prefetcher
from restsource_dagster.engine.prefetch.response_replay import ResponseReplay
from restsource_dagster.engine.run.outcome import Progress
from restsource_dagster.engine.source.dlt_adapter import make_auth, make_paginator
from restsource_dagster.engine.source.resource_plan import ResourcePlan

__all__ = ["EndpointFactory"]


@dataclass(frozen=True)
class _PageReporter:
    """Counts what arrives and says what is missing."""

    resource: str
    tally: ResourceCounts
    progress: Progress

    def on_page(self, rows: int, nulls: int) -> None:
        self.tally.add_page(rows=rows, nulls=nulls)
        self.progress.page(self.resource, rows)
        if nulls:
            self.progress.message(f"{self.resource}: left out {nulls} null items of a page")

    def on_call_end(self, stated_total: int | None, received: int) -> None:
        if stated_total is None:
            return
        self.tally.add_stated_total(stated_total)
        if received < stated_total:
            self.progress.message(
                f"{self.resource}: the API named a total of {stated_total}, and {received} arrived; "
                f"{stated_total - received} are missing"
            )

    def on_message(self, text: str) -> None:
        self.progress.message(f"{self.resource}: {text}")


class EndpointFactory:
    """Makes the endpoints of one run; they share a rate limiter and the client's token."""

    def __init__(
        self,
        connector: Connector,
        redactor: Redactor,
        progress: Progress,
        sleep: Sleep | None = None,
    ) -> None:
        self._sleep = sleep
        self._http = connector.http
        self._client = connector.client
        self._redactor = redactor
        self._progress = progress
        self._shared_auth: AuthBase | None = None
        self._sessions: list[ApiSession] = []
        self._tallies: dict[str, ResourceCounts] = {}
        self._made: dict[str, EndpointReader] = {}
        self._rate_limiter = RateLimiter(
            requests_per_second=self._http.requests_per_second,
            max_concurrency=self._http.max_concurrency,
        )
        most = self._http.max_concurrency
        self._prefetcher = Prefetcher(most, self._rate_limiter) if most > 1 else None

    @property
    def redactor(self) -> Redactor:
        """Knows all secrets of the run, also those that come to be known on the way."""
        return self._redactor

    @property
    def looks_ahead(self) -> int:
        """How many families after the one whose turn it is may be foreseen."""
        return self._prefetcher.max_prefetched_calls if self._prefetcher else 0

    def tally(self, resource: str) -> ResourceCounts:
        """What a resource counts in this run."""
        return self._tallies.setdefault(resource, ResourceCounts())

    def endpoint(self, plan: ResourcePlan) -> EndpointReader:
        """The endpoint of a resource, one for the whole run.

        A full URL of another origin gets the resource's own headers and credentials, never the
        client's. Raises dlt's `ConfigFieldMissingException` for a secret that can't be found.
        """
        name = plan.resource.name
        if name not in self._made:
            self._made[name] = self._make(plan, self.tally(name))
        return self._made[name]

    def is_read(self, resource: str) -> bool:
        """Whether all pages of the resource's next call were fetched ahead."""
        return self._prefetcher is not None and self._prefetcher.is_complete(resource)

    def wait_for_first(self, resource: str, most: float) -> None:
        """Wait until the first page of the resource's next call was fetched ahead, if it is at all;
        `most` in seconds."""
        if self._prefetcher is not None:
            self._prefetcher.wait_for_first_page(resource, most)

    @contextmanager
    def replayable(self) -> Iterator[Callable[[Collection[str]], None]]:
        """Have calls made that may be made again without asking the API; by one thread.

        What is yielded is called before, with the names of the resources.
        """
        with (
            self._prefetcher.recorded_responses()
            if self._prefetcher
            else nullcontext(ResponseReplay()) as replay
        ):

            def start_again(names: Collection[str]) -> None:
                replay.begin_replay()
                for name in names:
                    self.tally(name).restart()
                    self._progress.start_again(name)

            yield start_again

    def end_family(self, root: str) -> None:
        """Give up what was fetched for a family and was not wanted."""
        if self._prefetcher is not None:
            self._prefetcher.cancel_family(root)

    def _make(self, plan: ResourcePlan, tally: ResourceCounts) -> EndpointReader:
        name, client, endpoint = plan.resource.name, self._client, plan.endpoint
        url = endpoint.path if plan.is_foreign else client.base_url
        return EndpointReader(
            resource=name,
            base_url=client.base_url,
            session=self._session(url, plan, tally),
            redactor=self._redactor,
            headers=None if plan.is_foreign else client.headers,
            auth=self._auth(plan, tally),
            paginator=make_paginator(
                plan.paginator(client.paginator),
                selects_every_record=selects_every_record(plan.data_selector),
            ),
            data_selector=plan.data_selector,
            is_selector_from_file=bool(endpoint.data_selector),
            actions=tuple(endpoint.response_actions or ()),
            max_pages=self._http.max_pages,
            listener=_PageReporter(name, tally, self._progress),
            prefetcher=self._prefetcher,
        )

    def close(self) -> None:
        """End what was fetched ahead, and close the connections of all sessions."""
        if self._prefetcher is not None:
            self._prefetcher.close()
        for session in self._sessions:
            session.close()

    def _session(self, url: str, plan: ResourcePlan | None, tally: ResourceCounts) -> ApiSession:
        name = plan.resource.name if plan else "token"
        actions = tuple(plan.endpoint.response_actions or ()) if plan else ()
        session = ApiSession(
            SessionRules(
                origins=OriginPolicy.for_url(url, self._http.allowed_hosts if plan else ()),
                rate_limiter=self._rate_limiter,
                usage_counter=tally.usage_counter,
                timeout_seconds=self._http.timeout_seconds,
                max_wait_seconds=self._http.max_wait_seconds,
                action_for=lambda response: matching_action(response, actions),
                on_wait=lambda text: self._progress.message(f"{name}: {text}"),
                sleep=self._sleep,
                redactor=self._redactor,
            )
        )
        self._sessions.append(session)
        return session

    def _auth(self, plan: ResourcePlan, tally: ResourceCounts) -> AuthBase | None:
        if "auth" in plan.endpoint.model_fields_set:
            return self._make_auth(plan.endpoint.auth, tally)
        if plan.is_foreign:
            return None
        if self._shared_auth is None:
            self._shared_auth = self._make_auth(self._client.auth, tally)
        return self._shared_auth

    def _make_auth(self, given: Auth | None, tally: ResourceCounts) -> AuthBase | None:
        auth = make_auth(given)
        # dlt may have found them in secrets.toml or a vault
        self._redactor.add_secrets(*credentials_in(auth))
        if not isinstance(auth, OAuth2ClientCredentials):
            return auth
        # token requests pass our session, too, and belong to the token endpoint's own origin
        auth.session = self._session(auth.access_token_url, None, tally)
        return RenewingToken(auth, self._redactor)
