"""The API of each recipe. To add a recipe: a page in docs/recipes, and its API in `APIS` by the page's name."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = ["APIS", "RecipeApi"]


@dataclass(frozen=True)
class RecipeApi:
    """What the API of a recipe answers, and what its references stand for."""

    answers: Mapping[str, Any]
    """By path: JSON, an `Answer`, or a function of the request."""
    later: Sequence[Mapping[str, Any]] = ()
    """What it answers differently in the second run and in each one after it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts of the files below /run/secrets, by name."""


def only(condition: Callable[[Seen], bool], answer: Any) -> Callable[[Seen], Any]:
    """Answer the requests that are as they should be, and refuse the others."""
    return lambda seen: answer if condition(seen) else Answer({"error": "refused"}, 400)


def has_both_secrets(seen: Seen) -> bool:
    return (
        seen.headers.get("authorization") == "Bearer t0ken-of-the-file"
        and seen.headers.get("x-client-secret") == "secret-of-dlt"
    )


def users(*given: tuple[int, str, str]) -> Any:
    return {"users": [{"id": n, "name": name, "updated_at": at} for n, name, at in given]}


def changed(*records: Mapping[str, Any]) -> Any:
    """Records that changed at one time."""
    return {"data": [{**one, "updated_at": "2026-11-20T08:00:00Z"} for one in records]}


ISSUE = {"id": 7, "key": "SHOP-7", "fields": {"updated": "2026-11-20T09:00:30.000+0100"}}


def numbered(param: str, first: int, answer: Callable[[int, Seen], Any]) -> Callable[[Seen], Any]:
    """Answer by a number in the query; the first request has none."""
    return lambda seen: answer(int(seen.query.get(param, first)), seen)


def stream(number: int, _: Seen) -> Any:
    last = number == 2
    return {
        "items": [{"id": number + 1}],
        "next_page": f"?after={number + 1}",
        "end_of_stream": last,
    }


def next_in_header(number: int, _: Seen) -> Any:
    headers = {"Next-Page": f"?_token={number + 1}"} if number < 3 else {}
    return Answer({"items": [{"id": number}]}, headers=headers)


def counted_in_header(number: int, _: Seen) -> Any:
    if number > 3:
        return Answer({"code": "rest_post_invalid_page_number"}, 400)
    return Answer({"items": [{"id": number}]}, headers={"X-WP-TotalPages": "3"})


def filtered_first(number: int, seen: Seen) -> Any:
    if ("status" in seen.query) != (number == 1):
        return Answer({"errors": {"status": "can't be set"}}, 400)
    return {"items": [{"id": number}], "next": str(number + 1) if number < 3 else None}


def comments(*given: tuple[int, str]) -> Any:
    return {"comments": [{"id": number, "text": text} for number, text in given]}


def deals(live: Any, deleted: Any) -> Callable[[Seen], Any]:
    def answer(seen: Seen) -> Any:
        found = deleted if seen.query.get("status") == "deleted" else live
        return {"data": [{"id": n, "status": s, "update_time": at} for n, s, at in found]}

    return answer


def past_the_end(number: int, _: Seen) -> Any:
    return Answer({"code": "invalid_page_number"}, 400) if number > 2 else [{"id": number}]


def payments_of_31_days(seen: Seen) -> Any:
    start, end = (datetime.fromisoformat(seen.query[name]) for name in ("from", "to"))
    if end - start > timedelta(days=31):
        return Answer({"error": "a range has 31 days at most"}, 400)
    rows = [(1, "2026-09-03T00:00:00Z"), (2, "2026-11-20T00:00:00Z")]
    return [
        {"id": number, "created_at": at}
        for number, at in rows
        if start <= datetime.fromisoformat(at) < end
    ]


def search_of_four(seen: Seen) -> Any:
    offset, limit = int(seen.query["offset"]), int(seen.query["limit"])
    if offset + limit > 4:
        return Answer({"error": "the result window is too large"}, 400)
    rows = [{"id": day, "updated_at": f"2026-11-0{day}T00:00:00Z"} for day in range(1, 8)]
    found = [row for row in rows if str(row["updated_at"]) >= seen.query["since"]]
    return {"results": found[offset : offset + limit], "total": len(found)}


TICKETS = {
    "tickets": [
        {"id": 1, "updated_at": "2026-11-27T09:58:00Z"},
        {"id": 2, "updated_at": "2026-11-27T10:00:10Z"},
    ],
    "next_page": "?start_time=1795773610",
    "end_of_stream": True,
}


def orders_by_graphql(seen: Seen) -> Any:
    """Three orders, two on the first page."""
    variables = json.loads(seen.body)["variables"]
    if variables["filter"] != "updated_at:>=2026-01-01T00:00:00Z":
        return Answer({"errors": [{"message": "refused"}]}, 400)
    found, after = ([3], None) if variables["after"] == "c1" else ([1, 2], "c1")
    nodes = [{"id": n, "total": 10 * n, "updatedAt": f"2026-02-0{n}T00:00:00Z"} for n in found]
    info = {"endCursor": after, "hasNextPage": after is not None}
    return {"data": {"orders": {"nodes": nodes, "pageInfo": info}}}


def site_orders(total: int) -> Any:
    return [{"id": 1, "total": total, "updated_at": "2026-11-01T00:00:00Z"}]


def zipped_report(body: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sales.csv", body)
    return packed.getvalue()


def packed_events(*given: tuple[int, str, str]) -> Answer:
    lines = [
        json.dumps({"id": n, "kind": kind, "at": f"2026-11-27T{at}:00Z"}) for n, kind, at in given
    ]
    return Answer(
        gzip.compress("\n".join(lines).encode()), headers={"content-type": "binary/octet"}
    )


def xml_feed(seen: Seen) -> Answer:
    items = (
        '<item id="a"><title>Chair</title><price currency="EUR">20</price></item>'
        '<item id="b"><title>Table</title></item>'
    )
    last = '<item id="c"><title>Lamp</title><price currency="USD">7.5</price></item>'
    found, after = (last, "") if "page" in seen.query else (items, "<next>?page=2</next>")
    body = f"<feed><items>{found}</items>{after}</feed>".encode()
    return Answer(body, headers={"content-type": "application/xml"})


def calendar(seen: Seen) -> Any:
    """Two pages; then a change; then the token is too old."""
    events = [{"id": name, "status": "confirmed", "summary": name} for name in "ab"]
    changed = [{"id": "b", "status": "cancelled", "summary": "Review"}]
    asked = seen.query
    if asked.get("syncToken") == "s2":
        return Answer({"error": {"code": 410, "message": "Sync token is no longer valid"}}, 410)
    if asked.get("syncToken") == "s1":
        return {"items": changed, "nextSyncToken": "s2"}
    if asked.get("pageToken") == "p2":
        return {"items": events[1:], "nextSyncToken": "s1"}
    return {"items": events[:1], "nextPageToken": "p2"}


CALENDAR_AFTER_RESET = {
    "items": [
        {"id": "b", "status": "cancelled", "summary": "Review"},
        {"id": "c", "status": "confirmed", "summary": "Launch"},
    ],
    "nextSyncToken": "s3",
}


def calendar_later(seen: Seen) -> Any:
    return calendar(seen) if "syncToken" in seen.query else CALENDAR_AFTER_RESET


def graph_users(seen: Seen) -> Any:
    url = f"http://{seen.headers['host']}/v1.0/users/delta"
    if "$deltatoken" in seen.query:
        found = [{"id": "2", "displayName": "Bob B."}, {"id": "3", "displayName": "Cid"}]
        return {"value": found, "@odata.deltaLink": f"{url}?$deltatoken=d2"}
    if "$skiptoken" in seen.query:
        found = [{"id": "2", "displayName": "Bob"}]
        return {"value": found, "@odata.deltaLink": f"{url}?$deltatoken=d1"}
    found = [{"id": "1", "displayName": "Ann"}]
    return {"value": found, "@odata.nextLink": f"{url}?$skiptoken=p2"}


def exported_tickets(seen: Seen) -> Any:
    statuses = {None: "open", "c1": "closed", "c2": None}
    status = statuses[seen.query.get("cursor")]
    number = list(statuses.values()).index(status) + 1
    found = [{"id": number, "status": status}] if status else []
    after = f"c{number}" if status else None
    return {"tickets": found, "after_cursor": after, "end_of_stream": number != 1}


APIS: Mapping[str, RecipeApi] = {
    "owners_of_tables": RecipeApi({"/orders": [{"id": 7}], "/prices": [{"id": 1, "amount": 9.5}]}),
    "checked_table": RecipeApi(
        {
            "/orders": {
                "total_count": 2,
                "orders": [
                    {"id": 1, "updated_at": "2026-11-27T08:00:00Z"},
                    {"id": 2, "updated_at": "2026-11-27T09:00:00Z"},
                ],
            }
        },
        later=[
            {
                "/orders": {
                    "total_count": 2,
                    "orders": [{"id": 1, "updated_at": "2026-11-27T09:30:00Z"}],
                }
            }
        ],
    ),
    "lists_in_params": RecipeApi(
        {
            "/tickets": only(
                lambda seen: seen.query.get("status") == "open,closed",
                [{"id": 1, "status": "open"}, {"id": 2, "status": "closed"}],
            )
        }
    ),
    "end_of_stream": RecipeApi({"/items": numbered("after", 0, stream)}),
    "next_page_in_a_header": RecipeApi({"/items": numbered("_token", 1, next_in_header)}),
    "pages_counted_in_a_header": RecipeApi({"/items": numbered("page", 1, counted_in_header)}),
    "params_of_the_first_page": RecipeApi({"/items": numbered("page_info", 1, filtered_first)}),
    "first_of_several_fields": RecipeApi(
        {
            "/notes": [
                {
                    "id": 1,
                    "created_at": "2026-11-19T08:00:00Z",
                    "updated_at": "2026-11-20T08:00:00Z",
                },
                {"id": 2, "created_at": "2026-11-21T08:00:00Z", "updated_at": None},
            ]
        },
        [{}],
    ),
    "capped_search": RecipeApi({"/search": search_of_four}),
    "ranges_of_31_days": RecipeApi({"/payments": payments_of_31_days}),
    "one_minute_rule": RecipeApi({"/api/v2/incremental/tickets.json": TICKETS}, [{}]),
    "cursor_in_epoch_seconds": RecipeApi(
        {
            "/api/v2/incremental/users.json": users(
                (1, "Ann", "2026-11-19T08:00:00Z"), (2, "Bob", "2026-11-20T08:00:00Z")
            )
        },
        [
            {
                "/api/v2/incremental/users.json": users(
                    (2, "Bob", "2026-11-20T08:00:00Z"), (1, "Ann B.", "2026-11-21T09:30:00Z")
                )
            }
        ],
    ),
    "cursor_in_a_query_language": RecipeApi({"/rest/api/2/search": {"issues": [ISSUE]}}, [{}]),
    "cursor_in_local_time": RecipeApi(
        {
            "/orders": [
                {"id": 1, "changed": "27.11.2026 10:00"},
                {"id": 2, "changed": "27.11.2026 10:00:05"},
            ]
        },
        [{"/orders": [{"id": 2, "changed": "01.12.2026 08:30"}]}],
    ),
    "range_of_time_series": RecipeApi(
        {
            "/api/v1/query_range": {
                "status": "success",
                "data": {
                    "resultType": "matrix",
                    "result": [
                        {"metric": {"instance": f"{name}:9100"}, "values": [[1795770030, "1"]]}
                        for name in "ab"
                    ],
                },
            }
        }
    ),
    "last_30_days": RecipeApi(
        {
            "/daily/2026": {
                "days": [
                    {"day": "2026-10-28", "amount": 12.5},
                    {"day": "2026-11-26", "amount": 7.25},
                ]
            }
        }
    ),
    "secrets_from_files": RecipeApi(
        {"/orders": only(has_both_secrets, [{"id": 1, "amount": 9.5}])},
        environment={"SOURCES__SHOP__CLIENT_SECRET": "secret-of-dlt"},
        files={"shop_token": "t0ken-of-the-file\n"},
    ),
    "rotating_refresh_token": RecipeApi(
        {
            "/token": only(
                lambda seen: b"refresh_token=r3fresh-0" in seen.body,
                {"access_token": "fr3sh", "refresh_token": "r3fresh-1", "expires_in": 3600},
            ),
            "/orders": only(
                lambda seen: seen.headers.get("authorization") == "Bearer fr3sh",
                [{"id": 1, "amount": 9.5}],
            ),
        },
        environment={
            "CLIENT_ID": "shop",
            "CLIENT_SECRET": "s3cret-of-the-client",
            "REFRESH_TOKEN": "r3fresh-0",
        },
    ),
    "arrays_as_records": RecipeApi(
        {
            "/forecast": {"hourly": {"time": ["10:00", "11:00"], "temperature": [3.5, 4.0]}},
            "/rates": {"rates": {"EUR": 1.1, "GBP": 1.3}},
            "/trades": [[1, 9.5], [2, -1]],
        },
    ),
    "personal_data": RecipeApi(
        {
            "/tickets": [
                {
                    "id": 1,
                    "requester": {"email": "ann@x.test"},
                    "description": "My card is ...",
                    "comments": [{"author": "ben", "body": "Thanks, Ann"}],
                }
            ]
        },
        environment={"HASH_KEY": "k3y-of-hashes"},
    ),
    "json_in_texts": RecipeApi(
        {
            "/events": [
                {"Event No": 1, "payload": '{"amount": 12}'},
                {"Event No": 2, "payload": ""},
            ]
        },
    ),
    "one_table_for_several_sites": RecipeApi(
        {"/sites/north/orders": site_orders(10), "/sites/south/orders": site_orders(30)},
        [
            {
                "/sites/north/orders": only(
                    lambda seen: seen.query["since"] == "2026-11-01T00:00:00Z",
                    [{"id": 2, "total": 25, "updated_at": "2026-11-02T00:00:00Z"}],
                )
            }
        ],
    ),
    "batched_ids": RecipeApi(
        {
            "/products": [
                {"id": 1, "variants": [{"id": 11}, {"id": 12}]},
                {"id": 2, "variants": [{"id": 21}, {"id": 11}]},
            ],
            "/stock": only(
                lambda seen: seen.query["ids"] == "11,12,21",
                [
                    {"variant_id": 11, "available": 4},
                    {"variant_id": 12, "available": 0},
                    {"variant_id": 21, "available": 7},
                ],
            ),
        }
    ),
    "report_job": RecipeApi(
        {
            "/v2/reports": only(
                lambda seen: (
                    json.loads(seen.body)
                    == {"type": "sales", "from": "2026-10-28", "to": "2026-11-27"}
                ),
                Answer({"id": "r-17", "status": "queued"}, 202),
            ),
            "/v2/reports/r-17": {
                "status": "finished",
                "file": {"url": "/files/r-17.zip?signature=abc"},
            },
            "/v2/files/r-17.zip": Answer(
                zipped_report(b"day,amount\n2026-11-26,12.50\n2026-11-27,7.25\n"),
                headers={"content-type": "application/zip"},
            ),
        },
        environment={"REPORTS_TOKEN": "t0ken-of-reports"},
    ),
    "csv_export": RecipeApi(
        {
            "/reports/customers": Answer(
                "Customers of today\nid;city;zip;orders\n1;Köln;01067;12\n2;;10115;n/a\n".encode(
                    "latin-1"
                ),
                headers={"content-type": "application/octet-stream"},
            )
        }
    ),
    "packed_json_lines": RecipeApi(
        {"/export": packed_events((1, "opened", "08:00"), (2, "closed", "09:00"))},
        [{"/export": packed_events((2, "closed", "09:00"), (3, "opened", "10:00"))}],
    ),
    "xml_feed": RecipeApi({"/feed": xml_feed}),
    "not_in_the_licence": RecipeApi(
        {"/users": [{"id": 1}], "/audits": [{"id": 7, "event": "login"}]},
        [
            {
                "/users": [{"id": 1}, {"id": 2}],
                "/audits": Answer({"error": {"code": "NotInPlan"}}, 403),
            }
        ],
    ),
    "deleted_parents": RecipeApi(
        {
            "/posts": {"posts": [{"id": 1}, {"id": 2}]},
            "/posts/1/comments": comments((11, "first"), (12, "second")),
            "/posts/2/comments": comments((21, "third")),
        },
        [{"/posts/2/comments": Answer({"error": "deleted"}, 404)}, {}],
    ),
    "names_for_codes": RecipeApi(
        {
            "/dealFields": {
                "data": [
                    {"code": "d4de1c", "label": "Region"},
                    {"code": "7af02b", "label": "region"},
                ]
            },
            "/deals": {
                "data": [
                    {"id": 1, "custom_fields": {"d4de1c": "north"}},
                    {"id": 2, "custom_fields": {"d4de1c": "south", "7af02b": "east"}},
                ]
            },
        },
        [{}],
    ),
    "lines_that_are_removed": RecipeApi(
        {
            "/orders": {
                "orders": [
                    {"id": 1, "updated": "2026-11-01"},
                    {"id": 2, "updated": "2026-11-01"},
                ]
            },
            "/orders/1/lines": {"lines": [{"id": 11, "price": 5}, {"id": 12, "price": 7}]},
            "/orders/2/lines": {"lines": [{"id": 21, "price": 9}]},
            "/discounts": {
                "discounts": [
                    {"id": 91, "order_id": 1, "percent": 10},
                    {"id": 92, "order_id": 2, "percent": 20},
                ]
            },
        },
        [
            {
                "/orders/1/lines": {"lines": [{"id": 11, "price": 5}]},
                "/discounts": {"discounts": [{"id": 91, "order_id": 1, "percent": 10}]},
            },
            {},
        ],
    ),
    "deleted_rows_beside_the_live_ones": RecipeApi(
        {
            "/deals": deals(
                [(1, "open", "2026-11-19T08:00:00Z"), (2, "won", "2026-11-20T09:00:00Z")],
                [(3, "deleted", "2026-11-01T07:00:00Z")],
            )
        },
        [{"/deals": deals([], [(2, "deleted", "2026-11-21T10:00:00Z")])}],
    ),
    "records_that_say_they_are_deleted": RecipeApi(
        {
            "/contacts": changed(
                {"id": 1, "name": "Ann", "deleted_at": None},
                {"id": 2, "name": "Bob", "deleted_at": None},
            ),
            "/projects": changed({"id": 7, "state": "open"}, {"id": 8, "state": "open"}),
        },
        [
            {
                "/contacts": changed(
                    {"id": 2, "name": "Bob", "deleted_at": "2026-11-21T09:00:00Z"}
                ),
                "/projects": changed({"id": 7, "state": "archived"}),
            }
        ],
    ),
    "list_of_deleted_keys": RecipeApi(
        {
            "/items": changed(
                {"id": 1, "name": "chair"}, {"id": 2, "name": "table"}, {"id": 3, "name": "lamp"}
            ),
            "/deleted_items": {"data": [{"item_id": 3, "deleted_at": "2026-11-19T10:00:00Z"}]},
        },
        [
            {
                "/items": changed({"id": 3, "name": "lamp"}),
                "/deleted_items": {
                    "data": [
                        {"item_id": 3, "deleted_at": "2026-11-19T10:00:00Z"},
                        {"item_id": 2, "deleted_at": "2026-11-21T09:00:00Z"},
                    ]
                },
            }
        ],
    ),
    "rows_that_vanish": RecipeApi(
        {"/customers": changed({"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"})},
        [{"/customers": changed({"id": 1, "name": "Ann"})}],
    ),
    "error_past_the_last_page": RecipeApi({"/posts": numbered("page", 1, past_the_end)}),
    "shared_rate_limit": RecipeApi(
        {
            "/api/v2/groups": {"groups": [{"id": 4}]},
            "/api/v2/incremental/users": {"users": [{"id": 1, "name": "Ann"}]},
        }
    ),
    "token_budget": RecipeApi(
        {
            "/api/v2/stages": {"data": [{"id": 4}]},
            "/api/v1/users": {"data": [{"id": 1, "name": "Ann"}]},
        }
    ),
    "sync_token": RecipeApi(
        {"/v3/calendars/primary/events": calendar},
        [{}, {"/v3/calendars/primary/events": calendar_later}],
    ),
    "delta_link": RecipeApi({"/v1.0/users/delta": graph_users}, [{}]),
    "cursor_between_runs": RecipeApi(
        {"/api/v2/incremental/tickets/cursor.json": exported_tickets},
        [
            {},
            {
                "/api/v2/incremental/tickets/cursor.json": {
                    "tickets": [{"id": 3, "status": "new"}],
                    "after_cursor": "c3",
                    "end_of_stream": True,
                }
            },
        ],
    ),
    "graphql": RecipeApi(
        {"/admin/graphql.json": orders_by_graphql}, environment={"SHOP_TOKEN": "t0ken-of-shop"}
    ),
}
