"""Reading JSON and YAML into values whose places in the file are known."""
