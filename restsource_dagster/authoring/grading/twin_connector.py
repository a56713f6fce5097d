"""Makes the twin of a connector: its resources as tables of a twin, and what of it no twin can be."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from restsource_dagster.authoring.grading.attacks import WELL_BEHAVED, Attack
from restsource_dagster.authoring.grading.twin_api import (
    FIRST_ROWS,
    SECRET,
    SINCE_PARAM,
    PagingForm,
    TwinTable,
)
from restsource_dagster.authoring.grading.twin_rows import (
    CannotModelError,
    TwinCursor,
    TwinShape,
    twin_cursor,
    value_at,
)
from restsource_dagster.authoring.importing.param_names import (
    OFFSET_PARAMS,
    PAGE_PARAMS,
    is_named,
)
from restsource_dagster.connector.env_references import default_of
from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.connector.models.auth import ApiKeyAuth, BearerAuth, HttpBasicAuth
from restsource_dagster.connector.models.fields import FileModel
from restsource_dagster.connector.models.paginators import (
    CursorPaginator,
    HeaderCursorPaginator,
    HeaderLinkPaginator,
    JsonLinkPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    SinglePagePaginator,
)
from restsource_dagster.engine.preview.previewed import PreviewedResource

__all__ = [
    "TwinResource",
    "option_that_helps",
    "read_twin_auth",
    "twin_connector",
    "twin_resource",
]

Model = TypeVar("Model", bound=FileModel)
_PAGE_SIZE = 5
_MAX_PAGES = 50
_PARENT_ROWS = 3
_FROM_PARENT = re.compile(r"\{resources\.([^{}.]+)\.([^{}]+)\}")
"""A field of the parent in a path or a param, such as `{resources.orders.id}`."""
_VERSIONED = ("scd2", "cdc")
_SHORT_FORMS: Mapping[str, Any] = {
    "json_link": JsonLinkPaginator(type="json_link"),
    "json_response": JsonLinkPaginator(type="json_link"),
    "header_link": HeaderLinkPaginator(type="header_link"),
    "header_cursor": HeaderCursorPaginator(type="header_cursor"),
    "cursor": CursorPaginator(type="cursor"),
    "page_number": PageNumberPaginator(type="page_number"),
    "single_page": SinglePagePaginator(type="single_page"),
}


@dataclass(frozen=True)
class TwinResource:
    """A resource that a twin can be made of."""

    resource: Resource
    paginator: Any
    paging: PagingForm
    shape: TwinShape
    above: "TwinResource | None" = None
    """The twin of its parent."""
    parent_field: str = ""
    """The field of the parent that names a list of its rows in a request."""
    first_rows: int = FIRST_ROWS

    @property
    def all_above(self) -> "Iterator[TwinResource]":
        """Its parent, the parent of that, and so on."""
        above = self.above
        while above is not None:
            yield above
            above = above.above

    def tables(self, name: str, attack: Attack) -> list[tuple["TwinResource", TwinTable]]:
        """Return a table of the twin, after the tables above it, which are not attacked."""
        if self.above is None:
            return [(self, self._table(name, attack, None))]
        # short and without an underscore more: nested tables have names of their own
        above = self.above.tables(f"{name}p", WELL_BEHAVED)
        return [*above, (self, self._table(name, attack, above[-1][1]))]

    def _table(self, name: str, attack: Attack, above: TwinTable | None) -> TwinTable:
        cursor = self.resource.endpoint.cursor
        groups = {}
        if self.above is not None and above is not None:
            rows = above.rows.values()
            shape = self.above.shape
            groups = {str(value_at(shape.record(row), self.parent_field)): row.id for row in rows}
        return TwinTable(
            name,
            self.shape,
            self.paging,
            attack,
            order=cursor.row_order if cursor else None,
            filters=self.resource.endpoint.sends_start,
            since_param=_since_param(self.resource),
            first_rows=self.first_rows,
            above=above,
            groups=groups,
            group_at=_place_of_parent(self.resource) if groups else -1,
        )

    def under(self, name: str, above: str | None = None) -> Resource:
        """Return the resource as it loads a table of the twin, below the one that is called `above`."""
        endpoint = self.resource.endpoint
        path = self.resource.bound_path
        params = dict(endpoint.params or {})
        if above is not None:
            path = _below(path, above)
            params = {
                key: _below(text, above) if isinstance(text, str) else text
                for key, text in params.items()
            }
        if (
            endpoint.sends_start
            and self.shape.cursor
            # the file sends the start in a body or in a header, where the twin does not look
            and _since_param(self.resource) == SINCE_PARAM
        ):
            # a time is sent in one form, whatever the file's is: the twin compares it
            form = "" if self.shape.cursor.step == "1" else ":iso8601"
            params[SINCE_PARAM] = f"{{incremental.start_value{form}}}"
        changed = {
            "path": f"{name}/{path.strip('/')}",
            "params": params,
            "paginator": self.paginator,
        }
        hints = self.resource.hints
        keys: dict[str, Any] = {
            name: list(self._key(getattr(self.resource, name), above))
            for name in ("primary_key", "merge_key")
            if name in hints.given
        }
        return replace(
            self.resource,
            name=name,
            table=name,
            parent=above,
            path_params={},
            primary_key=self._key(self.resource.primary_key, above),
            merge_key=self._key(self.resource.merge_key, above),
            # the twin knows one login only, that of the client
            endpoint=_changed(endpoint, changed, without=("auth",)),
            hints=_changed(hints, {"table_name": name, **keys}),
            foreign_endpoint=None,
            # an attack is about live loads
            backfill=None,
            http=None,
            selected=True,
        )

    def _key(self, key: tuple[str, ...], above: str | None) -> tuple[str, ...]:
        """Return a key whose columns of the parent are called after the parent's twin."""
        names = self.resource.columns_from_parent
        renamed = {column: f"_{above}_{field}" for field, column in names.items()}
        return tuple(renamed.get(name, name) for name in key)


