"""The destination: opening it, loading into it, replacing rows in it, recovering after a crash."""
