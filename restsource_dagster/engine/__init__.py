"""Runs connectors with dlt. Imports nothing of Dagster."""