def _below(text: str, above: str) -> str:
    """Return a path or a param with the name of the parent's twin in place of the parent's."""
    return _FROM_PARENT.sub(lambda found: f"{{resources.{above}.{found[2]}}}", text)


def twin_connector(connector: Connector, url: str, resources: Sequence[Resource]) -> Connector:
    """Return a connector that loads these resources from the twin. It refers to no secret."""
    login = read_twin_auth(connector)[0]
    client = _changed(
        connector.client,
        {"base_url": url, **({"auth": login} if login else {})},
        # each resource has its paginator, and the twin speaks plain HTTP
        without=("auth", "tls", "paginator"),
    )
    http = _changed(
        connector.http,
        # a paging that does not end fails soon
        {"max_pages": _MAX_PAGES, "timeout_seconds": 10.0},
        # the grade would wait for limits that are the API's, not the twin's
        without=("requests_per_second", "rate_limits", "shared"),
    )
    # real secrets have no place in a test of the file
    values = {name: default_of(name) or SECRET for name in connector.references}
    made = replace(
        connector, name="twin", client=client, http=http, resources=tuple(resources), template=None
    )
    return replace(made.resolved(values), references=frozenset())


def _changed(model: Model, changes: Mapping[str, Any], without: Collection[str] = ()) -> Model:
    """Return a model with other fields; those of `without` have their defaults."""
    kept = {name: value for name, value in model.given.items() if name not in without}
    return type(model).of({**kept, **changes})


def read_twin_auth(connector: Connector) -> tuple[Any, str | None]:
    """Return the login of the twin, and what it leaves out of the file's, in words."""
    auth = connector.client.auth
    if isinstance(auth, BearerAuth):
        return _changed(auth, {"token": SECRET}), None
    if isinstance(auth, ApiKeyAuth):
        return _changed(auth, {"api_key": SECRET}), None
    if isinstance(auth, HttpBasicAuth):
        return _changed(auth, {"username": SECRET, "password": SECRET}), None
    if auth is None:
        return None, None
    kind = auth if isinstance(auth, str) else auth.type
    return None, f"the login `{kind}`: the twin asks for none"


