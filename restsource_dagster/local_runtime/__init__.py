"""Plug-ins for Dagster on one machine, which only dagster.yaml names: run launcher, SQLite storage, queue."""
