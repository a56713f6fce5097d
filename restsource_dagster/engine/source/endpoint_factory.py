"""Builds the endpoint of each resource: its session, credentials, paginator and limits."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from dlt.sources.helpers.rest_client.auth import APIKeyAuth
from requests.auth import AuthBase

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.auth import (
    Auth,
    AwsSigV4Auth,
    DigestAuth,
    HmacAuth,
    LoginAuth,
)
from restsource_dagster.connector.models.connector_file import Tls
from restsource_dagster.connector.models.endpoint import Endpoint
from restsource_dagster.connector.models.fields import FileModel
from restsource_dagster.connector.models.http_settings import (
    USUAL_CONCURRENCY,
    HttpSettings,
    RateLimit,
)
from restsource_dagster.connector.models.oauth_logins import (
    OAuth2RefreshTokenAuth,
    OAuthLogin,
    SendAs,
)
from restsource_dagster.connector.models.response_action import ActionName, ResponseAction
from restsource_dagster.engine.dlt_compat import join_url
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.cancellation import Sleep
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.redaction import Redactor, credentials_in
from restsource_dagster.engine.http.session import (
    ApiSession,
    RequestSigner,
    RequestWatch,
    SessionRules,
    TlsFiles,
)
from restsource_dagster.engine.http.token_store import RefreshingGrant, TokenStore
from restsource_dagster.engine.http.waits import RateLimiter, RequestLimit, asks_no_wait, rate_limit
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.paging.records import knows_page_size
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.plan.dlt_adapter import make_auth, make_paginator, paging_rules
from restsource_dagster.engine.plan.resource_plan import ResourcePlan
from restsource_dagster.engine.prefetch.prefetcher import Prefetcher, ResponseReplay
from restsource_dagster.engine.run_progress import PageReporter, Progress, ResourceCounts
from restsource_dagster.state.store import StateStore

if TYPE_CHECKING:
    from restsource_dagster.engine.http.graphql_answers import QueryBudget
    from restsource_dagster.engine.http.oauth import RenewingToken, TokenEndpoint
    from restsource_dagster.engine.http.request_log import RequestLog
    from restsource_dagster.engine.paging.file_records import FileFormat
    from restsource_dagster.engine.source.export_job import ExportJobs

__all__ = ["EndpointFactory"]


@dataclass(frozen=True)
class _CookieKey(AuthBase):
    """Sends an API key in a cookie, which dlt's own class doesn't implement."""

    name: str
    key: str = field(repr=False)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        cookies = request.headers.get("Cookie")  # those that the API has set
        own = f"{self.name}={self.key}"
        request.headers["Cookie"] = f"{cookies}; {own}" if cookies else own
        return request


class EndpointFactory:
    """Builds the endpoints of one run, which share a rate limiter and the client's token.

    `connector` has its references resolved.
    """

    def __init__(
        self,
        connector: Connector,
        redactor: Redactor,
        progress: Progress,
        sleep: Sleep | None,
        folder: Path,
        state: StateStore,
        tokens: TokenStore,
        watch: RequestWatch | None = None,
    ) -> None:
        """`folder` is where bodies that are no plain JSON are downloaded to.

        `state` has the requests that connectors share and the jobs of exports, `tokens` the tokens that
        outlive a run. `watch` sees each request.
        """
        self._watch = watch
        self._sleep, self._folder, self._state = sleep, folder, state
        self._tokens = tokens
        self._http = connector.http
        self._client = connector.client
        self.redactor = redactor
        """Knows all secrets of the run; tokens that the API issues are added during it."""
        self._progress = progress
        self._client_auth: AuthBase | RequestSigner | None = None
        self._sessions: list[ApiSession] = []
        self._counts: dict[str, ResourceCounts] = {}
        self._endpoints: dict[str, EndpointReader] = {}
        limits = tuple(_limits_of(connector))
        most = _max_concurrency(self._http, limits)
        self._rate_limiter = RateLimiter(
            requests_per_second=self._http.requests_per_second,
            max_concurrency=most,
            limits=limits,
            log=_shared_log(self._http, state),
        )
        self._connector = connector.name
        self._prefetcher = Prefetcher(most, self._rate_limiter) if most > 1 else None
        self.max_prefetched_calls = self._prefetcher.max_prefetched_calls if self._prefetcher else 0
        """The number of families after the current one whose first call may be prefetched."""

    def counts(self, resource: str) -> ResourceCounts:
        """Return the counts of a resource in this run."""
        if resource not in self._counts:
            self._counts[resource] = ResourceCounts()
        return self._counts[resource]

    def endpoint(self, plan: ResourcePlan) -> EndpointReader:
        """Return the endpoint of a resource, the same one for the whole run.

        A full URL of another origin gets the resource's own headers and credentials, never the
        client's. Raises dlt's `ConfigFieldMissingException` for a secret that can't be found.
        """
        name = plan.resource.name
        if name not in self._endpoints:
            self._endpoints[name] = self._make(plan, self.counts(name))
        return self._endpoints[name]

    def is_prefetched(self, resource: str) -> bool:
        """True if all pages of the resource's next call are prefetched."""
        return self._prefetcher is not None and self._prefetcher.is_complete(resource)

    def has_prefetched_rows(self, resource: str) -> bool:
        """True if a prefetched page of the resource's next call has rows."""
        return self._prefetcher is not None and self._prefetcher.has_rows(resource)

    def wait_for_first_page(self, resource: str, max_seconds: float) -> None:
        """Wait for the first prefetched page of the resource's next call, if it has a prefetch."""
        if self._prefetcher is not None:
            self._prefetcher.wait_for_first_page(resource, max_seconds)

    @contextmanager
    def replayable(self) -> Iterator[Callable[[Collection[str]], None]]:
        """Record responses so that calls can be replayed without requests. Single-threaded.

        Yields a function that starts the replay, and the counts, of the named resources.
        """
        with (
            self._prefetcher.recorded_responses()
            if self._prefetcher
            else nullcontext(ResponseReplay()) as replay
        ):

            def start_replay(names: Collection[str]) -> None:
                replay.begin_replay()
                for name in names:
                    self.counts(name).restart()

            yield start_replay

    def cancel_family(self, root: str) -> None:
        """Cancel the pending prefetches of a family."""
        if self._prefetcher is not None:
            self._prefetcher.cancel_family(root)

    def _make(self, plan: ResourcePlan, counts: ResourceCounts) -> EndpointReader:
        name, client, endpoint = plan.resource.name, self._client, plan.endpoint
        url = endpoint.path if plan.is_foreign else client.base_url
        auth = self._auth(plan, counts)
        signer = auth if isinstance(auth, RequestSigner) else None
        paginator, selector = plan.paginator(client.paginator), plan.data_selector
        return EndpointReader(
            resource=name,
            base_url=client.base_url,
            session=self._session(url, plan, counts, signer=signer),
            redactor=self.redactor,
            headers=None if plan.is_foreign else client.headers,
            auth=None if isinstance(auth, RequestSigner) else auth,
            paginator=make_paginator(paginator, knows_page_size=knows_page_size(selector)),
            rules=paging_rules(paginator),
            token_path=plan.token.token_path if plan.token else None,
            data_selector=selector,
            is_selector_from_file=bool(endpoint.data_selector),
            file_format=_file_format(endpoint, self._http),
            actions=tuple(endpoint.response_actions or ()),
            allows_errors=endpoint.partial_errors == "load",
            allowed_error_paths=endpoint.graphql.allow_errors if endpoint.graphql else (),
            max_pages=_http_of(plan, self._http).max_pages,
            listener=PageReporter(name, counts, self._progress),
            # a prefetch holds its pages in memory, and would create a job for nothing
            prefetcher=None if endpoint.response or endpoint.job else self._prefetcher,
        )

    def jobs(self, plan: ResourcePlan) -> "ExportJobs | None":
        """Return what reads a resource by jobs; None if its endpoint has none."""
        job = plan.endpoint.job
        if job is None:
            return None
        from restsource_dagster.engine.source.export_job import ExportJobs, JobStore

        name, control = plan.resource.name, self.endpoint(plan)
        return ExportJobs(
            plan,
            job,
            control,
            lambda url: self._download_endpoint(plan, control, url),
            JobStore(self._state, self._connector, name),
            lambda text: self._progress.message(f"{name}: {text}"),
            self._sleep or time.sleep,
        )

    def _download_endpoint(
        self, plan: ResourcePlan, control: EndpointReader, path: str
    ) -> EndpointReader:
        """Return what reads the file at a URL. Another origin gets neither headers nor credentials."""
        url = control.full_url(path)
        own = control.session.rules
        # another origin gets no signature either
        signer = own.signer if control.is_own(url) else None
        counts = self.counts(plan.resource.name)
        session = self._session(url, plan, counts, is_download=True, signer=signer)
        if control.is_own(url):
            return replace(control, session=session)
        # refuses a URL that is less safe than the API's own
        replace(own.origins, allowed_hosts=(urlsplit(url).netloc.rpartition("@")[2],)).check(url)
        return replace(control, session=session, headers=None, auth=None)

    def close(self) -> None:
        """Cancel all prefetches and close the connections of all sessions."""
        if self._prefetcher is not None:
            self._prefetcher.close()
        for session in self._sessions:
            session.close()
        self._rate_limiter.close()

    def _session(
        self,
        url: str,
        plan: ResourcePlan | None,
        counts: ResourceCounts,
        *,
        is_download: bool = False,
        signer: RequestSigner | None = None,
    ) -> ApiSession:
        endpoint = plan.endpoint if plan else None
        # the answers about a job are JSON, whatever its file is
        has_rows = is_download or (endpoint is not None and endpoint.job is None)
        name = plan.resource.name if plan else "token"
        actions = tuple(plan.endpoint.response_actions or ()) if plan else ()
        # a file is not an answer to the query that has created its job
        is_graphql = endpoint is not None and endpoint.graphql is not None and not is_download
        http = _http_of(plan, self._http)
        session = ApiSession(
            SessionRules(
                # no other host for a token request: its body holds the client's secret
                origins=OriginPolicy.for_url(url, self._http.allowed_hosts if plan else ()),
                rate_limiter=self._rate_limiter,
                usage_counter=counts.usage_counter,
                timeout_seconds=http.timeout_seconds,
                max_wait_seconds=http.max_wait_seconds,
                max_response_mb=http.max_response_mb,
                sender=f"{self._connector}/{name}",
                watch=self._watch,
                signer=signer,
                # a resource or a file of another origin is not what the certificates are for
                tls=self._tls if plan is None or self._is_of_client(url) else None,
                base_path=urlsplit(self._client.base_url).path,
                action_for=partial(
                    _graphql_action if is_graphql else matching_action, actions=actions
                ),
                asked_wait=self._query_budget.seconds_until_affordable
                if is_graphql
                else asks_no_wait,
                on_wait=lambda text: self._progress.message(f"{name}: {text}"),
                sleep=self._sleep,
                redactor=self.redactor,
                body_format=endpoint.response if endpoint and has_rows else None,
                folder=self._folder,
            )
        )
        self._sessions.append(session)
        return session

    def _is_of_client(self, url: str) -> bool:
        return OriginPolicy.for_url(self._client.base_url).is_own(url)

    @cached_property
    def _query_budget(self) -> "QueryBudget":
        """What the queries of the run may cost."""
        from restsource_dagster.engine.http.graphql_answers import QueryBudget

        return QueryBudget(lambda: self._rate_limiter.window.size)

    @cached_property
    def _tls(self) -> TlsFiles | None:
        tls = self._client.tls
        return None if tls is None else _tls_files(tls, self._folder)

    def _auth(self, plan: ResourcePlan, counts: ResourceCounts) -> AuthBase | RequestSigner | None:
        # `"auth": null` is given, too: no credentials, not the client's
        if "auth" in plan.endpoint.model_fields_set:
            return self._make_auth(plan.endpoint.auth, counts)
        if plan.is_foreign:
            return None
        # one object for all resources, so that they share its token
        if self._client_auth is None:
            self._client_auth = self._make_auth(self._client.auth, counts)
        return self._client_auth

    def _make_auth(
        self, given: Auth | None, counts: ResourceCounts
    ) -> AuthBase | RequestSigner | None:
        if given is None:
            return None
        auth = make_auth(given)
        # dlt may have found secrets in secrets.toml or a vault
        self.redactor.add_secrets(*credentials_in(auth))
        if isinstance(auth, APIKeyAuth) and auth.location == "cookie":
            return _CookieKey(str(auth.name), str(auth.api_key))
        if isinstance(auth, DigestAuth | HmacAuth | AwsSigV4Auth):
            # few files sign, so that most runs don't import it
            from restsource_dagster.engine.http.request_signing import make_signer

            return make_signer(auth)
        if isinstance(auth, AuthBase):
            return auth
        return self._make_token(auth, counts)

    def _make_token(self, auth: FileModel | None, counts: ResourceCounts) -> "RenewingToken | None":
        # few files have a login, so that most runs don't import it
        from restsource_dagster.engine.http.oauth import LoginRequest, RenewingToken, grant_token

        # requests for tokens keep to the rules, too, at the origin that they go to
        if isinstance(auth, LoginAuth):
            is_url = urlsplit(auth.path).scheme in ("http", "https")
            url = auth.path if is_url else join_url(self._client.base_url, auth.path)
            session = self._session(url, None, counts)
            send_as = auth.send_as if auth.token_path else SendAs(location="cookie")
            return RenewingToken(LoginRequest(session, self.redactor, auth, url), send_as)
        if isinstance(auth, OAuth2RefreshTokenAuth):
            return RenewingToken(self.refreshing_grant(auth, counts), auth.send_as)
        if isinstance(auth, OAuthLogin):
            return RenewingToken(grant_token(self._token_endpoint(auth, counts)), auth.send_as)
        return None

    def obtain_token(self, auth: Auth | None) -> bool:
        """Request a token for an `auth` that has one; return False if it has none. Raises `TokenError`."""
        from restsource_dagster.engine.http.oauth import RenewingToken

        made = self._make_auth(auth, ResourceCounts())
        if isinstance(made, RenewingToken):
            made.obtain()
            return True
        return False

    def refreshing_grant(
        self, login: OAuth2RefreshTokenAuth, counts: ResourceCounts
    ) -> RefreshingGrant:
        """Return what requests the tokens of a login, and stores them."""
        return RefreshingGrant(
            self._token_endpoint(login, counts),
            login,
            self._tokens.tokens_of(login, self._connector),
            self._connector,
            lambda text: self._progress.message(f"token: {text}"),
        )

    def _token_endpoint(self, login: OAuthLogin, counts: ResourceCounts) -> "TokenEndpoint":
        from restsource_dagster.engine.http.oauth import TokenEndpoint

        session = self._session(login.access_token_url, None, counts)
        return TokenEndpoint(session, self.redactor, login)


