"""Connectors as Dagster definitions: assets, jobs, schedules and sensors."""
