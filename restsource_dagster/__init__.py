"""Ingest any REST API from one JSON file: a Dagster code location."""
