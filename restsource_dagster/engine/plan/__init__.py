"""What each resource asks the API for."""