def twin_resource(
    connector: Connector, resource: Resource, previewed: Mapping[str, PreviewedResource]
) -> TwinResource:
    """Return what a twin serves for a resource. Raises `CannotModelError` with all that it can't be.

    `previewed` are resources of the connector by name; they may be missing.
    """
    reasons = list(_reasons(resource))
    if reasons:
        raise CannotModelError("; ".join(reasons))
    endpoint, seen = resource.endpoint, previewed.get(resource.name)
    paginator = _paginator_of(connector, resource, seen)
    paging = _with_records(_paging_form(paginator, seen), endpoint.data_selector)
    prototypes = _prototypes(resource, seen)
    cursor = _cursor_of(resource, prototypes)
    # columns of the parent have the parent's values
    key = tuple(
        name for name in resource.primary_key if name not in resource.columns_from_parent.values()
    )
    for name in key:
        # raises for a key whose path the twin can't write
        value_at(prototypes[0], name)
    # the twin makes the values of the key only, so only they tell rows apart
    if paging.last_field and paging.last_field not in resource.primary_key:
        raise CannotModelError(
            f"`{paging.last_field}` of the last row, which is not its primary key"
        )
    if isinstance(paginator, OffsetPaginator):
        # the twin's pages are small, so that twelve rows make several
        paginator = _changed(paginator, {"limit": _PAGE_SIZE})
    made = TwinResource(resource, paginator, paging, TwinShape(prototypes, key, cursor))
    return made if resource.parent is None else _with_parent(made, connector, previewed)


def _with_parent(
    made: TwinResource, connector: Connector, previewed: Mapping[str, PreviewedResource]
) -> TwinResource:
    """Return a twin with that of its parent, which has a row for each list. Raises `CannotModelError`."""
    resource = made.resource
    texts = _texts_of_request(resource)
    field = next(found[2] for text in texts if (found := _FROM_PARENT.fullmatch(text)))
    parent = next(one for one in connector.resources if one.name == resource.parent)
    try:
        above = twin_resource(connector, parent, previewed)
    except CannotModelError as error:
        raise CannotModelError(f"of its parent `{parent.name}`: {error}") from None
    # the field has to tell the lists apart, so the twin makes its values, too
    value_at(above.shape.prototypes[0], field)
    shape = replace(above.shape, key=tuple(dict.fromkeys((*above.shape.key, field))))
    above = replace(above, shape=shape, first_rows=_PARENT_ROWS)
    return replace(made, above=above, parent_field=field)


def _reasons(resource: Resource) -> Iterator[str]:
    """Yield what a twin can't do for a resource."""
    endpoint = resource.endpoint
    disposition = resource.disposition
    known = {
        "GraphQL": endpoint.graphql,
        "an export's `job`": endpoint.job,
        "a request with a body": resource.method != "GET" or endpoint.json_ or endpoint.data,
        "calls for each of `for_each`": endpoint.for_each,
        "answers that are no JSON (`response`)": endpoint.response,
        "a token in place of a cursor": endpoint.token,
        "a path that is a URL": "://" in endpoint.path,
        "a path with a placeholder": "{" in _FROM_PARENT.sub("", resource.bound_path),
        "`rename_from`": resource.rename_from,
        f"`{disposition.strategy}`, which keeps versions": disposition.strategy in _VERSIONED,
        "`write_disposition` `skip`": disposition.value == "skip",
    }
    yield from (reason for reason, applies in known.items() if applies)
    if resource.parent is not None:
        yield from _reasons_of_parent(resource)
    if (cursor := endpoint.cursor) is not None:
        ends = cursor.end_value is not None or endpoint.sends_end
        if cursor.window or ends or cursor.last_value_func == "min":
            yield "a cursor with `window`, with an end, or that falls"


def _reasons_of_parent(resource: Resource) -> Iterator[str]:
    """Yield what a twin can't do about the fields of the parent that a request names."""
    texts = _texts_of_request(resource)
    fields = {found[2] for text in texts if (found := _FROM_PARENT.fullmatch(text))}
    if any(_FROM_PARENT.search(text) and not _FROM_PARENT.fullmatch(text) for text in texts):
        yield "a field of its parent that is a part of a text"
    elif len(fields) != 1:
        yield f"{len(fields)} fields of its parent in its path and its params, where the twin takes one"


