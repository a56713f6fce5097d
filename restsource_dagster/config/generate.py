"""Writes what is made from the models: `python -m restsource_dagster.config.generate`."""

import json
from pathlib import Path

from restsource_dagster.config.json_schema import connector_schema
from restsource_dagster.config.reference import reference_markdown

__all__ = ["GENERATED", "main"]


def _schema_text() -> str:
    return json.dumps(connector_schema(), indent=2) + "\n"


GENERATED = {
    Path("schema/connector.schema.json"): _schema_text,
    Path("docs/reference.md"): reference_markdown,
}
"""Each generated file, from the root of the repository, and what makes its text."""


def main() -> None:
    """Rewrites the generated files of the repository that this package stands in."""
    root = Path(__file__).parents[2]
    for path, text in GENERATED.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
