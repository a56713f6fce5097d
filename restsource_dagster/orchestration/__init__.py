"""Connectors as Dagster definitions. The only room, beside the terminal's, that imports Dagster."""