def _place_of_parent(resource: Resource) -> int | str:
    """Return where a request names its parent: the index of a part of its path, from its end, or a param."""
    parts = resource.bound_path.split("/")
    for at, part in enumerate(parts):
        if _FROM_PARENT.fullmatch(part):
            return at - len(parts)
    params = (resource.endpoint.params or {}).items()
    return next(
        name for name, text in params if isinstance(text, str) and _FROM_PARENT.fullmatch(text)
    )


def _texts_of_request(resource: Resource) -> list[str]:
    params = (resource.endpoint.params or {}).values()
    return [*resource.bound_path.split("/"), *(text for text in params if isinstance(text, str))]


def _paginator_of(connector: Connector, resource: Resource, seen: PreviewedResource | None) -> Any:
    given = resource.endpoint.paginator or connector.client.paginator
    made = _SHORT_FORMS.get(given, given) if isinstance(given, str) else given
    if made is None or isinstance(made, str) or made.type == "auto":
        if seen is not None and seen.paging.verdict == "single page":
            return _SHORT_FORMS["single_page"]
        raise CannotModelError("its paginator is found out from answers; name it in the file")
    # the twin cuts no query off
    if getattr(made, "max_rows", None):
        raise CannotModelError("`max_rows`")
    return made


def _paging_form(paginator: Any, seen: PreviewedResource | None) -> PagingForm:
    """Return how the twin pages. Raises `CannotModelError`."""
    for name in ("page_body_path", "offset_body_path", "cursor_body_path"):
        if getattr(paginator, name, None):
            raise CannotModelError(f"`{name}`")
    if getattr(paginator, "offset", None):
        raise CannotModelError("an offset that does not start at 0")
    form = PagingForm(
        "",
        has_more_path=getattr(paginator, "has_more_path", None),
        end_path=getattr(paginator, "end_path", None),
        total_header=getattr(paginator, "total_header", None),
        total_path=_total_path(paginator, seen),
        is_positional=_has_positional_links(seen),
    )
    made = _numbered_form(paginator, form) or _linked_form(paginator, form)
    if made is None:
        raise CannotModelError("its paginator")
    return made


def _numbered_form(paginator: Any, form: PagingForm) -> PagingForm | None:
    if isinstance(paginator, SinglePagePaginator):
        return replace(form, kind="single", is_positional=True)
    if isinstance(paginator, PageNumberPaginator):
        first = paginator.base_page if paginator.page is None else paginator.page
        param = paginator.page_param or "page"
        return replace(form, kind="page", param=param, first=first or 0, is_positional=True)
    if isinstance(paginator, OffsetPaginator):
        param = paginator.offset_param or "offset"
        return replace(form, kind="offset", param=param, is_positional=True)
    return None


def _linked_form(paginator: Any, form: PagingForm) -> PagingForm | None:
    if isinstance(paginator, CursorPaginator):
        param, path = paginator.cursor_param or "cursor", paginator.cursor_path
        # `data[-1].id`: the last row of a page asks for the next one
        _, is_last, field_name = path.partition("[-1].")
        form = replace(form, kind="cursor", param=param, is_positional=False)
        return replace(form, last_field=field_name) if is_last else replace(form, next_path=path)
    if isinstance(paginator, HeaderCursorPaginator):
        param, header = paginator.cursor_param or "cursor", paginator.cursor_key or "next"
        return replace(
            form, kind="header_cursor", param=param, next_header=header, is_positional=False
        )
    if isinstance(paginator, JsonLinkPaginator):
        return replace(form, kind="link", next_path=paginator.next_url_path)
    if isinstance(paginator, HeaderLinkPaginator):
        header, relation = paginator.next_url_header or "", paginator.links_next_key or "next"
        return replace(form, kind="header_link", next_header=header, relation=relation)
    return None


def _total_path(paginator: Any, seen: PreviewedResource | None) -> str | None:
    """Return where the twin states its total: where the file says, or where the API was seen to do it."""
    path: str | None = getattr(paginator, "total_path", None)
    is_named = "total_path" in getattr(paginator, "model_fields_set", ())
    return path if is_named or (seen is not None and seen.paging.total is not None) else None


