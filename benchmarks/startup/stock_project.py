"""A stock `@dlt_assets` project that loads ten rows. The variable `API` has the API's URL."""

import os

import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, dlt_assets
from dlt.sources.rest_api import rest_api_source

source = rest_api_source(
    {
        "client": {"base_url": os.environ["API"]},
        "resources": [
            {
                "name": "things",
                "primary_key": "id",
                "write_disposition": "merge",
                "endpoint": {
                    "path": "things",
                    "data_selector": "data",
                    "paginator": "single_page",
                },
            }
        ],
    },
    name="shop",
)
pipeline = dlt.pipeline(
    "shop", destination=dlt.destinations.duckdb("warehouse.duckdb"), dataset_name="shop"
)


@dlt_assets(dlt_source=source, dlt_pipeline=pipeline, name="shop")
def shop(context: dg.AssetExecutionContext, dlt: DagsterDltResource):  # type: ignore[no-untyped-def]
    """The assets of the stock project."""
    yield from dlt.run(context=context)


job = dg.define_asset_job("shop_job", selection=dg.AssetSelection.assets(shop))
defs = dg.Definitions(assets=[shop], jobs=[job], resources={"dlt": DagsterDltResource()})
