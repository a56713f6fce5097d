"""Connector files: find, parse, validate. Nothing here knows of dlt's runtime or of Dagster."""
