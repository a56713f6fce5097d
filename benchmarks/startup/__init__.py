"""Start-up: a small run, a thousand connectors and schedules. Each script prints one JSON object."""
