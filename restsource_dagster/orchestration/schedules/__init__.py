"""When a connector is due, and the Dagster schedule that starts it."""
