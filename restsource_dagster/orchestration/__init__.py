"""Connectors as Dagster definitions. Only this package, `cli` and `local_runtime` import Dagster."""
