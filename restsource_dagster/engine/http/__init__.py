"""The one way to an API: origins, deadlines, waits, request budgets and the session they meet in."""