def _has_positional_links(seen: PreviewedResource | None) -> bool:
    """True if links name the number of a page or row. Without a preview it is assumed: it is the worst."""
    if seen is None or len(seen.requests) < 2:
        return True
    for name, value in parse_qsl(urlsplit(seen.requests[1].url).query):
        if value.isdigit() and is_named(name, (*PAGE_PARAMS, *OFFSET_PARAMS)):
            return True
    return False


def _with_records(paging: PagingForm, selector: str | None) -> PagingForm:
    """Return the paging with the path of the records. Raises `CannotModelError`."""
    needs_object = any((paging.next_path, paging.total_path, paging.has_more_path, paging.end_path))
    path = (selector or "").removeprefix("$").removeprefix(".").removesuffix("[*]")
    # a list at the top has no place for fields beside it
    if not path and needs_object:
        if selector:
            raise CannotModelError(f"the selector `{selector}` beside fields of the paging")
        path = "data"
    for part in (path, paging.next_path, paging.total_path, paging.has_more_path, paging.end_path):
        if part:
            value_at({}, part)
    return replace(paging, records_path=path)


_OFFLINE_VALUES: Mapping[str, Any] = {
    "bigint": 1,
    "double": 1.5,
    "bool": True,
    "decimal": "1.5",
    "date": "2024-01-01",
    "timestamp": "2024-01-01T00:00:00Z",
    "json": {"a": 1},
}


def _prototypes(resource: Resource, seen: PreviewedResource | None) -> Sequence[Mapping[str, Any]]:
    records = [one for one in (seen.records if seen else ()) if isinstance(one, Mapping)]
    if records:
        return records
    columns = resource.hints.columns_by_name
    return [
        {
            name: _OFFLINE_VALUES.get(str(column.data_type), "text")
            for name, column in columns.items()
        }
    ]


def _cursor_of(resource: Resource, prototypes: Sequence[Mapping[str, Any]]) -> TwinCursor | None:
    cursor = resource.endpoint.cursor
    if cursor is None:
        return None
    return twin_cursor(cursor, value_at(prototypes[0], cursor.paths[0]), datetime.now(UTC))


def _since_param(resource: Resource) -> str:
    """Return the param that tells the twin where rows start."""
    cursor = resource.endpoint.cursor
    return (cursor.start_param if cursor else None) or SINCE_PARAM


def option_that_helps(twin: TwinResource, attack: Attack, *, is_doubled: bool) -> str:
    """Return which option of the file keeps the table right under an attack that it did not survive."""
    endpoint, cursor = twin.resource.endpoint, twin.resource.endpoint.cursor
    is_open = cursor is not None and cursor.range_start == "open"
    lag = twin.shape.cursor.late_by if twin.shape.cursor else 0
    incremental = next((one.resource.name for one in twin.all_above if one.shape.cursor), None)
    # the first that applies
    options = {
        f"leave `incremental` of `{incremental}` out, unless the API changes a row there when one below it "
        "changes": incremental and attack.between,
        "leave out the action of `response_actions` that takes this status for an answer": (
            attack.fault in ("429", "500") and endpoint.response_actions
        ),
        "leave out `stop_when_repeated`: a page that comes again is then an error": (
            attack.fault in ("repeat", "stuck")
            and getattr(twin.paginator, "stop_when_repeated", None)
        ),
        "a `primary_key`: rows that come again are merged": (
            is_doubled and not twin.resource.primary_key
        ),
        "`write_disposition`: `merge`, so that rows that come again are merged": is_doubled,
        "`incremental.range_start`: `closed`: rows of the last moment are asked for again": (
            is_open and attack.name in ("tie", "change")
        ),
        f"`incremental.lag`: as long as rows can be late; {lag} for the row of this attack": (
            attack.name == "late"
        ),
        "a paginator whose next page is named by a cursor, if the API has one; or `write_disposition`: "
        "`replace`, with which the next run has all rows": attack.name == "delete",
        "a `primary_key` and `incremental.lag`: the last rows are asked for again and merged": True,
    }
    return next(text for text, applies in options.items() if applies)
