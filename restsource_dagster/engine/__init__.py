"""Connectors run with dlt. Nothing here knows of Dagster."""
