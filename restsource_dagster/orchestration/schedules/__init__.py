"""Schedules: when a connector is due, and the Dagster schedule that starts its runs."""
