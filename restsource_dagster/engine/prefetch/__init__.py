"""Pages requested before they are needed."""
