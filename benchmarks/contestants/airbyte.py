"""airbyte-cdk with a declarative manifest. Extract only: it counts the records and drops them."""

import logging
from typing import Any

from airbyte_cdk.models import (
    AirbyteStream,
    ConfiguredAirbyteCatalog,
    ConfiguredAirbyteStream,
    DestinationSyncMode,
    SyncMode,
    Type,
)
from airbyte_cdk.sources.declarative.concurrent_declarative_source import (
    ConcurrentDeclarativeSource,
)

from benchmarks.contestants.clock import Clock, read_orders

_PAGE_OPTION = {
    "type": "RequestOption",
    "inject_into": "request_parameter",
    "field_name": "page",
}
_SPEC = {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}}
_SCHEMA = {"type": "object", "additionalProperties": True, "properties": {}}


def _retriever(base_url: str, page_size: int) -> dict[str, Any]:
    requester = {"type": "HttpRequester", "url_base": base_url, "path": "orders/page"}
    strategy = {
        "type": "PageIncrement",
        "start_from_page": 1,
        "page_size": page_size,
        "inject_on_first_request": True,
    }
    extractor = {"type": "DpathExtractor", "field_path": ["data"]}
    return {
        "type": "SimpleRetriever",
        "requester": requester | {"http_method": "GET"},
        "record_selector": {"type": "RecordSelector", "extractor": extractor},
        "paginator": {
            "type": "DefaultPaginator",
            "page_token_option": _PAGE_OPTION,
            "pagination_strategy": strategy,
        },
    }


def _manifest(base_url: str, page_size: int) -> dict[str, Any]:
    stream = {
        "type": "DeclarativeStream",
        "name": "orders",
        "primary_key": ["id"],
        "schema_loader": {"type": "InlineSchemaLoader", "schema": _SCHEMA},
        "retriever": _retriever(base_url, page_size),
    }
    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["orders"]},
        "streams": [stream],
        "spec": _SPEC,
    }


def _catalog() -> ConfiguredAirbyteCatalog:
    stream = AirbyteStream(
        name="orders", json_schema={}, supported_sync_modes=[SyncMode.full_refresh]
    )
    configured = ConfiguredAirbyteStream(
        stream=stream,
        sync_mode=SyncMode.full_refresh,
        destination_sync_mode=DestinationSyncMode.append,
    )
    return ConfiguredAirbyteCatalog(streams=[configured])


def main() -> None:
    """Read the stream and count its records."""
    orders = read_orders()
    clock = Clock()
    catalog = _catalog()
    manifest = _manifest(orders["base_url"], orders["page_size"])
    source = ConcurrentDeclarativeSource(
        catalog=catalog, config={}, state=[], source_config=manifest
    )
    messages = source.read(logging.getLogger("airbyte"), {}, catalog, [])
    records = sum(1 for message in messages if message.type == Type.RECORD)
    clock.stop(orders, records=float(records))


if __name__ == "__main__":
    main()
