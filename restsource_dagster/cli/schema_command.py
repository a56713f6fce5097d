"""`restsource schema`: the JSON Schema of connector files."""

import json
import sys

from restsource_dagster.cli.common import ConfigsOption, JsonOption

__all__ = ["schema"]


def schema(configs: ConfigsOption = None, as_json: JsonOption = False) -> None:
    """Print the JSON Schema of connector files.

    An editor that knows it completes and explains the fields. Files name it in "$schema". It is
    the same for every folder and always JSON: the options are there because all commands have them.

    Example: restsource schema > schema/connector.schema.json
    """
    del configs, as_json
    from restsource_dagster.connector.json_schema import connector_schema

    sys.stdout.write(json.dumps(connector_schema(), indent=2) + "\n")
