"""Which paginator an API may need. A paging is a guess until a second page has proved it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dlt.sources.helpers.rest_client.paginators import (
    BasePaginator,
    HeaderLinkPaginator,
    JSONLinkPaginator,
)

from restsource_dagster.authoring.guesses import Confidence, Guess, SeenAnswer
from restsource_dagster.authoring.importing.param_names import (
    CURSOR_PARAMS,
    LIMIT_PARAMS,
    OFFSET_PARAMS,
    PAGE_PARAMS,
    is_named,
)
from restsource_dagster.engine.paging.paging_watch import (
    describe_full_page,
    next_references,
    page_counts,
    signs_of_next_page,
)
from restsource_dagster.engine.paging.response_checks import normalized_field_name, split_names
from restsource_dagster.engine.paging.safe_paginators import detect_paginator
from restsource_dagster.engine.paging.totals import stated_total, whole_number

__all__ = ["SINGLE_PAGE", "guess_paginators", "names_next_page"]

_PLACE = "endpoint.paginator"
SINGLE_PAGE = "single_page"
_BODY_PAGE_FIELDS = split_names("page pagenumber pageno pagenum currentpage currentpagenumber")
_ROUND_SIZES = frozenset({10, 15, 20, 25, 30, 40, 50, 60, 75, 100, 150, 200, 250, 500, 1000})
"""Page sizes that APIs have by default: a list of just so many rows is perhaps not all of them."""
_MAX_PAGE_INFO_DEPTH = 6
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")


def guess_paginators(
    answer: SeenAnswer, listed: Sequence[Any], *, params: Mapping[str, str] | None = None
) -> tuple[Guess, ...]:
    """Return the paginators that the first answer suggests, the surest first; never none.

    `listed` is the list of rows. `params` are further params that a document names, with examples. The
    last guess is that there is one page, if nothing says otherwise.
    """
    asked = {**(params or {}), **answer.params}
    found = [
        *_links(answer, listed),
        *_cursors(answer, listed, asked),
        *_numbers(answer, listed, asked),
    ]
    if not found:
        found = list(_tries(answer, listed))
    signs = signs_of_next_page(answer.response, answer.body, listed)
    if not found or (not signs and found[0].confidence == "possible"):
        found.append(
            Guess(_PLACE, SINGLE_PAGE, "nothing in the answer names a next page", "possible")
        )
    unique: dict[str, Guess] = {}
    for guess in found:
        unique.setdefault(str(guess.value), guess)
    return tuple(unique.values())


def _guess(value: Mapping[str, Any], evidence: str, confidence: Confidence = "likely") -> Guess:
    return Guess(_PLACE, dict(value), evidence, confidence)


def _links(answer: SeenAnswer, listed: Sequence[Any]) -> Iterator[Guess]:
    """Yield the paginators that follow a link; what the engine and dlt detect comes first."""
    try:
        detected: BasePaginator | None = detect_paginator(answer.response, answer.body)
    except ValueError:
        detected = None
    if isinstance(detected, HeaderLinkPaginator):
        yield _guess({"type": "header_link"}, 'the header Link has a link with rel="next"')
    if isinstance(detected, JSONLinkPaginator):
        path = _plain(str(detected.next_url_path))
        yield _guess({"type": "json_link", "next_url_path": path}, f"`{path}` is a link")
    for path, value in next_references(answer.body, listed):
        if _is_link(value):
            yield _guess({"type": "json_link", "next_url_path": path}, f"`{path}` is a link")
    for name, value in answer.headers.items():
        if normalized_field_name(name) != "link" and "next" in name.lower() and _is_link(value):
            yield _guess(
                {"type": "header_link", "next_url_header": name}, f"the header {name} is a URL"
            )


def _plain(path: str) -> str:
    """Return a path as people write it: jsonpath-ng quotes names with other characters and adds `$`."""
    return path.removeprefix("$.").replace("'", "")


def _is_link(value: Any) -> bool:
    if not isinstance(value, str) or " " in value:
        return False
    parts = urlsplit(value)
    return bool(parts.scheme in ("http", "https") and parts.netloc) or value.startswith(("/", "?"))


def _cursors(
    answer: SeenAnswer, listed: Sequence[Any], asked: Mapping[str, str]
) -> Iterator[Guess]:
    for path, value in next_references(answer.body, listed):
        if _is_link(value):
            continue
        for number, param in enumerate(_params_for(path, value, asked)):
            yield _guess(
                {"type": "cursor", "cursor_path": path, "cursor_param": param},
                f"`{path}` is {'a number' if isinstance(value, int) else 'a text'} for the next page; "
                f"{'the URL names' if param in asked else 'APIs often call it'} `{param}`",
                "likely" if number == 0 else "possible",
            )
    for name, value in answer.headers.items():
        normal = normalized_field_name(name).removeprefix("x")
        if normal.startswith("next") and not _is_link(value) and value.strip():
            for param in _params_for(normal, value, asked)[:3]:
                yield _guess(
                    {"type": "header_cursor", "cursor_key": name, "cursor_param": param},
                    f"the header {name} has a cursor",
                    "possible",
                )
    yield from _relay(answer, asked)
    yield from _last_id(answer, listed)


def _relay(answer: SeenAnswer, asked: Mapping[str, str]) -> Iterator[Guess]:
    """Yield the paging of GraphQL's connections: https://relay.dev/graphql/connections.htm."""
    path = names_next_page(answer.body)
    if path is None:
        return
    for param in asked:
        if is_named(param, CURSOR_PARAMS):
            yield _guess(
                {
                    "type": "cursor",
                    "cursor_path": f"{path}.endCursor",
                    "cursor_param": param,
                    "has_more_path": f"{path}.hasNextPage",
                },
                f"`{path}` has the cursor of the last row, and the query takes `{param}`",
            )


