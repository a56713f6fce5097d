"""Read HAR files, which browsers save of what a page has asked for: the requests with JSON answers.

http://www.softwareishard.com/blog/har-12-spec/
"""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import parse_qsl

from restsource_dagster.authoring.importing.connector_draft import ConnectorDraft, assemble
from restsource_dagster.authoring.importing.param_names import (
    CURSOR_PARAMS,
    OFFSET_PARAMS,
    PAGE_PARAMS,
    is_named,
)
from restsource_dagster.authoring.importing.sent_requests import api_of_requests
from restsource_dagster.authoring.importing.source_files import (
    SourceError,
    SourceFile,
    parse_data,
)
from restsource_dagster.authoring.importing.source_pieces import Ledger, Piece, reasons_by_prefix
from restsource_dagster.authoring.importing.source_requests import (
    SentAnswer,
    SentField,
    SourceRequest,
)

__all__ = ["read_har"]

_MAX_ENTRIES = 20_000
_reason_of = reasons_by_prefix(
    {
        ("log", "entries", "*", "response"): "an answer: what is loaded of it comes from the rows",
        ("log", "entries", "*", "request", "cookies"): "in the header Cookie",
        ("log", "entries"): "describes, and changes no request",
    },
    "describes, and changes no request",
)


def read_har(files: Sequence[SourceFile], name: str | None) -> ConnectorDraft:
    """Return the connector of a HAR file: one resource for each address and set of params.

    Raises `SourceError` if no entry has a JSON answer.
    """
    document = parse_data(files[0])
    root = Piece(document, (), Ledger())
    entries = list(root.get("log", "entries").elements())
    if not entries:
        raise SourceError("no HAR file: it has a list `log.entries`")
    if len(entries) > _MAX_ENTRIES:
        raise SourceError(f"more than {_MAX_ENTRIES:,} entries; filter them before saving")
    requests = [made for entry in entries if (made := _request_of(entry)) is not None]
    if not requests:
        raise SourceError("no entry has an answer that is JSON; save the HAR file with contents")
    draft = assemble(api_of_requests(list(_grouped(requests)), name, {}))
    draft.ledger.add_unread(document, _reason_of)
    return draft


def _request_of(entry: Piece) -> SourceRequest | None:
    """Return the request of an entry with its answer. Note an entry without anything to load, and return None."""
    request = entry.get("request")
    url = request.get("url").text or ""
    answer = _answer_of(entry.get("response"), url)
    # pages load images, scripts and `data:` URLs, too: none of them has rows
    if answer is None or not url.startswith(("https://", "http://")):
        entry.not_mapped("answers with no JSON, or with an error")
        return None
    method = request.get("method")
    method.mapped("the method of the request")
    # browsers leave the fragment in, which is never sent
    address, _, text = url.partition("#")[0].partition("?")
    body = request.get("postData")
    params = list(body.get("params").elements())
    body_text = body.get("text")
    return SourceRequest(
        piece=entry,
        method=(method.text or "GET").upper(),
        url=address,
        url_piece=request.get("url"),
        # the list may be empty although the URL has a query
        query=tuple(_fields(request.get("queryString"))) or tuple(_pairs(text, request.get("url"))),
        headers=tuple(_fields(request.get("headers"))),
        form=tuple(_fields(body.get("params"))),
        body=None if params else body_text.text,
        body_piece=None if params or not body_text.exists else body_text,
        answers=(answer,),
    )


def _answer_of(response: Piece, url: str) -> SentAnswer | None:
    status = response.get("status").number or 0
    content = response.get("content")
    if not 200 <= status < 300 or "json" not in (content.get("mimeType").text or "").lower():
        return None
    text = content.get("text").text or ""
    try:
        # a browser that doesn't know the charset saves the bytes (HAR 1.2, content)
        if content.get("encoding").text == "base64":
            text = base64.b64decode(text, validate=True).decode()
        body = json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        return None
    headers = {each.name: each.value for each in _fields(response.get("headers"))}
    return SentAnswer(body, content.get("text"), status, headers, url)


def _fields(piece: Piece) -> Iterator[SentField]:
    for each in piece.elements():
        name, value = each.get("name").text, each.get("value").value
        if name:
            yield SentField(name, "" if value is None else str(value), each)


def _pairs(text: str, piece: Piece) -> Iterator[SentField]:
    for name, value in parse_qsl(text, keep_blank_values=True):
        yield SentField(name, value, piece)


_PLACES = (*PAGE_PARAMS, *OFFSET_PARAMS, *CURSOR_PARAMS)


def _grouped(requests: Sequence[SourceRequest]) -> Iterator[SourceRequest]:
    """Yield one request for those that ask for the same, or for other pages of it, with all answers."""
    groups: dict[tuple[object, ...], list[SourceRequest]] = {}
    for request in requests:
        # all pages of one list are one resource
        kept = sorted(
            (each.name, each.value) for each in request.query if not is_named(each.name, _PLACES)
        )
        groups.setdefault((request.method, request.url, tuple(kept), request.body), []).append(
            request
        )
    for same in groups.values():
        for other in same[1:]:
            other.piece.not_mapped(
                "asks for the same as an earlier entry, or for another page of it"
            )
        # a page that was reloaded shows nothing that it did not show before
        distinct = {each.shown_url: each for each in same}
        answers = tuple(each.answers[0] for each in distinct.values())
        yield replace(same[0], answers=answers)
