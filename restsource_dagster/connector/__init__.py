"""Connector files: find, parse, validate. Imports neither dlt's runtime nor Dagster."""
