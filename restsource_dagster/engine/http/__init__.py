"""The one way to an API: origins, deadlines, retries, rate limits and the session that keeps to them."""