def _tls_files(tls: Tls, folder: Path) -> TlsFiles:
    """Return the files of certificates; those that the file gives as text are written to a folder.

    Raises `IngestError` for a file that can't be read.
    """
    paths: dict[str, str] = {}
    for name, given in tls.given.items():
        if given is None:
            continue
        path = Path(given)
        if "-----BEGIN" in given:
            path = folder / f"tls-{name}.pem"
            path.unlink(missing_ok=True)
            # a variable in .env may have its line breaks written out
            text = f"{given}\n" if "\n" in given else given.replace("\\n", "\n")
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
        elif not path.is_file():
            raise IngestError(f"client.tls.{name}: there is no file {path}")
        paths[name] = str(path)
    return TlsFiles(**paths)


_OWN_HTTP = ("timeout_seconds", "max_wait_seconds", "max_pages", "max_response_mb")


def _http_of(plan: ResourcePlan | None, http: HttpSettings) -> HttpSettings:
    """Return the settings with those that the resource has of its own."""
    own = plan.resource.http if plan else None
    given = {name: value for name in _OWN_HTTP if (value := getattr(own, name, None))}
    return http.model_copy(update=given) if given else http


def _max_concurrency(http: HttpSettings, limits: Collection[RequestLimit]) -> int:
    """Return the most requests at once: what the file says, else the usual number for an API with limits."""
    is_limited = bool(http.requests_per_second or limits or http.shared)
    if is_limited and "max_concurrency" not in http.model_fields_set:
        return USUAL_CONCURRENCY
    return http.max_concurrency