def names_next_page(body: Any) -> str | None:
    """Return the path of the `pageInfo` of GraphQL's connections that says that there is another page."""
    found = _page_info(body, ())
    return None if found is None else ".".join(found)


def _page_info(body: Any, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the path of the first object that has `endCursor` and `hasNextPage`."""
    if not isinstance(body, Mapping) or len(path) > _MAX_PAGE_INFO_DEPTH:
        return None
    if isinstance(body.get("endCursor"), str) and body.get("hasNextPage") is True:
        return path
    inner = (_page_info(item, (*path, str(key))) for key, item in body.items())
    return next((one for one in inner if one), None)


def _last_id(answer: SeenAnswer, listed: Sequence[Any]) -> Iterator[Guess]:
    """Yield the paging of APIs that have only a flag, and are asked for what follows the last row."""
    body, last = answer.body, listed[-1] if listed else None
    if not isinstance(body, Mapping) or not isinstance(last, Mapping) or "id" not in last:
        return
    place = next((key for key, value in body.items() if value is listed), None)
    flag = next(
        (
            key
            for key, value in body.items()
            if normalized_field_name(key) in ("hasmore", "more") and value is True
        ),
        None,
    )
    if place is None or flag is None or any(True for _ in next_references(body, listed)):
        return
    for param in ("starting_after", "after", "after_id"):
        yield _guess(
            {
                "type": "cursor",
                "cursor_path": f"{place}[-1].id",
                "cursor_param": param,
                "has_more_path": flag,
            },
            f"`{flag}` is true and no cursor is in the answer, so the id of the last row may be it",
            "possible",
        )


def _params_for(path: str, value: Any, asked: Mapping[str, str]) -> list[str]:
    """Return the params that may send a cursor, by its name and what the URL names."""
    name = re.split(r"[.\]]", path)[-1] or path
    normal = normalized_field_name(name)
    words = _WORD.findall(name)
    rest = [word for word in words if word.lower() != "next"]
    # `next_page_token` is sent as `page_token`, `nextPageToken` as `pageToken`
    joined = (
        "_".join(rest) if "_" in name else "".join([*(rest[:1] and [rest[0].lower()]), *rest[1:]])
    )
    named = [
        param
        for param in asked
        if normalized_field_name(param) in (normal, normal.removeprefix("next"))
    ]
    usual = [param for param in asked if is_named(param, CURSOR_PARAMS) and param not in named]
    guesses = [joined] if joined else []
    if isinstance(value, int):
        guesses += ["page", "offset"]
    guesses += [name, *CURSOR_PARAMS[:8]]
    # a page's number is not a cursor, unless the cursor is called so
    return list(dict.fromkeys([*named, *usual, *guesses]))[:8]


def _numbers(
    answer: SeenAnswer, listed: Sequence[Any], asked: Mapping[str, str]
) -> Iterator[Guess]:
    """Yield page numbers and offsets that the URL or the body names."""
    rows = len(listed)
    total = stated_total(answer.response, answer.body, rows)
    counts = dict(page_counts(answer.body, listed))
    for name, text in asked.items():
        is_offset = is_named(name, OFFSET_PARAMS)
        if not (is_offset or is_named(name, PAGE_PARAMS)) or whole_number(text) is None:
            continue
        evidence = f"the URL names `{name}`"
        if is_offset:
            yield _offset(answer, asked, rows, name, evidence, total)
        else:
            yield _page(name, whole_number(text) or 0, counts, evidence)
    size = next((name for name in asked if is_named(name, LIMIT_PARAMS)), None)
    for path, name, value in _numbers_beside(answer.body, listed):
        normal = normalized_field_name(name)
        if normal in _BODY_PAGE_FIELDS and value in (0, 1):
            evidence = f"`{path}` is {value}" + (
                f", and `{next(iter(counts))}` {next(iter(counts.values()))}" if counts else ""
            )
            for param in dict.fromkeys(("page", name)):
                yield _page(param, value, counts, evidence, "likely" if counts else "possible")
        if normal in ("offset", "skip", "start", "startat") and value == 0:
            yield _offset(answer, asked, rows, name, f"`{path}` is 0", total)
    if counts and max(counts.values()) > 1:
        path, number = next(iter(counts.items()))
        yield _page("page", 1, counts, f"`{path}` says that there are {number} pages", "possible")
    if total is not None and total > rows:
        evidence = f"the answer has {rows} rows and states a total of {total}"
        yield _page("page", 1, counts, evidence, "possible")
        yield _offset(answer, asked, rows, "offset", evidence, total, "possible")
        yield _offset(answer, asked, rows, "skip", evidence, total, "possible")
    elif size is not None and (full := describe_full_page(answer.response, rows)):
        yield _page("page", 1, counts, full.partition(". ")[0], "possible")
        yield _offset(answer, asked, rows, "offset", full.partition(". ")[0], total, "possible")


def _tries(answer: SeenAnswer, listed: Sequence[Any]) -> Iterator[Guess]:
    """Yield what is worth a try for a list that has just as many rows as APIs send by default."""
    rows = len(listed)
    if rows not in _ROUND_SIZES:
        return
    evidence = f"the answer has just {rows} rows, which may be a page"
    yield _page("page", 1, {}, evidence, "possible")
    yield _offset(answer, {}, rows, "offset", evidence, None, "possible")


def _page(
    param: str,
    base: int,
    counts: Mapping[str, int],
    evidence: str,
    confidence: Confidence = "likely",
) -> Guess:
    value = {
        "type": "page_number",
        "base_page": base if base in (0, 1) else 1,
        "page_param": param,
        "total_path": next(iter(counts), None),
    }
    return _guess(value, evidence, confidence)


def _offset(
    answer: SeenAnswer,
    asked: Mapping[str, str],
    rows: int,
    param: str,
    evidence: str,
    total: int | None,
    confidence: Confidence = "likely",
) -> Guess:
    size = next((name for name in asked if is_named(name, LIMIT_PARAMS)), None)
    value = {
        "type": "offset",
        "limit": (whole_number(asked[size]) if size else None) or max(rows, 1),
        "offset_param": param,
        "limit_param": size or "limit",
        "total_path": _total_path(answer, total),
    }
    return _guess(value, evidence, confidence)


def _total_path(answer: SeenAnswer, total: int | None) -> str | None:
    if total is None:
        return None
    for path, name, value in _numbers_beside(answer.body, ()):
        if value == total and any(word in name.lower() for word in ("total", "count", "found")):
            return path
    return None


def _numbers_beside(
    body: Any, listed: Sequence[Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, int]]:
    """Yield the whole numbers beside the rows: path, name and value."""
    if not isinstance(body, Mapping) or len(path) > 2:
        return
    if any(body is record for record in listed[:1]):
        return
    for key, value in body.items():
        if isinstance(value, Mapping):
            yield from _numbers_beside(value, listed, (*path, str(key)))
        elif type(value) is int:
            yield ".".join((*path, str(key))), str(key), value
