"""`restsource schema`: the JSON Schema of connector files."""

import json
import sys

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON Schema of connector files.

    An editor that knows it completes and explains the fields. Files name it in "$schema".

    Example: restsource schema > schema/connector.schema.json
    """
    from restsource_dagster.config.json_schema import connector_schema

    sys.stdout.write(json.dumps(connector_schema(), indent=2) + "\n")