def _limits_of(connector: Connector) -> Iterator[RequestLimit]:
    """Yield the limits beside `http.requests_per_second`: of all requests, then of each resource."""
    for limit in connector.http.rate_limits:
        yield _limit_of(limit)
    for resource in connector.resources:
        if resource.http is None:
            continue
        sender = f"{connector.name}/{resource.name}"
        yield from rate_limit(resource.http.requests_per_second, sender)
        for limit in resource.http.rate_limits:
            yield _limit_of(limit, sender)


def _limit_of(limit: RateLimit, sender: str = "*") -> RequestLimit:
    # the longest path is the one that says most about a request
    costs = sorted(limit.costs.items(), key=lambda one: len(one[0]), reverse=True)
    may_wait = limit.when_used_up == "wait"
    return RequestLimit(limit.requests, limit.seconds, limit.match, sender, tuple(costs), may_wait)


def _file_format(endpoint: Endpoint, http: HttpSettings) -> "FileFormat | None":
    """Return how bodies on the disk are read; None if no body goes there."""
    if endpoint.response is None:
        return None
    from restsource_dagster.engine.paging.file_records import FileFormat

    return FileFormat(endpoint.response, endpoint.data_selector, http.max_response_mb)


def _shared_log(http: HttpSettings, state: StateStore) -> "RequestLog | None":
    if http.shared is None:
        return None
    from restsource_dagster.engine.http.request_log import RequestLog

    return RequestLog(state.requests(http.shared))


def _graphql_action(
    response: requests.Response, actions: Sequence[ResponseAction]
) -> ActionName | None:
    """Return the action of the file, and else that a throttled query is sent again."""
    from restsource_dagster.engine.http.graphql_answers import is_throttled

    return matching_action(response, actions) or ("retry" if is_throttled(response) else None)
