"""Start-up: one small run, a thousand connectors, a thousand schedules. Each script prints one JSON object."""
