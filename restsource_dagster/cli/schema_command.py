"""`restsource schema`: the JSON Schema of connector files."""

import json
import sys

from restsource_dagster.cli.options import ConfigsOption, JsonOption

__all__ = ["schema"]


def schema(configs: ConfigsOption = None, as_json: JsonOption = False) -> None:
    """Print the JSON Schema of connector files.

    With it, an editor completes and explains the fields of a file that names it in "$schema". The
    options are those that all commands have; the output is always the same.

    Example: restsource schema > schema/connector.schema.json
    """
    del configs, as_json
    from restsource_dagster.connector.json_schema import connector_schema

    sys.stdout.write(json.dumps(connector_schema(), indent=2) + "\n")
