"""Read Airbyte's low-code manifests: each stream is a resource.

https://docs.airbyte.com/connector-development/config-based/understanding-the-yaml-file/reference
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from restsource_dagster.authoring.importing.airbyte_components import (
    Component,
    Expressions,
    as_python,
    condition_of,
    jq_of,
)
from restsource_dagster.authoring.importing.airbyte_logins import LoginReader
from restsource_dagster.authoring.importing.airbyte_paging import (
    SentParts,
    cursor_of,
    paginator_of,
    response_actions_of,
)
from restsource_dagster.authoring.importing.connector_draft import ConnectorDraft, assemble
from restsource_dagster.authoring.importing.imported_api import (
    EnvVariables,
    ImportedApi,
    ImportedAuth,
    ImportedEndpoint,
    connector_name,
    name_of_host,
    resource_name,
    unique_name,
)
from restsource_dagster.authoring.importing.openapi_schemas import field_path
from restsource_dagster.authoring.importing.source_files import (
    SourceError,
    SourceFile,
    parse_data,
)
from restsource_dagster.authoring.importing.source_pieces import Ledger, Piece, reasons_by_prefix
from restsource_dagster.connector.models.processing_steps import DropStep, FilterStep, MapStep

__all__ = ["read_airbyte"]

_reason_of = reasons_by_prefix(
    {
        ("schemas",): "columns and their types come from the rows",
        ("spec",): "describes settings; those that are used are variables",
        ("check",): "`restsource preview` takes its place",
        ("metadata",): "describes, and changes no request",
        ("dynamic_streams",): "streams that the API names at run time are not supported",
    },
    "has no counterpart in a connector file",
)
_NO_EXPRESSION = "this expression has no counterpart"


def read_airbyte(files: Sequence[SourceFile], name: str | None) -> ConnectorDraft:
    """Return the connector of a manifest. Raises `SourceError` if none of its streams can be mapped."""
    document = parse_data(files[0])
    if not isinstance(document, dict) or not isinstance(document.get("streams"), list):
        raise SourceError("no manifest of Airbyte: it has a list `streams`")
    root = Piece(document, (), Ledger())
    stem = files[0].name.partition(".")[0]
    draft = assemble(_ManifestReader(root, name, stem).api())
    draft.ledger.add_unread(document, _reason_of)
    return draft


class _UnmappedStreamError(Exception):
    """A stream has a part without which it would load something else. The text says which."""


@dataclass
class _Stream:
    component: Component
    name: str
    is_selected: bool = True


@dataclass
class _ManifestReader:
    root: Piece
    wanted_name: str | None
    stem: str
    streams: list[_Stream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.taken: set[str] = set()
        for piece in self.root.get("streams").elements():
            self.add(Component.of(piece, self.root, {}))
        base = self._first_base()
        # an expression in the address is a setting, such as a subdomain
        host = urlsplit(re.sub(r"\{\{.*?\}\}", "", base)).netloc
        self.name = connector_name(self.wanted_name, name_of_host(host.strip(".")), self.stem)
        self.variables = EnvVariables(self.name)
        settings = self.root.get("spec", "connection_specification")
        self.expressions = Expressions(self.variables, settings)
        self.base_url = ""

    def _first_base(self) -> str:
        for stream in self.streams:
            requester = stream.component.part("retriever").part("requester")
            base = requester.get("url_base").text or requester.get("url").text
            if base:
                return base
        return ""

    def add(self, component: Component, *, is_selected: bool = True) -> _Stream:
        """Return the stream of a component; a parent that is no stream of its own is not loaded itself."""
        given = component.get("name").text or "records"
        # by its place: a parent is written out again, or referred to
        known = next((s for s in self.streams if _is_same(s.component, component)), None)
        if known is not None:
            return known
        stream = _Stream(component, unique_name(resource_name(given), self.taken), is_selected)
        self.streams.append(stream)
        return stream

    def api(self) -> ImportedApi:
        endpoints: list[ImportedEndpoint] = []
        auths: list[ImportedAuth | None] = []
        # parents of streams are added while the list is read
        for stream in self.streams:
            try:
                endpoint, auth = self._endpoint(stream)
            except _UnmappedStreamError as error:
                self.root.ledger.retract(f"resources.{stream.name}", str(error))
                stream.component.not_mapped(str(error))
                continue
            endpoints.append(endpoint)
            auths.append(auth)
        if not endpoints:
            raise SourceError("no stream of the manifest can be mapped")
        # most manifests have one login, which belongs to the client
        common = next((auth for auth in auths if auth is not None), None)
        return ImportedApi(
            name=self.name,
            base_url=self.base_url,
            endpoints=tuple(
                replace(each, auth=auth if auth is not None and auth != common else None)
                for each, auth in zip(endpoints, auths, strict=True)
            ),
            variables=self.variables,
            ledger=self.root.ledger,
            description=self._description(),
            auth=common,
        )

    def _description(self) -> str | None:
        given = self.root.get("description")
        given.mapped("description")
        return given.text

    # ---- one stream

    def _endpoint(self, stream: _Stream) -> tuple[ImportedEndpoint, ImportedAuth | None]:
        component, name = stream.component, stream.name
        retriever = component.part("retriever")
        if component.type != "DeclarativeStream" or retriever.type != "SimpleRetriever":
            raise _UnmappedStreamError(
                f"a {retriever.type or component.type or 'stream without a type'} has no counterpart"
            )
        resource = f"resources.{name}"
        for each, target in ((component, resource), (retriever, f"{resource}.endpoint")):
            each.mapped(target)
        component.get("name").mapped(f"{resource}.name")
        sent = SentParts(f"{resource}.endpoint")
        # first, because its names stand in paths and params
        router = _Router(self, sent)
        router.read(retriever)
        expressions = self.expressions.with_names(router.names)
        requester = retriever.part("requester")
        path = self._path(requester, expressions, sent.target)
        self._request_parts(requester, expressions, sent)
        selector_part = retriever.part("record_selector")
        selector = self._selector(selector_part, f"{sent.target}.data_selector")
        steps = self._steps(component, selector_part, expressions, resource)
        self._report_decoder(retriever)
        method = (requester.get("http_method").text or "GET").upper()
        requester.get("http_method").mapped(f"{sent.target}.method")
        paginator = paginator_of(retriever.part("paginator"), expressions, sent, selector)
        incremental = cursor_of(component.part("incremental_sync"), expressions, sent)
        endpoint = ImportedEndpoint(
            name=name,
            is_selected=stream.is_selected,
            path=path,
            method=method,
            params=sent.params,
            headers=sent.headers,
            json=sent.json,
            paginator=paginator,
            data_selector=selector,
            incremental=incremental,
            primary_key=_key_of(component.get("primary_key"), resource),
            response_actions=response_actions_of(requester.part("error_handler"), sent.target),
            processing_steps=tuple(steps),
            for_each=router.for_each,
        )
        logins = LoginReader(self.root, self.expressions)
        return endpoint, logins.auth(requester.part("authenticator"))

    def _path(self, requester: Component, expressions: Expressions, target: str) -> str:
        if requester.type != "HttpRequester":
            raise _UnmappedStreamError(
                f"a {requester.type or 'request without a type'} has no counterpart"
            )
        requester.mapped(target)
        base_piece = (
            requester.get("url_base") if requester.get("url_base").exists else requester.get("url")
        )
        # the base URL is not read by dlt, a path is, and then filled in
        base = expressions.text(base_piece.value, requester.parameters, readings=0)
        path_piece = requester.get("path")
        path = expressions.text(path_piece.value or "", requester.parameters, readings=2)
        if base is None or path is None:
            raise _UnmappedStreamError("its address has an expression without a counterpart")
        path_piece.mapped(f"{target}.path")
        path = path.removeprefix("/")
        if not self.base_url:
            self.base_url = base.rstrip("/")
        # a stream of another server: its path is a whole URL
        if base.rstrip("/") != self.base_url:
            base_piece.mapped(f"{target}.path")
            return f"{base.rstrip('/')}/{path}"
        base_piece.mapped("client.base_url")
        return path or "/"

    def _request_parts(
        self, requester: Component, expressions: Expressions, sent: SentParts
    ) -> None:
        places: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("request_parameters", "params", sent.params),
            ("request_headers", "headers", sent.headers),
            ("request_body_json", "json", sent.json),
        )
        for name, word, part in places:
            piece = requester.get(name)
            if piece.exists and not piece.is_object:
                piece.not_mapped(_NO_EXPRESSION)
            for key, each in piece.fields():
                value = self._sent_value(each, expressions, requester)
                if value is None:
                    each.not_mapped(_NO_EXPRESSION)
                    continue
                each.mapped(f"{sent.target}.{word}.{key}")
                part[key] = value
        for name in ("request_body_data", "request_body", "fetch_properties"):
            requester.get(name).not_mapped("this kind of body is not supported")

    def _sent_value(self, piece: Piece, expressions: Expressions, requester: Component) -> Any:
        """Return a value of a request: a list or an object of a body by its texts."""
        if isinstance(piece.value, dict | list):
            # an expression anywhere inside would be sent as it stands
            text = json.dumps(piece.value)
            return piece.value if not re.search("[{]{2}|[{]%", text) else None
        if isinstance(piece.value, int | float) and not isinstance(piece.value, bool):
            return piece.value
        return expressions.text(piece.value, requester.parameters)

    def _selector(self, selector: Component, target: str) -> str:
        extractor = selector.part("extractor")
        if extractor.type != "DpathExtractor":
            raise _UnmappedStreamError(
                f"records by a {extractor.type or 'missing extractor'} have no counterpart"
            )
        selector.mapped(target)
        extractor.mapped(target)
        piece = extractor.get("field_path")
        steps = [str(each) for each in piece.value] if isinstance(piece.value, list) else []
        if any("{{" in step for step in steps):
            raise _UnmappedStreamError("its records have a path with an expression")
        piece.mapped(target)
        made = ""
        for step in steps:
            made += "[*]" if step == "*" else f"{'.' if made else ''}{field_path((step,))}"
        return made or "$"

    def _report_decoder(self, retriever: Component) -> None:
        decoder = retriever.part("decoder")
        if decoder.exists and decoder.type != "JsonDecoder":
            raise _UnmappedStreamError(
                f"a {decoder.type} has no counterpart here: write `response`"
            )
        decoder.mapped("JSON is the usual format")

    # ---- steps

    def _steps(
        self, component: Component, selector: Component, expressions: Expressions, resource: str
    ) -> list[FilterStep | MapStep | DropStep]:
        target = f"{resource}.processing_steps"
        steps: list[FilterStep | MapStep | DropStep] = []
        record_filter = selector.part("record_filter")
        if record_filter.exists:
            program = _condition_program(record_filter.get("condition").text)
            if program is None:
                record_filter.not_mapped("this filter has no counterpart: all rows are loaded")
            else:
                record_filter.mapped(target)
                record_filter.get("condition").mapped(target)
                steps.append(FilterStep.of({"filter": program}))
        for each in component.parts("transformations"):
            made = _transformation(each, expressions)
            if made is None:
                each.not_mapped("this transformation has no counterpart")
                continue
            each.mapped(target)
            for name in ("fields", "field_pointers", "old", "new", "field_path"):
                each.get(name).mapped(target)
            steps.extend(made)
        return steps


def _is_same(first: Component, second: Component) -> bool:
    """True for two components of one place in the manifest."""
    return first.pieces[0].path == second.pieces[0].path


@dataclass
class _Router:
    """The slices of a stream: the rows of its parent, or the values of a list."""

    reader: _ManifestReader
    sent: SentParts
    names: dict[str, str] = field(default_factory=dict)
    for_each: dict[str, tuple[str | int, ...]] = field(default_factory=dict)

    def read(self, retriever: Component) -> None:
        """Read the partition routers of a stream."""
        given = retriever.get("partition_router")
        several = isinstance(given.value, list)
        routers = (
            list(retriever.parts("partition_router"))
            if several
            else [retriever.part("partition_router")]
        )
        parents = 0
        for router in routers:
            if not router.exists:
                continue
            router.mapped(self.sent.target)
            if router.type == "ListPartitionRouter":
                self._list(router)
            elif router.type == "SubstreamPartitionRouter":
                parents += 1
                self._substream(router)
            else:
                raise _UnmappedStreamError(f"a {router.type} has no counterpart")
        if parents > 1:
            raise _UnmappedStreamError("a resource has one parent, and this stream has several")

    def _list(self, router: Component) -> None:
        name_piece, values = router.get("cursor_field"), router.get("values")
        name = resource_name(str(name_piece.value))
        name_piece.mapped(f"{self.sent.target}.for_each")
        if isinstance(values.value, list):
            values.mapped(f"{self.sent.target}.for_each")
            self.for_each[name] = tuple(
                each for each in values.value if isinstance(each, str | int) and each != ""
            )
        else:
            text = self.reader.expressions.text(values.value, router.parameters)
            if not text:
                raise _UnmappedStreamError(
                    "its list of values is an expression without a counterpart"
                )
            values.guessed(
                f"{self.sent.target}.for_each", "one value, in a variable; add others to the list"
            )
            self.for_each[name] = (text,)
        self._put(router, str(name_piece.value), f"{{each.{name}}}")

    def _substream(self, router: Component) -> None:
        configs = list(router.parts("parent_stream_configs"))
        if len(configs) != 1:
            raise _UnmappedStreamError("a resource has one parent, and this stream has several")
        config = configs[0]
        parent = self.reader.add(config.part("stream"), is_selected=False)
        key, slot = config.get("parent_key"), config.get("partition_field")
        if not isinstance(key.value, str) or "{{" in key.value:
            raise _UnmappedStreamError("the key of its parent is an expression")
        for each in (key, slot):
            each.mapped(f"{self.sent.target}.path")
        config.mapped(self.sent.target)
        config.get("incremental_dependency").mapped(
            "a dependent is asked for with its parent's cursor"
        )
        config.get("extra_fields").not_mapped(
            "further fields of a parent: write `include_from_parent`"
        )
        self._put(config, str(slot.value), f"{{resources.{parent.name}.{key.value}}}")

    def _put(self, component: Component, name: str, placeholder: str) -> None:
        self.names[name] = placeholder
        option = component.part("request_option")
        if option.exists:
            self.sent.put(option, placeholder)


def _key_of(piece: Piece, resource: str) -> str | tuple[str, ...] | None:
    """Return the primary key: a field, several, or none. A field in an object has `__` in its column."""
    value = piece.value
    names = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    made = ["__".join(map(str, each)) if isinstance(each, list) else str(each) for each in names]
    made = [each for each in made if each and "{{" not in each]
    if made:
        piece.mapped(f"{resource}.primary_key")
    return made[0] if len(made) == 1 else tuple(made) or None


def _condition_program(text: str | None) -> str | None:
    found = re.fullmatch(r"\s*\{\{(.*)\}\}\s*", text or "", re.DOTALL)
    node = as_python(found[1]) if found else None
    return condition_of(node) if node is not None else None


_Steps = list[FilterStep | MapStep | DropStep]


def _transformation(each: Component, expressions: Expressions) -> _Steps | None:
    """Return the steps of a transformation; None if it has no counterpart."""
    if str(each.get("condition").value or "").strip():
        return None
    maker = _TRANSFORMATIONS.get(each.type)
    return maker(each, expressions) if maker else None


def _add_fields(each: Component, expressions: Expressions) -> _Steps | None:
    made = [_added_field(piece, each, expressions) for piece in each.parts("fields")]
    programs = [program for program in made if program is not None]
    return (
        [MapStep.of({"map": " | ".join(programs)})]
        if programs and len(programs) == len(made)
        else None
    )


def _remove_fields(each: Component, _: Expressions) -> _Steps | None:
    pointers = each.get("field_pointers").value
    if not isinstance(pointers, list) or not pointers or not all(map(_is_plain, pointers)):
        return None
    return [DropStep.of({"drop": [".".join(pointer) for pointer in pointers]})]


def _keys_to_lower(_each: Component, _: Expressions) -> _Steps:
    return [MapStep.of({"map": "with_entries(.key |= ascii_downcase)"})]


def _keys_to_snake_case(_each: Component, _: Expressions) -> _Steps:
    return []  # columns are in snake case anyway


def _keys_replace(each: Component, _: Expressions) -> _Steps | None:
    old, new = each.get("old").text, each.get("new").value
    if not old or "{{" in f"{old}{new}":
        return None
    words = json.dumps(old), json.dumps(str(new))
    return [MapStep.of({"map": f"with_entries(.key |= (split({words[0]}) | join({words[1]})))"})]


_TRANSFORMATIONS: dict[str, Callable[[Component, Expressions], _Steps | None]] = {
    "AddFields": _add_fields,
    "RemoveFields": _remove_fields,
    "KeysToLower": _keys_to_lower,
    "KeysToSnakeCase": _keys_to_snake_case,
    "KeysReplace": _keys_replace,
}


def _is_plain(pointer: Any) -> bool:
    is_list = isinstance(pointer, list) and bool(pointer)
    return is_list and all(isinstance(s, str) and s and not re.search(r"[.*{]", s) for s in pointer)


def _added_field(added: Component, holder: Component, expressions: Expressions) -> str | None:
    """Return the jq program that adds a field."""
    path = added.get("path").value
    if not _is_plain(path):
        return None
    place = "." + "".join(f"[{json.dumps(step)}]" for step in path)
    value = added.get("value").value
    found = (
        re.fullmatch(r"\s*\{\{(.*?)\}\}\s*", value, re.DOTALL) if isinstance(value, str) else None
    )
    if found:
        node = as_python(found[1])
        program = jq_of(node) if node is not None else None
        if program is None:
            text = expressions.text(value, holder.parameters)
            # a variable is filled in; a field of a parent or a cursor is none of a record
            program = json.dumps(text) if text and "{" not in text.replace("${", "") else None
        return f"{place} = ({program})" if program else None
    if isinstance(value, str) and "{" in value:
        return None
    return f"{place} = {json.dumps(value)}"
